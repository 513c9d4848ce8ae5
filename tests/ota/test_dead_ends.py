"""No vehicle is left that runs and can never be updated again: whatever can't be read, and whatever was begun."""

from __future__ import annotations

import pytest

from ecu.clock import SteppingClock
from ecu.crashdisk import CrashDisk
from ecu.disk import DiskFault
from ota.floors import Floors, FloorsLost
from ota.kinds import Kind
from ota.slots import BootRecord, Slot, Slots
from ota.system.placed import Notes, Placements
from ota.trust import Roots, Vehicle
from ota.updates import TAKEN, TRIED, Updates

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
