"""A candidate appears whole or not at all, whichever instant the power goes."""

from __future__ import annotations

import contextlib

import pytest

from ecu.crashdisk import CrashDisk, CrashState, unnoticed_without, violation
from ecu.disk import DiskError, DiskFault, DiskFull
from receiver.learning.candidates import NameTaken, put_candidate

FILES = {"model.json": b"{}" * 50, "model.onnx": b"graph" * 300}
TOLD = b'{"outcome":"passed"}'
NAME = "light-state-1.0.1"


class Killed(BaseException):
    """SIGKILL: nobody catches it."""


def put(disk: CrashDisk) -> None:
    put_candidate(disk, NAME, FILES, TOLD)
    disk.mark("put")


def whole_or_not_there(state: CrashState) -> None:
    disk, folder = state.disk, f"candidates/{NAME}"
    if disk.exists(folder):
        assert {name: disk.read(f"{folder}/{name}") for name in disk.names(folder)} == FILES
        assert disk.read(f"{folder}.verdict.json") == TOLD
    else:
        assert "put" not in state.acknowledged


def test_at_any_instant_it_is_whole_with_its_verdict_or_not_there() -> None:
    assert violation(put, whole_or_not_there, CrashDisk()) is None


def test_every_sync_is_needed() -> None:
    assert unnoticed_without(put, whole_or_not_there, CrashDisk) == []


def test_after_any_power_cut_it_can_be_put_again() -> None:
    disk = CrashDisk()
    put(disk)
    for state in disk.after_crash():
        assert violation(put, whole_or_not_there, state.disk) is None


@pytest.mark.parametrize("error", [DiskFault("medium"), DiskFull("full"), Killed()], ids=["EIO", "ENOSPC", "SIGKILL"])
@pytest.mark.parametrize("call", range(25))
def test_after_an_error_anywhere_a_later_try_puts_it_durably(call: int, error: BaseException) -> None:
    disk = CrashDisk()
    disk.fail(call, error)
    with contextlib.suppress(DiskError, Killed):
        put(disk)
    disk.heal()
    put(disk)
    assert disk.names("candidates") == [NAME, f"{NAME}.verdict.json"]
    for state in disk.after_crash():
        whole_or_not_there(state)


def test_another_candidate_is_never_written_over() -> None:
    disk = CrashDisk()
    put(disk)
    with pytest.raises(NameTaken, match="holds another candidate"):
        put_candidate(disk, NAME, {"model.json": b"other"}, b'{"outcome":"other"}')
    assert disk.read(f"candidates/{NAME}/model.json") == FILES["model.json"]
