"""replace_file when the power goes or the disk fails: the old content or the new one, whole, and durable once said."""

from __future__ import annotations

import contextlib

import pytest

from ecu.crashdisk import CrashDisk, CrashState, unnoticed_without, violation
from ecu.disk import DiskError, DiskFault, DiskFull, replace_file

OLD, NEW = b"old " * 300, b"newer " * 400


class Killed(BaseException):
    """SIGKILL: nobody catches it."""


def with_old() -> CrashDisk:
    disk = CrashDisk()
    disk.make_folder("state")
    replace_file(disk, "state/f", OLD)
    return disk.after_shutdown()


def replace(disk: CrashDisk) -> None:
    replace_file(disk, "state/f", NEW)
    disk.mark("replaced")


def old_or_new_and_new_once_said(state: CrashState) -> None:
    assert state.disk.read("state/f") in ([NEW] if "replaced" in state.acknowledged else [OLD, NEW])


def test_at_any_instant_the_file_is_whole_and_the_new_one_once_that_was_said() -> None:
    assert violation(replace, old_or_new_and_new_once_said, with_old()) is None


def test_every_sync_is_needed() -> None:
    assert unnoticed_without(replace, old_or_new_and_new_once_said, with_old) == []


def test_a_first_file_appears_whole_or_not_at_all() -> None:
    disk = CrashDisk()
    replace_file(disk, "f", NEW)
    disk.mark("replaced")
    for state in disk.after_crash():
        there = state.disk.exists("f")
        assert not there or state.disk.read("f") == NEW
        assert there or "replaced" not in state.acknowledged


def test_after_any_power_cut_it_can_be_done_again() -> None:
    disk = with_old()
    replace(disk)
    for state in disk.after_crash():
        assert violation(replace, old_or_new_and_new_once_said, state.disk) is None


CALLS = range(5)


def test_the_calls_below_are_all_there_are() -> None:
    disk = with_old()
    replace(disk)
    assert len(disk.calls) == len(CALLS)


@pytest.mark.parametrize("error", [DiskFault("medium"), DiskFull("full"), Killed()], ids=["EIO", "ENOSPC", "SIGKILL"])
@pytest.mark.parametrize("call", CALLS)
def test_an_error_anywhere_leaves_it_whole_and_a_later_try_durable(call: int, error: BaseException) -> None:
    disk = with_old()
    disk.fail(call, error)
    with contextlib.suppress(DiskError, Killed):
        replace(disk)
    assert disk.read("state/f") in (OLD, NEW)
    replace(disk)
    for state in disk.after_crash():
        old_or_new_and_new_once_said(state)
