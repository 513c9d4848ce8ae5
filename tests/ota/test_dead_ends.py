"""No vehicle is left that runs and can never be updated again: whatever can't be read, and whatever was begun."""

from __future__ import annotations

import pytest

from ecu.clock import SteppingClock
from ecu.crashdisk import CrashDisk
from ecu.disk import DiskFault
from ota.errors import TrustError
from ota.floors import Floors, FloorsLost
from ota.kinds import Kind
from ota.machine import Event, State
from ota.slots import BootRecord, Slot, Slots
from ota.system.placed import Notes, Placements
from ota.trust import Roots, Vehicle
from ota.updates import TAKEN, TRIED, Updates
from tests.ota.fleet import CAR, HARDWARE, Fleet

ROOTS = Roots(b"", b"")
TWINS = [f"{kind}/boot" for kind in (*TRIED, *TAKEN)] + ["floors.release", "floors.metadata", "version-counter"]


def opened(disk: CrashDisk) -> Updates:
    return Updates(disk, ROOTS, Vehicle("car-1", "x86_64"), SteppingClock(), lambda notice: None)


def written_once() -> CrashDisk:
    disk = CrashDisk()
    updates = opened(disk)
    for kind in (*TRIED, *TAKEN):
        updates.slots(kind).write(BootRecord())
    updates._floors.raise_release(Kind.MODEL, 1)
    return disk


@pytest.mark.parametrize("twin", TWINS)
def test_a_record_of_which_both_files_cannot_be_read_keeps_no_vehicle_from_running(twin: str) -> None:
    disk = written_once()
    unreadable = (f"{twin}.0", f"{twin}.1")
    disk.fail(lambda call: call.act == "read" and call.path in unreadable, DiskFault("bad sector"))
    updates = opened(disk)
    begun = updates.begin()
    assert {slot for slot, _ in begun.values()} == {Slot.FACTORY}
    assert updates.below_bootable() == ""
    assert updates.below_kept(Kind.MODEL) != "", "what was kept is gone, or nobody knows what it was"


def test_a_record_that_cannot_be_read_begins_anew_as_a_lost_one_does() -> None:
    disk = written_once()
    disk.fail(lambda call: call.act == "read" and call.path.startswith("model/boot"), DiskFault("bad sector"))
    slots = Slots(disk, Kind.MODEL)
    assert slots.lost
    slots.write(BootRecord(words="anew"))
    disk.heal()
    assert Slots(disk, Kind.MODEL).record.words == "anew"


def test_a_record_that_is_no_text_is_one_that_nobody_knows() -> None:
    disk = written_once()
    Slots(disk, Kind.MODEL)._twin.write_both(b'{"words":"\xff"}')
    Floors(disk)._releases.write_both(b'{"\xff":1}')
    assert Slots(disk, Kind.MODEL).lost
    with pytest.raises(FloorsLost):
        Floors(disk).release(Kind.MODEL)


@pytest.mark.parametrize("payload", [b"\xff", b"[]", b'{"placed": 7}'])
def test_notes_of_another_form_are_lost_and_nothing_is_held_up_by_them(payload: bytes) -> None:
    disk = CrashDisk()
    Placements(disk)._twin.write_both(payload)
    placements = Placements(disk)
    assert placements.notes == Notes()
    placements.tell("boot")
    assert Placements(disk).notes.told == "boot"


def test_notes_that_cannot_be_read_are_lost_and_nothing_is_held_up_by_them() -> None:
    disk = CrashDisk()
    Placements(disk).tell("boot")
    disk.fail(lambda call: call.act == "read", DiskFault("bad sector"))
    assert Placements(disk).notes == Notes()


# --- below what may run -----------------------------------------------------------------------------


def started(fleet: Fleet, disk: CrashDisk, running: Slot = Slot.FACTORY) -> Updates:
    updates = Updates(disk, fleet.roots, Vehicle(CAR, HARDWARE), fleet.clock, lambda notice: None)
    updates.begin(running)
    return updates


def take(fleet: Fleet, updates: Updates) -> list[State]:
    steps = [updates.install(fleet.source(), offer, lambda progress: None) for offer in updates.check(fleet.source())]
    return [step.state for step in steps if step is not None]


def with_a_kept_model(fleet: Fleet) -> CrashDisk:
    """Below release 2 none may run, and its bytes have just been damaged."""
    disk = CrashDisk()
    fleet.assign(fleet.release("2.0", 2, b"two", minimum_bootable=2))
    updates = started(fleet, disk)
    take(fleet, updates)
    for event in (Event.LOADED, Event.PASSED, Event.PROVEN):
        updates.handle(Kind.MODEL, event, "")
    disk.flip_bit(f"model/{updates.slots(Kind.MODEL).record.good}/files/model.onnx", 3)
    return disk


def test_what_was_kept_here_once_takes_its_place_again_where_what_is_left_may_not_run(fleet: Fleet) -> None:
    disk = with_a_kept_model(fleet)
    updates = started(fleet, disk)
    assert "none below 2" in updates.below_bootable()
    assert take(fleet, updates) == [State.COMMITTED]
    assert updates.below_bootable() == ""
    assert started(fleet, disk).below_bootable() == ""


def test_what_was_never_kept_here_is_tried_also_where_what_is_left_may_not_run(fleet: Fleet) -> None:
    disk = with_a_kept_model(fleet)
    fleet.assign(fleet.release("3.0", 3, b"three"))
    updates = started(fleet, disk)
    assert take(fleet, updates) == [State.STAGED]
    assert "none below 2" in updates.below_bootable()


def test_what_may_run_is_tried_again_once_it_was_damaged(fleet: Fleet) -> None:
    disk = CrashDisk()
    fleet.assign(fleet.release("2.0", 2, b"two"))
    updates = started(fleet, disk)
    take(fleet, updates)
    for event in (Event.LOADED, Event.PASSED, Event.PROVEN):
        updates.handle(Kind.MODEL, event, "")
    disk.flip_bit(f"model/{updates.slots(Kind.MODEL).record.good}/files/model.onnx", 3)
    assert take(fleet, started(fleet, disk)) == [State.STAGED]


def test_no_trial_of_another_kind_keeps_away_what_has_to_run(fleet: Fleet) -> None:
    disk = with_a_kept_model(fleet)
    model = fleet.images.target("model/drive-2.0.json")
    runtime = fleet.release("1.0", 1, b"runtime", kind=Kind.RUNTIME)
    fleet.assign(runtime)
    updates = started(fleet, disk)
    assert take(fleet, updates) == [State.STAGED]
    fleet.director.assign(CAR, [model, fleet.images.target(runtime.target)], fleet.keys)
    assert take(fleet, updates) == [State.COMMITTED]
    assert updates.slots(Kind.RUNTIME).record.state is State.STAGED
    assert updates.below_bootable() == ""


def test_an_older_release_comes_in_no_way_also_where_nothing_may_run(fleet: Fleet) -> None:
    older = fleet.release("1.0", 1, b"one")
    disk = with_a_kept_model(fleet)
    fleet.assign(older)
    with pytest.raises(TrustError, match="rollback"):
        take(fleet, started(fleet, disk))


def test_a_new_runtime_is_tried_by_running_where_the_one_that_is_good_may_not(fleet: Fleet) -> None:
    disk = CrashDisk()
    fleet.assign(fleet.release("2.0", 2, b"runtime 2", kind=Kind.RUNTIME, minimum_bootable=2))
    updates = started(fleet, disk)
    take(fleet, updates)
    updates.handle(Kind.RUNTIME, Event.ALLOWED, "")
    updates = started(fleet, disk, Slot.A)
    assert updates.below_bootable() == ""
    updates.handle(Kind.RUNTIME, Event.PROVEN, "")
    assert updates.below_bootable() == ""
    disk.flip_bit("runtime/a/files/model.onnx", 3)
    updates = started(fleet, disk)
    assert "the factory's runtime" in updates.below_bootable()
    assert take(fleet, updates) == [State.STAGED]
    updates.handle(Kind.RUNTIME, Event.ALLOWED, "")
    assert "the factory's runtime" in updates.below_bootable(), "it is what runs until the next start"
    updates = started(fleet, disk, Slot.A)
    assert updates.below_bootable() == ""
    assert updates.handle(Kind.RUNTIME, Event.PROVEN, "").state is State.COMMITTED
    assert updates.below_bootable() == ""


# --- again and again --------------------------------------------------------------------------------


def tried(fleet: Fleet, disk: CrashDisk, *events: Event) -> list[State]:
    """A start, a look, and what is staged by it goes through those events; a start of the slot under trial among
    them."""
    updates = started(fleet, disk)
    taken = take(fleet, updates)
    for event in events if taken else ():
        if event is Event.STARTED:
            updates = started(fleet, disk, Slot.A)
        else:
            updates.handle(Kind.RUNTIME, event, "an hour passed")
    return taken


ENDS = [(Event.ALLOWED, Event.STARTED, Event.EXPIRED), (Event.EXPIRED,), (Event.ALLOWED, Event.EXPIRED)]


@pytest.mark.parametrize("events", ENDS)
def test_a_runtime_that_shows_nothing_is_not_begun_again_for_ever(fleet: Fleet, events: tuple[Event, ...]) -> None:
    runtime = fleet.release("1.0", 1, b"runtime", kind=Kind.RUNTIME)
    fleet.assign(runtime)
    disk = CrashDisk()
    for _ in range(3):
        assert tried(fleet, disk, *events) == [State.STAGED]
    assert "until its fleet assigns it anew" in Slots(disk, Kind.RUNTIME).record.words
    for _ in range(2):
        assert tried(fleet, disk) == []
    model = fleet.release("1.0", 1)
    fleet.assign(runtime, model)
    assert tried(fleet, disk) == [State.STAGED], "the model's"
    assert Slots(disk, Kind.RUNTIME).record.state is State.INCONCLUSIVE


@pytest.mark.parametrize("other", [True, False])
def test_what_was_left_is_tried_again_once_its_fleet_assigns_it_anew(fleet: Fleet, other: bool) -> None:
    runtime = fleet.release("1.0", 1, b"runtime", kind=Kind.RUNTIME)
    fleet.assign(runtime)
    disk = CrashDisk()
    for _ in range(4):
        tried(fleet, disk, *ENDS[0])
    if other:
        fleet.assign(fleet.release("2.0", 2, b"runtime 2", kind=Kind.RUNTIME))
        assert tried(fleet, disk, Event.CANCELLED) == [State.STAGED]
    else:
        fleet.assign()
        assert tried(fleet, disk) == []
    fleet.assign(runtime)
    assert tried(fleet, disk) == [State.STAGED]


@pytest.mark.parametrize("event", [Event.CANCELLED, Event.DAMAGED])
def test_what_its_fleet_took_back_or_flash_damaged_counts_for_nothing(fleet: Fleet, event: Event) -> None:
    runtime = fleet.release("1.0", 1, b"runtime", kind=Kind.RUNTIME)
    fleet.assign(runtime)
    disk = CrashDisk()
    updates = started(fleet, disk)
    for _ in range(4):
        assert take(fleet, updates) == [State.STAGED]
        updates.handle(Kind.RUNTIME, event, "")
        fleet.assign()
        assert take(fleet, updates) == []
        fleet.assign(runtime)
