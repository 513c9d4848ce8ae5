"""A system is tried by the bootloader: installed while parked, called good once it works, and kept only then.

The computer is the one in memory; tests/end_to_end goes the same way with Debian's RAUC.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from agent.updates.booted import AGAIN_AFTER_NS, INSTALLED_WITHIN_NS
from ecu.clock import SECOND_NS
from ecu.disk import RealDisk, state_folder
from ota.denied import Denied
from ota.floors import Floors
from ota.kinds import Kind
from ota.machine import ATTEMPTS, DEADLINES_NS, State, Way
from ota.manifest import BundleManifest
from ota.slots import BootRecord, Installed, Slot, Slots
from ota.system.memory import STARTS, MemorySystem, memory_bundle
from ota.system.port import InstallerAway, InstallFailed, Marking
from tests.agent.computers import NEW, OLD, Computer, a_drive
from tests.agent.test_started import Car
from tests.ota.fleet import Fleet


@pytest.fixture
def computer(tmp_path: Path) -> Computer:
    return Computer(tmp_path / "car", MemorySystem())


def release(fleet: Fleet, number: int, bundle: bytes | None = None) -> BundleManifest:
    content = memory_bundle(f"system {number}".encode()) if bundle is None else bundle
    manifest = fleet.release(f"{number}.0", number, kind=Kind.SYSTEM, files={"system.raucb": content})
    fleet.assign(manifest)
    return manifest


async def arm(fleet: Fleet, computer: Computer, number: int = 1) -> None:
    release(fleet, number)
    async with a_drive(fleet, computer) as car:
        await car.until("armed")
        await car.tick(3)
    assert computer.reboots


async def keep(fleet: Fleet, computer: Computer, number: int = 1) -> None:
    await arm(fleet, computer, number)
    async with a_drive(fleet, computer) as car:
        await car.until("committed")


async def writing(computer: Computer, car: Car) -> None:
    """Until the spare slot is being written."""
    while not computer.system.writing.is_set():
        await car.tick(1)


def denied(computer: Computer) -> int:
    return len(Denied(RealDisk(computer.folder)))


async def test_a_system_is_installed_parked_tried_by_the_bootloader_and_kept_when_it_works(
    fleet: Fleet, computer: Computer
) -> None:
    await arm(fleet, computer)
    assert computer.system.told == [(Marking.GOOD, OLD), (Marking.ACTIVE, NEW)]
    async with a_drive(fleet, computer) as car:
        assert computer.system.booted == NEW
        await car.until("trial")
        await car.tick(20)
        assert (Marking.GOOD, NEW) not in computer.system.told
        await car.until("committed")
    assert computer.system.told[-1] == (Marking.GOOD, NEW)
    assert Floors(RealDisk(computer.folder)).release(Kind.SYSTEM) == 1


async def test_what_was_kept_is_started_on_and_on_and_the_next_goes_into_the_other_slot(
    fleet: Fleet, computer: Computer
) -> None:
    await keep(fleet, computer)
    for _ in range(STARTS + 2):
        async with a_drive(fleet, computer) as car:
            await car.tick(2)
            assert (computer.system.booted, car.told()) == (NEW, [])
    await keep(fleet, computer, 2)
    assert computer.system.booted == OLD
    async with a_drive(fleet, computer) as car:
        await car.tick(2)
        assert (computer.system.booted, car.told()) == (OLD, [])


async def test_nothing_is_installed_nor_restarted_while_the_vehicle_is_not_at_rest(
    fleet: Fleet, computer: Computer
) -> None:
    release(fleet, 1)
    computer.parking.standing_s = None
    async with a_drive(fleet, computer) as car:
        await car.until("staged")
        await car.tick(100)
        assert car.told() == ["staged"]
        computer.parking.standing_s = 121.0
        computer.hold()
        await writing(computer, car)
        computer.parking.standing_s = None
        computer.go_on()
        await car.until("armed")
        await car.tick(100)
        assert (computer.reboots, computer.system.primary) == (0, OLD)
        computer.parking.standing_s = 121.0
        await car.tick(3)
        assert (computer.reboots, computer.system.primary) == (1, NEW)


@pytest.mark.parametrize(
    ("bundle", "words"),
    [
        (memory_bundle(b"system", chain="foreign"), "wrong-signer"),
        (memory_bundle(b"system", compatible="lorry"), "wrong-hardware"),
        (memory_bundle(b"system") + b"!", "tampered"),
        (b"no bundle", "malformed"),
    ],
    ids=["foreign", "another computer", "tampered", "no bundle"],
)
async def test_what_the_installers_own_chain_refuses_is_denied_with_nothing_changed(
    fleet: Fleet, computer: Computer, bundle: bytes, words: str
) -> None:
    release(fleet, 1, bundle)
    before = await computer.system.read()
    async with a_drive(fleet, computer) as car:
        told = await car.until("rolled_back")
        refused = await car.until("refused")
    assert refused.attack == words
    assert words in told.words
    assert denied(computer) == 1
    assert await computer.system.read() == before
    assert not computer.reboots


async def test_a_system_that_is_not_one_bundle_is_refused(fleet: Fleet, computer: Computer) -> None:
    manifest = fleet.release("1.0", 1, kind=Kind.SYSTEM, files={"a.raucb": memory_bundle(b""), "b.sh": b"rm"})
    fleet.assign(manifest)
    async with a_drive(fleet, computer) as car:
        assert "malformed" in (await car.until("rolled_back")).words


async def test_an_installation_that_fails_is_tried_again_later_and_then_left(fleet: Fleet, computer: Computer) -> None:
    release(fleet, 1)
    computer.system.failures["install"] = [InstallFailed("no space")] * ATTEMPTS
    async with a_drive(fleet, computer) as car:
        await car.until("inconclusive")
        assert not computer.system.failures["install"]
        assert car.clock.boot_ns() >= (ATTEMPTS - 1) * AGAIN_AFTER_NS
    assert denied(computer) == 0
    assert (computer.system.primary, computer.reboots) == (OLD, 0)


async def test_a_cut_within_an_installation_begins_it_again(fleet: Fleet, computer: Computer) -> None:
    release(fleet, 1)
    computer.hold()
    async with a_drive(fleet, computer) as car:
        await writing(computer, car)
    computer.system.hold = None
    async with a_drive(fleet, computer) as car:
        assert computer.system.booted == OLD
        await car.until("armed")
    assert denied(computer) == 0


@pytest.mark.soak
async def test_installations_that_are_cut_again_and_again_are_left(fleet: Fleet, computer: Computer) -> None:
    release(fleet, 1)
    for _ in range(ATTEMPTS):
        computer.hold()
        async with a_drive(fleet, computer) as car:
            await writing(computer, car)
    async with a_drive(fleet, computer) as car:
        await car.until("inconclusive")
    assert denied(computer) == 0


async def test_a_system_that_never_comes_to_itself_is_denied_by_the_one_before(
    fleet: Fleet, computer: Computer
) -> None:
    await arm(fleet, computer)
    assert [computer.power_on() for _ in range(STARTS)] == [NEW] * STARTS
    async with a_drive(fleet, computer) as car:
        await car.until("rolled_back")
        await car.tick(5)
        assert computer.system.booted == OLD
    assert (denied(computer), computer.system.primary) == (1, OLD)


@pytest.mark.soak
async def test_a_system_that_came_to_itself_and_was_cut_each_time_is_left_and_not_denied(
    fleet: Fleet, computer: Computer
) -> None:
    await arm(fleet, computer)
    for _ in range(STARTS):
        async with a_drive(fleet, computer) as car:
            assert computer.system.booted == NEW
            await car.tick(3)
    async with a_drive(fleet, computer) as car:
        await car.until("inconclusive")
        assert computer.system.booted == OLD
    assert denied(computer) == 0


async def test_a_system_that_never_finds_its_updates_goes_back_and_only_while_there_is_a_network(
    fleet: Fleet, computer: Computer
) -> None:
    await arm(fleet, computer)
    computer.parking.well, computer.parking.network = "", False
    async with a_drive(fleet, computer) as car:
        await car.until("trial")
    slots = Slots(RealDisk(computer.folder), Kind.SYSTEM)
    nearly_ns = DEADLINES_NS[Way.BOOTED][State.TRIAL] - 20 * SECOND_NS
    slots.write(msgspec.structs.replace(slots.record, spent_ns=nearly_ns))
    computer.reboots = 0
    async with a_drive(fleet, computer) as car:
        await car.tick(60)
        assert car.told() == []
        computer.parking.network = True
        computer.parking.standing_s = None
        await car.until("inconclusive")
        await car.tick(30)
        assert computer.reboots == 0, "it is driving"
        computer.parking.standing_s = 300.0
        await car.tick(3)
        assert computer.reboots == 1
    assert computer.system.told[-2:] == [(Marking.ACTIVE, OLD), (Marking.BAD, NEW)]
    assert computer.power_on() == OLD


async def test_a_system_of_which_a_service_failed_goes_back_and_is_denied(fleet: Fleet, computer: Computer) -> None:
    await arm(fleet, computer)
    computer.services = {"radio.service": "failed", "can.service": "active"}
    async with a_drive(fleet, computer) as car:
        told = await car.until("rolled_back")
        assert "radio.service failed" in told.words
        assert computer.system.told[-2:] == [(Marking.ACTIVE, OLD), (Marking.BAD, NEW)]
        await car.tick(3)
    assert denied(computer) == 1
    async with a_drive(fleet, computer):
        assert computer.system.booted == OLD


async def test_a_system_is_kept_no_sooner_than_its_services_run(fleet: Fleet, computer: Computer) -> None:
    await arm(fleet, computer)
    computer.services = {"radio.service": "activating"}
    async with a_drive(fleet, computer) as car:
        await car.tick(60)
        assert car.told() == ["trial"]
        assert (Marking.GOOD, NEW) not in computer.system.told
        computer.services = {"radio.service": "active"}
        await car.until("committed")


async def test_a_bootloader_that_cannot_be_told_to_go_back_is_told_at_the_next_start(
    fleet: Fleet, computer: Computer
) -> None:
    await arm(fleet, computer)
    computer.parking.well = ""
    async with a_drive(fleet, computer) as car:
        await car.until("trial")
    slots = Slots(RealDisk(computer.folder), Kind.SYSTEM)
    slots.write(msgspec.structs.replace(slots.record, spent_ns=DEADLINES_NS[Way.BOOTED][State.TRIAL] - SECOND_NS))
    async with a_drive(fleet, computer) as car:
        await car.tick(1)
        computer.system.failures["mark"].append(InstallFailed("the bootloader's environment can't be written"))
        await car.until("inconclusive")
    assert computer.system.primary == NEW
    async with a_drive(fleet, computer) as car:
        assert computer.system.booted == NEW
        await car.until("unasked")
        assert computer.system.told[-2:] == [(Marking.ACTIVE, OLD), (Marking.BAD, NEW)]
        await car.tick(2)
    async with a_drive(fleet, computer):
        assert computer.system.booted == OLD


async def test_what_its_fleet_takes_back_is_not_started(fleet: Fleet, computer: Computer) -> None:
    computer.parking.standing_s = None
    release(fleet, 1)
    async with a_drive(fleet, computer) as car:
        await car.until("staged")
        fleet.assign()
        car.side.hint()
        await car.until("inconclusive")
    assert computer.system.told == [(Marking.GOOD, OLD)]


async def test_what_its_fleet_takes_back_while_it_is_written_is_written_and_then_has_no_start(
    fleet: Fleet, computer: Computer
) -> None:
    release(fleet, 1)
    computer.hold()
    async with a_drive(fleet, computer) as car:
        await writing(computer, car)
        computer.parking.standing_s = None
        fleet.assign()
        car.side.hint()
        await car.tick(20)
        assert car.told() == ["staged"]
        computer.go_on()
        await car.until("armed")
        car.side.hint()
        await car.until("inconclusive")
    assert [computer.power_on() for _ in range(2)] == [OLD, OLD]


async def test_an_installation_that_never_ends_is_left_in_the_end(fleet: Fleet, computer: Computer) -> None:
    release(fleet, 1)
    computer.hold()
    async with a_drive(fleet, computer) as car:
        for _ in range(ATTEMPTS):
            await writing(computer, car)
            computer.system.writing.clear()
            car.clock.advance(car.clock.boot_ns() + INSTALLED_WITHIN_NS)
            await car.tick(3)
        await car.until("inconclusive")
    assert (denied(computer), computer.power_on()) == (0, OLD)


async def test_what_its_fleet_takes_back_once_it_is_armed_has_no_start(fleet: Fleet, computer: Computer) -> None:
    await arm(fleet, computer)
    async with a_drive(fleet, computer, restarts=False) as car:
        fleet.assign()
        car.side.hint()
        await car.until("inconclusive")
    assert [computer.power_on() for _ in range(2)] == [OLD, OLD]


async def test_an_agent_that_begins_again_before_the_computer_does_goes_on_waiting(
    fleet: Fleet, computer: Computer
) -> None:
    await arm(fleet, computer)
    async with a_drive(fleet, computer, restarts=False) as car:
        await car.tick(5)
        assert car.told() == []
    async with a_drive(fleet, computer) as car:
        await car.until("committed")


async def test_without_a_command_it_waits_for_the_next_ignition_however_long(fleet: Fleet, computer: Computer) -> None:
    release(fleet, 1)
    computer.can_reboot = False
    async with a_drive(fleet, computer) as car:
        await car.until("armed")
        slots = Slots(RealDisk(computer.folder), Kind.SYSTEM)
        await car.tick(60)
        assert slots.record.spent_ns == 0
    async with a_drive(fleet, computer) as car:
        await car.until("committed")


async def test_what_somebody_installed_by_hand_is_told_and_never_kept_and_goes_on_running(
    fleet: Fleet, computer: Computer
) -> None:
    await keep(fleet, computer)
    computer.system.overwrite(OLD, b"by hand")
    await computer.system.mark(Marking.ACTIVE, OLD)
    for _ in range(STARTS + 2):
        told = len(computer.system.told)
        async with a_drive(fleet, computer) as car:
            assert computer.system.booted == OLD
            await car.until("foreign")
            assert computer.system.told[told:] == []
            await car.tick(40)
            assert computer.system.told[told:] == [(Marking.GOOD, OLD)], "once it has shown that it works"
    record = Slots(RealDisk(computer.folder), Kind.SYSTEM).record
    assert record.installed(record.good) is not None


async def test_a_system_whose_record_is_lost_runs_on_and_is_not_sent_back(fleet: Fleet, computer: Computer) -> None:
    await keep(fleet, computer)
    fleet.assign()
    for twin in (0, 1):
        (computer.folder / f"system/boot.{twin}").write_bytes(b"worn out")
    for _ in range(STARTS + 1):
        async with a_drive(fleet, computer) as car:
            assert computer.system.booted == NEW
            await car.until("foreign")
            await car.tick(40)
    assert computer.system.told[-1] == (Marking.GOOD, NEW)


@pytest.mark.soak
async def test_a_system_of_which_the_notes_are_lost_runs_on_and_the_next_one_is_taken(
    fleet: Fleet, computer: Computer
) -> None:
    await keep(fleet, computer)
    for twin in (0, 1):
        (computer.folder / f"system/placed.{twin}").write_bytes(b"worn out")
    await keep(fleet, computer, 2)
    assert computer.system.booted == OLD
    await computer.system.mark(Marking.BAD, OLD)
    async with a_drive(fleet, computer) as car:
        assert computer.system.booted == NEW
        await car.until("foreign")


async def test_what_is_written_over_between_its_installation_and_its_start_is_not_started(
    fleet: Fleet, computer: Computer
) -> None:
    release(fleet, 1)
    async with a_drive(fleet, computer) as car:
        computer.hold()
        await writing(computer, car)
        computer.parking.standing_s = None
        computer.go_on()
        await car.until("armed")
        computer.system.overwrite(NEW, b"by hand")
        computer.parking.standing_s = 300.0
        await car.until("inconclusive")
    assert (computer.system.primary, computer.reboots, denied(computer)) == (OLD, 0, 0)


async def test_a_kept_system_that_the_bootloader_gives_up_comes_again(fleet: Fleet, computer: Computer) -> None:
    await keep(fleet, computer)
    await computer.system.mark(Marking.BAD, NEW)
    async with a_drive(fleet, computer) as car:
        assert computer.system.booted == OLD
        await car.until("damaged")
        car.side.hint()
        await car.until("armed")
        await car.tick(3)
    async with a_drive(fleet, computer) as car:
        await car.until("committed")
        assert computer.system.booted == NEW


async def test_an_installer_that_is_away_is_asked_again(fleet: Fleet, computer: Computer) -> None:
    release(fleet, 1)
    computer.system.failures["read"] = [InstallerAway("no bus")] * 3
    async with a_drive(fleet, computer) as car:
        await car.until("staged")
        await car.tick(5)
        assert not computer.system.writing.is_set()
        await car.until("armed")


async def test_an_installer_that_tells_the_bootloader_by_itself_is_told_otherwise_until_it_is_armed(
    fleet: Fleet, tmp_path: Path
) -> None:
    computer = Computer(tmp_path / "car", MemorySystem(activates=True))
    release(fleet, 1)
    async with a_drive(fleet, computer) as car:
        computer.hold()
        await writing(computer, car)
        computer.parking.standing_s = None
        computer.go_on()
        await car.until("armed")
        assert computer.system.primary == OLD
        assert computer.system.told[-2:] == [(Marking.ACTIVE, OLD), (Marking.BAD, NEW)]


async def test_a_vehicle_whose_system_is_nobodys_to_replace_takes_none(fleet: Fleet, computer: Computer) -> None:
    release(fleet, 1)
    computer.has_installer = False
    async with a_drive(fleet, computer) as car:
        await car.tick(20)
        assert car.told() == []
    assert not list(computer.folder.glob("system/*/files/*"))


@pytest.mark.parametrize("state", [State.STAGED, State.ARMED, State.TRIAL])
async def test_a_trial_of_a_system_that_nobody_tries_any_more_keeps_no_other_release_away(
    fleet: Fleet, computer: Computer, state: State
) -> None:
    slots = {Slot.A: Installed("a" * 64, 1, "system")}
    Slots(state_folder(computer.folder), Kind.SYSTEM).write(BootRecord(trial=Slot.A, state=state, slots=slots))
    fleet.assign(fleet.release("1.0", 1, kind=Kind.PLAN), fleet.release("1.0", 1, kind=Kind.CROPS))
    (computer.folder / "crops").mkdir()
    (computer.folder / "crops/a").write_bytes(b"something else stands here")
    computer.has_installer = False
    async with a_drive(fleet, computer) as car:
        await car.until("committed")
        assert car.told() == ["inconclusive", "committed"]
        assert car.side.looks_held == 1, "what is wrong with one kind's slot is nothing against the look"
