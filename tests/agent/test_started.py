"""A runtime is tried by being started: once the vehicle is parked, and kept once it works and finds its updates.

The launcher is played here: before a start it counts the attempt, as ota/launcher.py does (tests/ota/launcher).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import msgspec
import pytest

from agent.launched import Launched
from agent.launcherslot import slot_in
from agent.learning.gates import PowerWanted, World
from agent.updates import TICK_NS, Started, TrialRules, UpdateSide
from ecu.clock import SECOND_NS, SteppingClock
from ecu.conditions import Heat, Power
from ecu.disk import RealDisk
from ota.attempts import Boot
from ota.denied import Denied
from ota.floors import Floors
from ota.kinds import Kind
from ota.machine import ATTEMPTS, DEADLINES_NS, State, Way
from ota.manifest import BundleManifest
from ota.slots import Slot, Slots
from ota.trust import Vehicle
from ota.updates import Notice
from tests.agent.road import Nobody
from tests.ota.fleet import CAR, HARDWARE, Fleet

RULES = TrialRules(poll_ns=30 * 86_400 * SECOND_NS, shadow_frames=1, prove_frames=1, prove_ns=30 * SECOND_NS)
NEVER_NS = 30 * 86_400 * SECOND_NS


class Parking:
    """How things are around the vehicle, and what its runtime has shown."""

    def __init__(self) -> None:
        self.standing_s: float | None = 3600.0
        self.power = Power.EXTERNAL
        self.well = "all is well"
        self.network = True
        self.restarts = 0

    def world(self) -> World:
        standing_ns = None if self.standing_s is None else int(self.standing_s * SECOND_NS)
        return World(standing_ns, self.power, Heat.COOL, None)

    def restart(self) -> None:
        self.restarts += 1


class Car:
    def __init__(self, folder: Path, clock: SteppingClock, side: UpdateSide, notices: list[Notice]) -> None:
        self.folder = folder
        self.clock = clock
        self.side = side
        self.notices = notices

    def told(self) -> list[str]:
        return [notice.what for notice in self.notices]

    async def until(self, what: str) -> Notice:
        """Seconds go by until that is told."""
        async with asyncio.timeout(30):
            while what not in self.told():
                await self.tick(1)
        return next(notice for notice in self.notices if notice.what == what)

    async def tick(self, count: int) -> None:
        for _ in range(count):
            self.clock.advance(self.clock.boot_ns() + TICK_NS)
            for _ in range(4):
                await self.side.do(lambda: None)


@asynccontextmanager
async def a_start(fleet: Fleet, folder: Path, parking: Parking, running: Slot = Slot.FACTORY) -> AsyncIterator[Car]:
    clock, notices = SteppingClock(wall_ns=fleet.clock.wall_ns()), list[Notice]()
    starter = Launched(
        running, 120.0, PowerWanted.NOT_BATTERY, parking.world, lambda: parking.well, lambda: parking.network,
        parking.restart,
    )  # fmt: skip
    side = UpdateSide(
        folder, fleet.roots, Vehicle(CAR, HARDWARE), fleet.source(), {}, Nobody(), RULES, clock, Random(1),
        notices.append, others=[Started(starter)], running=running,
    )  # fmt: skip
    work = asyncio.create_task(side.run(None))
    try:
        yield Car(folder, clock, side, notices)
    finally:
        work.cancel()
        await asyncio.wait({work})


def launched(folder: Path, *ends: str) -> Slot:
    """What the launcher starts next, once attempts that ended so have been made."""
    slots = Slots(RealDisk(folder), Kind.RUNTIME)
    for ended in ends:
        record = slots.record
        if record.state not in (State.ARMED, State.TRIAL) or record.attempts >= ATTEMPTS:
            return record.good
        boots = [*record.boots, Boot("boot", ended)]
        slots.write(msgspec.structs.replace(record, state=State.TRIAL, attempts=record.attempts + 1, boots=boots))
    record = slots.record
    if record.state in (State.ARMED, State.TRIAL) and record.attempts < ATTEMPTS:
        boots = [*record.boots, Boot("boot")]
        slots.write(msgspec.structs.replace(record, state=State.TRIAL, attempts=record.attempts + 1, boots=boots))
        assert record.trial is not None
        return record.trial
    return record.good


def release(fleet: Fleet, number: int) -> BundleManifest:
    manifest = fleet.release(f"{number}.0", number, f"runtime {number}".encode(), Kind.RUNTIME)
    fleet.assign(manifest)
    return manifest


async def arm(fleet: Fleet, folder: Path) -> None:
    release(fleet, 1)
    parking = Parking()
    async with a_start(fleet, folder, parking) as car:
        await car.until("armed")
        assert parking.restarts == 1


async def test_a_runtime_is_armed_once_parked_tried_by_a_start_and_kept_when_it_works(
    fleet: Fleet, tmp_path: Path
) -> None:
    folder = tmp_path / "car"
    await arm(fleet, folder)
    async with a_start(fleet, folder, Parking(), launched(folder)) as car:
        await car.tick(20)
        assert "committed" not in car.told()
        await car.until("committed")
    assert launched(folder) is Slot.A
    assert Floors(RealDisk(folder)).release(Kind.RUNTIME) == 1


@pytest.mark.parametrize("hindrance", ["moving", "just stopped", "battery"])
async def test_nothing_is_armed_while_the_vehicle_is_not_at_rest(fleet: Fleet, tmp_path: Path, hindrance: str) -> None:
    release(fleet, 1)
    parking = Parking()
    match hindrance:
        case "moving":
            parking.standing_s = None
        case "just stopped":
            parking.standing_s = 10.0
        case _:
            parking.power = Power.BATTERY
    async with a_start(fleet, tmp_path / "car", parking) as car:
        await car.until("staged")
        await car.tick(200)
        assert car.told() == ["staged"]
        assert parking.restarts == 0
        parking.standing_s, parking.power = 121.0, Power.UNKNOWN
        await car.until("armed")


async def test_a_runtime_that_ended_by_itself_is_denied_by_the_one_that_runs_on(fleet: Fleet, tmp_path: Path) -> None:
    folder = tmp_path / "car"
    await arm(fleet, folder)
    assert launched(folder, "exit 1", "", "not ready") is Slot.FACTORY
    parking = Parking()
    async with a_start(fleet, folder, parking) as car:
        told = await car.until("rolled_back")
        assert "exit 1, not ready" in told.words
        assert parking.restarts == 0, "what is good runs already"
        assert told.release is not None
        assert told.release.digest in Denied(RealDisk(folder))
        await car.tick(10)
        assert car.told() == ["rolled_back"]


async def test_a_runtime_whose_starts_the_power_cut_is_left_and_not_denied(fleet: Fleet, tmp_path: Path) -> None:
    folder = tmp_path / "car"
    await arm(fleet, folder)
    assert launched(folder, "", "", "") is Slot.FACTORY
    async with a_start(fleet, folder, Parking()) as car:
        await car.until("inconclusive")
    assert len(Denied(RealDisk(folder))) == 0


async def test_a_runtime_that_never_finds_its_updates_gives_way_and_only_while_there_is_a_network(
    fleet: Fleet, tmp_path: Path
) -> None:
    folder = tmp_path / "car"
    await arm(fleet, folder)
    parking = Parking()
    parking.well, parking.network = "", False
    running = launched(folder)
    slots = Slots(RealDisk(folder), Kind.RUNTIME)
    nearly_ns = DEADLINES_NS[Way.STARTED][State.TRIAL] - 20 * SECOND_NS
    slots.write(msgspec.structs.replace(slots.record, spent_ns=nearly_ns))
    async with a_start(fleet, folder, parking, running) as car:
        await car.tick(100)
        assert car.told() == []
        parking.network = True
        await car.tick(25)
        assert car.told() == ["inconclusive"]
        assert parking.restarts == 1
    assert launched(folder) is Slot.FACTORY


async def test_a_runtime_that_is_well_now_and_then_has_not_shown_enough(fleet: Fleet, tmp_path: Path) -> None:
    folder = tmp_path / "car"
    await arm(fleet, folder)
    parking = Parking()
    async with a_start(fleet, folder, parking, launched(folder)) as car:
        for _ in range(3):
            await car.tick(20)
            parking.well = ""
            await car.tick(2)
            parking.well = "again"
        assert car.told() == []
        await car.until("committed")


async def test_what_the_launcher_could_not_start_is_not_told_to_be_installed_and_comes_again(
    fleet: Fleet, tmp_path: Path
) -> None:
    """A sector that could be read at the second try only: the agent finds nothing wrong with the slot."""
    folder = tmp_path / "car"
    await arm(fleet, folder)
    async with a_start(fleet, folder, Parking(), launched(folder)) as car:
        await car.until("committed")
    async with a_start(fleet, folder, Parking(), Slot.FACTORY) as car:
        notice = await car.until("damaged")
        assert "slot factory runs" in notice.words
        await car.until("armed")
    async with a_start(fleet, folder, Parking(), launched(folder)) as car:
        await car.until("committed")


async def test_a_computer_that_slept_has_shown_nothing_meanwhile(fleet: Fleet, tmp_path: Path) -> None:
    folder = tmp_path / "car"
    await arm(fleet, folder)
    async with a_start(fleet, folder, Parking(), launched(folder)) as car:
        for _ in range(5):
            await car.tick(4)
            car.clock.advance(car.clock.boot_ns() + 3600 * SECOND_NS)
        assert car.told() == []
        await car.until("committed")


async def test_what_is_armed_and_started_by_nobody_is_given_up_in_the_end(fleet: Fleet, tmp_path: Path) -> None:
    folder = tmp_path / "car"
    await arm(fleet, folder)
    for _ in range(ATTEMPTS - 1):
        async with a_start(fleet, folder, Parking()) as car:
            await car.until("staged")
            await car.until("armed")
    async with a_start(fleet, folder, Parking()) as car:
        await car.until("inconclusive")
        assert "armed" not in car.told()


async def test_what_its_fleet_takes_back_is_not_started(fleet: Fleet, tmp_path: Path) -> None:
    release(fleet, 1)
    parking = Parking()
    parking.standing_s = None
    async with a_start(fleet, tmp_path / "car", parking) as car:
        await car.until("staged")
        fleet.assign()
        car.side.hint()
        await car.until("inconclusive")


def test_what_runs_is_what_its_code_says_and_not_what_it_was_told(tmp_path: Path) -> None:
    slots = tmp_path / "updates/runtime"
    code = {
        Slot.A: slots / "a/files/agent/launcherslot.py",
        Slot.B: slots / "b/files/agent/launcherslot.py",
        Slot.FACTORY: tmp_path / "opt/outrider/lib/agent/launcherslot.py",
    }
    (tmp_path / "moved").symlink_to(tmp_path / "updates")
    for told in ("a", "b", "factory"):
        for slot, path in code.items():
            assert slot_in({"OUTRIDER_SLOT": told}, tmp_path / "updates", path) is slot
            assert slot_in({"OUTRIDER_SLOT": told}, tmp_path / "moved", path) is slot
    for environment in ({}, {"OUTRIDER_SLOT": ""}, {"OUTRIDER_SLOT": "c"}):
        assert slot_in(environment, tmp_path / "updates", code[Slot.A]) is None, "no launcher started it"


async def test_a_slot_is_not_kept_by_other_code_than_lies_in_it(fleet: Fleet, tmp_path: Path) -> None:
    folder = tmp_path / "car"
    await arm(fleet, folder)
    told = launched(folder)
    assert told is Slot.A
    running = slot_in({"OUTRIDER_SLOT": told}, folder)
    assert running is Slot.FACTORY, "these tests lie in no slot"
    async with a_start(fleet, folder, Parking(), running) as car:
        await car.until("inconclusive")
        await car.tick(100)
        assert car.told() == ["inconclusive"]
    assert launched(folder) is Slot.FACTORY
