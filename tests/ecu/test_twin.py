"""A twin record gives back what was written, survives any flipped bit, and never takes lost for never written."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecu.crashdisk import CrashDisk
from ecu.disk import DiskFault, DiskStarved
from ecu.twin import OVERHEAD_BYTES, TwinLost, TwinRecord

CAPACITY = 256


def record(disk: CrashDisk, capacity: int = CAPACITY) -> TwinRecord:
    return TwinRecord(disk, "boot", capacity)


def flipped(disk: CrashDisk, path: str, bit: int) -> CrashDisk:
    bad = disk.after_shutdown()
    bad.flip_bit(path, bit)
    return bad


def test_a_record_nobody_wrote_reads_as_none_and_makes_no_file() -> None:
    disk = CrashDisk()
    assert record(disk).read() is None
    assert record(disk).peek() is None
    assert disk.names("") == []


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=CAPACITY - OVERHEAD_BYTES)), max_size=6))
def test_the_last_payload_written_is_read_also_by_the_next_process(writes: list[tuple[bool, bytes]]) -> None:
    disk, last = CrashDisk(), None
    mine = record(disk)
    for both, payload in writes:
        (mine.write_both if both else mine.write)(payload)
        last = payload
        assert mine.read() == record(disk).read() == record(disk).peek() == payload
    assert mine.read() == last


def test_a_record_lives_in_a_folder_too() -> None:
    disk = CrashDisk()
    disk.make_folder("keys")
    TwinRecord(disk, "keys/root").write(b"x")
    assert disk.names("keys") == ["root.0", "root.1"]
    assert TwinRecord(disk, "keys/root").read() == b"x"


@pytest.mark.parametrize("path", ["boot.0", "boot.1"])
def test_after_write_both_no_flipped_bit_changes_what_is_read(path: str) -> None:
    disk = CrashDisk()
    mine = TwinRecord(disk, "boot")
    mine.write(b"floor 6")
    mine.write_both(b"floor 7")
    for bit in range(disk.size(path) * 8):
        assert TwinRecord(flipped(disk, path, bit), "boot").peek() == b"floor 7"


@pytest.mark.parametrize("path", ["boot.0", "boot.1"])
def test_after_a_plain_write_a_flipped_bit_brings_back_the_state_before_at_worst(path: str) -> None:
    disk = CrashDisk()
    mine = record(disk)
    mine.write(b"old state")
    mine.write(b"new state")
    read = {record(flipped(disk, path, bit)).peek() for bit in range(CAPACITY * 8)}
    # The first write made both twins; the second went over twin 0.
    assert read == ({b"new state", b"old state"} if path == "boot.0" else {b"new state"})


def test_what_a_flipped_bit_took_is_put_back_by_the_next_write() -> None:
    disk = CrashDisk()
    record(disk).write_both(b"a")
    disk.flip_bit("boot.1", 200)
    record(disk).write_both(b"b")
    for path in ("boot.0", "boot.1"):
        assert record(flipped(disk, path, 200)).read() == b"b"


def test_two_twins_lost_is_an_error_and_never_none() -> None:
    disk = CrashDisk()
    record(disk).write_both(b"floor 7")
    disk.flip_bit("boot.0", 100)
    disk.flip_bit("boot.1", 100)
    for act in (
        record(disk).read,
        record(disk).peek,
        lambda: record(disk).write(b"0"),
        lambda: record(disk).write_both(b"0"),
    ):
        with pytest.raises(TwinLost, match=r"boot\.0.*boot\.1"):
            act()
    for size in (0, 5):
        disk.truncate("boot.0", size)
        disk.truncate("boot.1", size)
        with pytest.raises(TwinLost):
            record(disk).read()


def test_a_lost_record_starts_anew_only_when_told_to() -> None:
    disk = CrashDisk()
    record(disk).write_both(b"floor 7")
    for path in ("boot.0", "boot.1"):
        disk.flip_bit(path, 100)
    record(disk).start_anew(b"floor 9")
    for path in ("boot.0", "boot.1"):
        assert record(flipped(disk, path, 100)).read() == b"floor 9"


def test_a_block_that_strayed_into_the_other_file_is_not_believed() -> None:
    disk = CrashDisk()
    mine = record(disk)
    mine.write(b"old")
    mine.write(b"new")
    disk.write_at("boot.1", 0, disk.read("boot.0"))
    disk.flip_bit("boot.0", 100)
    with pytest.raises(TwinLost):
        record(disk).read()


def test_one_unreadable_file_leaves_the_other() -> None:
    disk = CrashDisk()
    record(disk).write_both(b"a")
    disk.fail(lambda call: call.act == "read" and call.path == "boot.1", DiskFault("bad sector"))
    assert record(disk).read() == b"a"


def test_two_unreadable_files_are_a_fault_of_the_disk_and_not_yet_lost() -> None:
    disk = CrashDisk()
    record(disk).write_both(b"a")
    disk.fail(lambda call: call.act == "read", DiskFault("loose cable"))
    with pytest.raises(DiskFault, match="loose cable"):
        record(disk).read()
    disk.heal()
    assert record(disk).read() == b"a"


def test_a_record_that_cannot_be_looked_at_for_want_of_memory_is_never_read_from_one_twin() -> None:
    disk = CrashDisk()
    record(disk).write_both(b"a")
    record(disk).write(b"b")
    disk.fail(lambda call: call.act == "read" and call.path == "boot.0", DiskStarved("too many files"))
    with pytest.raises(DiskStarved):
        record(disk).read()
    disk.heal()
    assert record(disk).read() == b"b"


def test_one_missing_file_is_made_again() -> None:
    disk = CrashDisk()
    record(disk).write_both(b"a")
    disk.remove("boot.0")
    mine = record(disk)
    assert mine.read() == b"a"
    mine.write_both(b"b")
    assert disk.names("") == ["boot.0", "boot.1"]


@pytest.mark.parametrize("path", ["boot.0", "boot.1"])
def test_reading_both_mends_a_damaged_twin_and_an_unwritable_one_hides_nothing(path: str) -> None:
    disk = CrashDisk()
    record(disk).write_both(b"a")
    disk.flip_bit(path, 100)
    disk.fail(lambda call: call.act == "write_at" and call.path == path, DiskFault("worn"))
    assert record(disk).read_both() == b"a"
    disk.heal()
    assert record(disk).read_both() == b"a"
    for twin in ("boot.0", "boot.1"):
        assert record(flipped(disk, twin, 100)).read() == b"a"


def test_reading_both_writes_nothing_where_both_agree() -> None:
    disk = CrashDisk()
    record(disk).write_both(b"a")
    disk = disk.after_shutdown()
    record(disk).read_both()
    assert [call.path for call in disk.calls if call.act == "write_at"] == ["boot.1"]


def test_after_write_both_nothing_of_an_earlier_payload_is_left() -> None:
    disk = CrashDisk()
    mine = record(disk)
    mine.write(b"secret " * 20)
    mine.write_both(b"")
    assert not any(b"secret" in disk.read(path) for path in disk.names(""))


@pytest.mark.parametrize("forget", [lambda mine: mine.write_both(b""), lambda mine: mine.wipe()])
def test_what_a_killed_write_left_beside_the_record_is_forgotten_with_it(forget: Callable[[TwinRecord], None]) -> None:
    disk = CrashDisk()
    disk.fail(lambda call: call.act == "rename" and call.path == "boot.1.tmp", Killed())
    with contextlib.suppress(Killed):
        record(disk).write_both(b"secret " * 20)
    disk.heal()
    disk.create("boot.1")  # whole again by other means: nothing writes beside it
    disk.write_at("boot.1", 0, bytes(CAPACITY))
    forget(record(disk))
    assert not any(b"secret" in disk.read(path) for path in disk.names(""))


class Killed(BaseException):
    """SIGKILL: nobody catches it."""


def test_a_write_that_fails_beside_the_record_leaves_nothing_there() -> None:
    disk = CrashDisk()
    disk.fail(lambda call: call.act == "sync", DiskFault("worn"))
    with pytest.raises(DiskFault):
        record(disk).write_both(b"secret " * 20)
    assert disk.names("") == []


def test_wiping_leaves_nothing_in_either_file_and_goes_on_where_it_was_cut_short() -> None:
    disk = CrashDisk()
    record(disk).wipe()
    assert disk.names("") == []
    mine = record(disk)
    for _ in range(2):
        mine.write(b"secret " * 20)
    disk = disk.after_shutdown()
    record(disk).wipe()
    for state in disk.after_crash():
        record(state.disk).wipe()
        assert not any(b"secret" in state.disk.read(path) for path in ("boot.0", "boot.1"))
        assert record(state.disk).read() == b""
        done = len(state.disk.calls)
        record(state.disk).wipe()
        assert {call.act for call in state.disk.calls[done:]} == {"read"}


def test_a_write_never_needs_space_once_the_record_exists() -> None:
    disk = CrashDisk()
    record(disk).write(b"a")
    first = len(disk.calls)
    mine = record(disk)
    mine.read()
    mine.write(b"b" * 100)
    mine.write_both(b"c" * 150)
    assert {call.act for call in disk.calls[first:]} <= {"size", "read", "write_at", "sync", "sync_folder"}
    assert {disk.size("boot.0"), disk.size("boot.1")} == {CAPACITY}


def test_a_plain_write_costs_one_sync() -> None:
    disk = CrashDisk()
    mine = record(disk)
    mine.write(b"a")
    before = disk.syncs
    mine.write(b"b")
    assert disk.syncs - before == 1


def test_a_record_can_grow_its_capacity() -> None:
    disk = CrashDisk()
    record(disk).write_both(b"small")
    larger = record(disk, 1024)
    assert larger.read() == b"small"
    larger.write_both(b"x" * 1000)
    assert record(disk, 1024).read() == b"x" * 1000
    assert disk.size("boot.0") == disk.size("boot.1") == 1024


def test_a_payload_beyond_the_capacity_is_a_bug_and_changes_nothing() -> None:
    disk = CrashDisk()
    mine = record(disk)
    mine.write(b"a")
    with pytest.raises(ValueError, match="don't fit"):
        mine.write(b"x" * (CAPACITY - OVERHEAD_BYTES + 1))
    assert record(disk).read() == b"a"


def test_peek_changes_nothing_on_the_disk() -> None:
    disk = CrashDisk()
    record(disk).write(b"a")
    before = len(disk.calls)
    assert record(disk).peek() == b"a"
    assert {call.act for call in disk.calls[before:]} == {"read"}


def test_the_only_twin_there_is_damaged_is_lost_and_not_nothing() -> None:
    disk = CrashDisk()
    TwinRecord(disk, "record").write_both(b"one")
    disk.remove("record.1")
    disk.flip_bit("record.0", 200)
    with pytest.raises(TwinLost):
        TwinRecord(disk, "record").read()


def test_a_write_after_a_failed_sync_is_durable_when_it_returns() -> None:
    disk = CrashDisk()
    record = TwinRecord(disk, "record")
    record.write_both(b"one")
    disk.fail(lambda call: call.act == "sync", DiskFault("worn"))
    with pytest.raises(DiskFault):
        record.write(b"two")
    disk.heal()
    record.write(b"three")
    disk.mark("three")
    for state in disk.after_crash():
        if "three" in state.acknowledged:
            assert TwinRecord(state.disk, "record").read() == b"three", state.describe
