"""The vehicle's audit of its updates: what was said stays said, in order, and damage shows where it is.

Mutants of ota/audit.py that these tests were seen to catch: parsing that stops at the first damaged line, or
lets a UnicodeDecodeError through; writing at the file's size and not behind the last whole line; each sync left out; a
removal for the rename; `_last` not taken from the old file; `first_break` without the old file's last entry; the name
of a file that was found taken for durable.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecu.clock import SECOND_NS, SteppingClock
from ecu.crashdisk import CrashDisk, CrashState, unnoticed_without, violation
from ecu.disk import DiskError, DiskFault, DiskFull
from ota.audit import Audit

CLOCK = SteppingClock(wall_ns=1_800_000_000 * SECOND_NS)


class Killed(BaseException):
    """SIGKILL: nobody catches it."""


def opened(disk: CrashDisk) -> Audit:
    return Audit(disk, CLOCK, "car-1")


def with_entries(count: int, detail: str = "") -> CrashDisk:
    disk = CrashDisk()
    audit = opened(disk)
    for number in range(1, count + 1):
        audit.add("update_refused", f"{number} {detail}")
    return disk


def said(audit: Audit) -> list[int]:
    return [int(entry.detail.split()[0]) for entry in audit.entries()]


def test_what_was_said_is_there_at_the_next_start_and_the_chain_goes_on() -> None:
    disk = with_entries(3)
    opened(disk).add("update_committed", "4")
    audit = opened(disk)
    assert said(audit) == [1, 2, 3, 4]
    assert [entry.seq for entry in audit.entries()] == [1, 2, 3, 4]
    assert audit.first_break() is None
    assert {entry.subject for entry in audit.entries()} == {"car-1"}


def says_three(disk: CrashDisk) -> None:
    audit = opened(disk)
    for number in (1, 2, 3):
        audit.add("update_refused", f"{number} {'x' * 100 if number == 2 else ''}")
        disk.mark(str(number))


def whatever_was_said_stands_and_the_chain_holds(state: CrashState) -> None:
    audit = opened(state.disk)
    numbers = said(audit)
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) >= len(state.acknowledged)
    audit.add("update_committed", f"{len(numbers) + 1}")
    again = opened(state.disk)
    assert said(again) == [*numbers, len(numbers) + 1]
    assert again.first_break() is None


def test_no_power_cut_takes_an_entry_or_breaks_the_chain() -> None:
    assert violation(says_three, whatever_was_said_stands_and_the_chain_holds, CrashDisk()) is None


def test_every_sync_is_needed() -> None:
    assert unnoticed_without(says_three, whatever_was_said_stands_and_the_chain_holds) == []


def test_a_file_whose_name_a_killed_start_left_unsynced_is_made_durable() -> None:
    disk = CrashDisk()
    disk.fail(lambda call: call.act == "sync_folder", Killed())
    with pytest.raises(Killed):
        opened(disk).add("update_refused", "1")
    disk.heal()
    says_three(disk)
    for state in disk.after_crash():
        whatever_was_said_stands_and_the_chain_holds(state)


@given(bit=st.integers(0, 5 * 190 * 8))
@settings(max_examples=150)
def test_one_flipped_bit_costs_its_own_entry_and_is_told(bit: int) -> None:
    disk = with_entries(5)
    before = opened(disk).entries()
    last = len(disk.read("audit").splitlines(keepends=True)[-1])
    # In the last line, and in the newline before it, it can't be told from a line that was torn off.
    disk.flip_bit("audit", bit % ((disk.size("audit") - last - 1) * 8))
    audit = opened(disk)
    # The last character of a digest has two bits that mean nothing.
    assert audit.first_break() is not None or audit.entries() == before
    assert 5 in [entry.seq for entry in audit.entries()]
    assert len(audit.entries()) >= 3, "a flipped newline costs two, anything else one"
    audit.add("update_committed", "6")
    assert opened(disk).entries()[-1].seq == 6
    assert opened(disk).first_break() == audit.first_break()


@pytest.mark.parametrize("cut", [1, 2, 60, 150])
def test_a_torn_last_line_is_dropped_and_said_again(cut: int) -> None:
    disk = with_entries(3)
    disk.truncate("audit", disk.size("audit") - cut)
    audit = opened(disk)
    assert said(audit) == [1, 2]
    audit.add("update_refused", "3")
    assert said(opened(disk)) == [1, 2, 3]
    assert opened(disk).first_break() is None


@pytest.mark.parametrize("act", ["write_at", "sync"])
@pytest.mark.parametrize("error", [DiskFull("no space"), DiskFault("worn")])
def test_an_entry_that_failed_leaves_nothing_in_the_next_ones_way(act: str, error: DiskError) -> None:
    disk = with_entries(2)
    audit = opened(disk)
    disk.fail(lambda call: call.act == act, error)
    with pytest.raises(DiskError):
        audit.add("update_refused", "3 " + "long" * 50)
    disk.heal()
    audit.add("update_refused", "3")
    audit.add("update_refused", "4")
    assert said(opened(disk)) == said(audit) == [1, 2, 3, 4]
    assert opened(disk).first_break() is None


def test_what_found_no_room_is_said_later_in_order_and_what_was_too_much_is_counted() -> None:
    disk = with_entries(2)
    audit = opened(disk)
    disk.fail(lambda call: call.act == "write_at", DiskFull("no space"))
    for number in range(3, 3 + 70):
        audit.note("update_refused", f"{number}")
    assert said(audit) == [1, 2]
    disk.heal()
    audit.note("update_refused", "73")
    entries = opened(disk).entries()
    assert entries[2].event == "audit_gap"
    dropped = int(entries[2].detail.split()[0])
    assert said(opened(disk)) == [1, 2, dropped, *range(3 + dropped, 74)]
    audit.note("update_refused", "74")
    assert said(opened(disk))[-2:] == [73, 74]
    assert opened(disk).first_break() is None


@pytest.mark.parametrize("act", ["sync_folder", "create"])
def test_a_full_file_that_could_be_put_aside_and_not_begun_anew_breaks_no_chain(act: str) -> None:
    disk = with_entries(FULL, LONG)
    audit = opened(disk)
    disk.fail(lambda call: call.act == act, DiskFault("worn"))
    with pytest.raises(DiskFault):
        audit.add("update_refused", f"{FULL + 1} {LONG}")
    disk.heal()
    audit.add("update_refused", f"{FULL + 1}")
    assert said(audit) == said(opened(disk)) == [FULL + 1]
    assert audit.first_break() is None


# --- a full file ------------------------------------------------------------------------------------

LONG = "x" * 100_000
FULL = 10


def test_a_full_file_becomes_the_old_one_and_the_chain_goes_on_across_it() -> None:
    disk = with_entries(FULL + 2, LONG)
    assert disk.names("") == ["audit", "audit.old"]
    audit = opened(disk)
    assert said(audit) == [FULL + 1, FULL + 2]
    assert audit.first_break() is None
    audit.add("update_refused", f"{FULL + 3}")
    assert opened(disk).first_break() is None


def test_the_entries_of_a_full_file_are_no_longer_shown() -> None:
    disk = CrashDisk()
    audit = opened(disk)
    for number in range(1, FULL + 3):
        audit.add("update_refused", f"{number} {LONG}")
    assert audit.entries() == opened(disk).entries()


def test_audits_never_take_more_than_two_files_of_a_mebibyte() -> None:
    disk = with_entries(3 * FULL + 5, LONG)
    assert disk.names("") == ["audit", "audit.old"]
    assert max(disk.size(name) for name in disk.names("")) <= 1 << 20
    assert opened(disk).first_break() is None
    assert opened(disk).entries()[-1].seq == 3 * FULL + 5


def test_a_power_cut_while_the_file_turns_over_loses_no_acknowledged_entry() -> None:
    full = with_entries(FULL, LONG).after_shutdown()

    def turns_over(disk: CrashDisk) -> None:
        audit = opened(disk)
        for number, detail in ((FULL + 1, LONG), (FULL + 2, "")):
            audit.add("update_refused", f"{number} {detail}")
            disk.mark(str(number))
        assert disk.exists("audit.old")

    def all_are_there(state: CrashState) -> None:
        audit = opened(state.disk)
        assert audit.first_break() is None
        last = audit.add("update_refused", "again")
        assert last.seq > max([FULL, *map(int, state.acknowledged)])
        assert opened(state.disk).first_break() is None

    assert violation(turns_over, all_are_there, full) is None


def test_a_change_in_the_last_entry_of_the_old_file_is_told() -> None:
    disk = with_entries(FULL + 2, LONG)
    at = disk.read("audit.old").rindex(b'"digest":"') + 12
    disk.flip_bit("audit.old", at * 8)
    assert opened(disk).first_break() == FULL + 1
