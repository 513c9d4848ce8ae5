"""An object's way to "stored", at every instant that a kill or a power cut could choose."""

from __future__ import annotations

import contextlib
import hashlib

import pytest

from ecu.clock import SECOND_NS, SteppingClock
from ecu.crashdisk import CrashDisk, CrashState, unnoticed_without, violation
from ecu.disk import DiskError, DiskFault, DiskFull
from receiver.objectfiles import PARTIALS_PER_VEHICLE, ObjectFiles

VEHICLE = "veh-001"
DATA = hashlib.shake_256(b"picture").digest(1500)
NAME = hashlib.sha256(DATA).hexdigest()


def files_on(disk: CrashDisk) -> ObjectFiles:
    files = ObjectFiles(disk, SteppingClock())
    files.open()
    return files


def bring(files: ObjectFiles) -> int | None:
    """From where it is, in three slices; as the desk does it, but for the row."""
    size = files.finish(VEHICLE, NAME)
    while size is None:
        have = files.have(VEHICLE, NAME)
        if have >= len(DATA):
            files.discard(VEHICLE, NAME)
            have = 0
        have = files.take(VEHICLE, NAME, have, DATA[have : have + 500])
        if have == len(DATA):
            size = files.finish(VEHICLE, NAME)
            if size is None:
                files.discard(VEHICLE, NAME)
    return size


def scenario(disk: CrashDisk) -> None:
    assert bring(files_on(disk)) == len(DATA)
    disk.mark("row")  # here it is committed, and the vehicle forgets the object


def law(state: CrashState) -> None:
    files = files_on(state.disk)
    if "row" in state.acknowledged:
        assert state.disk.read(files.path(VEHICLE, NAME)) == DATA
    # Whatever is there, the vehicle gets it through in the end.
    assert bring(files) == len(DATA)
    assert state.disk.read(files.path(VEHICLE, NAME)) == DATA
    assert state.disk.names(VEHICLE) == [NAME]


def test_no_power_cut_takes_an_object_whose_row_was_committed() -> None:
    # Mutation: the row before the name's sync; no sync of the bytes; no digest at the end.
    assert violation(scenario, law, CrashDisk()) is None


def test_the_last_sync_of_the_bytes_and_that_of_the_name_are_needed() -> None:
    # Each slice's own sync only keeps a power cut from spoiling a partial file; the one before the name covers all.
    assert [sync.split(": ")[1] for sync in unnoticed_without(scenario, law)] == [f"sync '{VEHICLE}/{NAME}.part'"] * 4


class Killed(BaseException):
    """SIGKILL: nobody catches it, and the page cache stays."""


def test_a_kill_at_any_call_and_then_a_power_cut_at_any_call_of_the_next_life_is_survived() -> None:
    whole = CrashDisk()
    scenario(whole)
    for index in range(len(whole.calls)):
        disk = CrashDisk()
        disk.fail(index, Killed())
        with contextlib.suppress(Killed):
            scenario(disk)
        disk.heal()
        assert violation(scenario, law, disk) is None


@pytest.mark.parametrize("error", [DiskFull("full"), DiskFault("worn")], ids=["full", "worn"])
def test_a_disk_that_fails_at_any_call_leaves_what_was_there_or_nothing(error: DiskError) -> None:
    whole = CrashDisk()
    scenario(whole)
    for index in range(len(whole.calls)):
        disk = CrashDisk()
        disk.fail(index, error)
        with contextlib.suppress(DiskError):
            scenario(disk)
        disk.heal()
        files = files_on(disk)
        assert files.have(VEHICLE, NAME) % 500 == 0
        assert bring(files) == len(DATA)
        assert disk.read(files.path(VEHICLE, NAME)) == DATA


def test_only_so_many_are_begun_and_partials_are_counted_and_found_again() -> None:
    disk, clock = CrashDisk(), SteppingClock()
    files = ObjectFiles(disk, clock)
    files.open()
    for number in range(PARTIALS_PER_VEHICLE + 3):
        clock.advance(clock.boot_ns() + SECOND_NS)
        files.take(VEHICLE, f"{number:064x}", 0, b"x" * 10)
        files.take("veh-002", f"{number:064x}", 0, b"x")
    assert files.have(VEHICLE, f"{2:064x}") == 0
    assert files.have(VEHICLE, f"{3:064x}") == 10
    assert files.partial_bytes(VEHICLE, f"{3:064x}") == (PARTIALS_PER_VEHICLE - 1) * 10
    again = ObjectFiles(disk, clock)
    again.open()
    assert again.partial_bytes(VEHICLE, "") == PARTIALS_PER_VEHICLE * 10
    assert again.waited_since(clock.boot_ns()) == []
    assert len(again.waited_since(clock.boot_ns() + 1)) == 2 * PARTIALS_PER_VEHICLE
    assert len(files.waited_since(clock.boot_ns())) == 2 * PARTIALS_PER_VEHICLE - 2


def test_what_was_begun_anew_of_an_object_that_is_there_goes_when_that_is_found() -> None:
    disk = CrashDisk()
    files = files_on(disk)
    assert bring(files) == len(DATA)
    files.take(VEHICLE, NAME, 0, DATA[:500])
    assert files.finish(VEHICLE, NAME) == len(DATA)
    assert disk.names(VEHICLE) == [NAME]
    assert files.waited_since(1 << 62) == []


def test_asking_again_and_again_reads_a_partial_file_once() -> None:
    # Mutation: without it a question of a few bytes costs the receiver all that has come.
    disk = CrashDisk()
    files = files_on(disk)

    def reads() -> int:
        return sum(call.act == "read" for call in disk.calls)

    files.take(VEHICLE, NAME, 0, DATA[:500])
    for _ in range(5):
        assert files.finish(VEHICLE, NAME) is None
    assert reads() == 1
    files.take(VEHICLE, NAME, 500, b"x" * 1000)
    assert files.finish(VEHICLE, NAME) is None
    assert reads() == 2
    # As many bytes again, and others.
    files.discard(VEHICLE, NAME)
    assert bring(files) == len(DATA)


def test_what_can_neither_be_kept_nor_cut_goes_altogether() -> None:
    disk = CrashDisk()
    files = files_on(disk)
    files.take(VEHICLE, NAME, 0, DATA[:500])
    disk.fail(lambda call: call.act == "write_at", DiskFull("full"))
    disk.fail(lambda call: call.act == "truncate", DiskFault("worn"))
    with pytest.raises(DiskFull):
        files.take(VEHICLE, NAME, 500, DATA[500:])
    assert files.have(VEHICLE, NAME) == 0


def test_a_full_disk_costs_the_slice_and_nothing_before_it() -> None:
    disk = CrashDisk()
    files = files_on(disk)
    files.take(VEHICLE, NAME, 0, DATA[:500])
    disk.fail(lambda call: call.act == "write_at", DiskFull("full"))
    with pytest.raises(DiskFull):
        files.take(VEHICLE, NAME, 500, DATA[500:])
    assert files.have(VEHICLE, NAME) == 500
