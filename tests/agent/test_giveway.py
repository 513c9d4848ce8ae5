"""What waits until the vehicle is parked holds up nothing that is tried on the road: it gives way, and comes again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest

from agent.launched import Launched
from agent.learning.gates import PowerWanted
from agent.updates import Applied, Started, UpdateSide
from agent.uses import Use
from ecu.clock import SteppingClock
from ota.kinds import Kind
from ota.layout import file_path
from ota.machine import State
from ota.slots import Slot
from ota.trust import Vehicle
from ota.updates import Notice
from tests.agent.road import Nobody
from tests.agent.test_applied import RULES, Bus
from tests.agent.test_started import Car, Parking
from tests.ota.fleet import CAR, HARDWARE, Fleet


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path / "fleet")


@asynccontextmanager
async def a_drive(fleet: Fleet, folder: Path, bus: Bus, parking: Parking) -> AsyncIterator[Car]:
    clock, notices = SteppingClock(wall_ns=fleet.clock.wall_ns()), list[Notice]()
    starter = Launched(
        Slot.FACTORY, 120.0, PowerWanted.NOT_BATTERY, parking.world, lambda: "", lambda: True, parking.restart
    )
    side = UpdateSide(
        folder, fleet.roots, Vehicle(CAR, HARDWARE), fleet.source(), {}, Nobody(), RULES, clock, Random(1),
        notices.append, others=[Applied(Kind.CONFIG, bus), Started(starter)],
    )  # fmt: skip
    work = asyncio.create_task(side.run(None))
    try:
        yield Car(folder, clock, side, notices)
    finally:
        work.cancel()
        await asyncio.wait({work})


def moving() -> Parking:
    parking = Parking()
    parking.standing_s = None
    return parking


def told(car: Car) -> list[tuple[str, Kind | None]]:
    return [(notice.what, notice.kind) for notice in car.notices]


async def test_a_runtime_that_waits_for_rest_gives_way_to_what_is_tried_on_the_road_and_comes_again(
    fleet: Fleet, tmp_path: Path
) -> None:
    runtime = fleet.release("1.0", 1, b"runtime", Kind.RUNTIME)
    fleet.assign(runtime)
    bus = Bus()
    bus.use = Use.USED
    async with a_drive(fleet, tmp_path / "car", bus, moving()) as car:
        await car.until("staged")
        fleet.assign(runtime, fleet.release("1.0", 1, b"a hot fix", Kind.CONFIG), fleet.release("1.0", 1, b"unwanted"))
        car.side.hint()
        await car.until("committed")
        assert car.side.record(Kind.CONFIG).good is Slot.A
        await car.tick(60)
        assert told(car) == [
            ("staged", Kind.RUNTIME), ("inconclusive", Kind.RUNTIME), ("staged", Kind.CONFIG),
            ("switched", Kind.CONFIG), ("committed", Kind.CONFIG), ("staged", Kind.RUNTIME),
        ]  # fmt: skip
        assert "gives way to config/drive-1.0" in car.notices[1].words
        assert car.side.record(Kind.RUNTIME).left == {}, "it came to nothing by no fault of its own"


async def test_it_gives_way_once_to_what_can_never_be_taken(fleet: Fleet, tmp_path: Path) -> None:
    runtime = fleet.release("1.0", 1, b"runtime", Kind.RUNTIME)
    fleet.assign(runtime)
    async with a_drive(fleet, tmp_path / "car", Bus(), moving()) as car:
        await car.until("staged")
        config = fleet.release("1.0", 1, b"a hot fix", Kind.CONFIG)
        fleet.assign(runtime, config)
        (fleet.repo / f"image/{file_path(config.files[0].sha256)}").unlink()
        for _ in range(5):
            car.side.hint()
            await car.tick(30)
        assert [what for what, _ in told(car)] == ["staged", "inconclusive", "staged"]
        assert car.side.record(Kind.RUNTIME).state is State.STAGED


async def test_of_releases_that_come_together_those_that_wait_for_rest_come_last(fleet: Fleet, tmp_path: Path) -> None:
    releases = [fleet.release("1.0", 1, b"x", kind) for kind in (Kind.RUNTIME, Kind.PLAN, Kind.CONFIG)]
    fleet.assign(*releases)
    bus = Bus()
    bus.use = Use.USED
    async with a_drive(fleet, tmp_path / "car", bus, moving()) as car:
        await car.tick(60)
        staged = [kind for what, kind in told(car) if what == "staged"]
        assert staged == [Kind.CONFIG, Kind.RUNTIME]
