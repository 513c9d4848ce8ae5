"""replace_files when the power goes: each file the old one or the new one, whole, and all of them new once said; and
so every vehicle of a page that the director signs."""

from __future__ import annotations

from pathlib import Path

import pytest

from ecu.clock import SteppingClock
from ecu.crashdisk import CrashDisk, CrashState, unnoticed_without, violation
from ecu.disk import replace_files
from ota.repository import Director, ImageRepository, KeyFolder
from tests.ota.fleet import NOW_NS, Fleet

OLD, NEW = b"old " * 30, b"newer " * 40
FILES = ("a/f", "b/f")


def with_old() -> CrashDisk:
    disk = CrashDisk()
    for folder in ("a", "b"):
        disk.make_folder(folder)
    replace_files(disk, dict.fromkeys(FILES, OLD))
    return disk.after_shutdown()


def replace(disk: CrashDisk) -> None:
    replace_files(disk, dict.fromkeys(FILES, NEW))
    disk.mark("replaced")


def each_old_or_new_and_all_new_once_said(state: CrashState) -> None:
    for path in FILES:
        assert state.disk.read(path) in ([NEW] if "replaced" in state.acknowledged else [OLD, NEW])


def test_at_any_instant_each_file_is_whole_and_all_are_new_once_that_was_said() -> None:
    assert violation(replace, each_old_or_new_and_all_new_once_said, with_old()) is None


def test_every_sync_is_needed() -> None:
    assert unnoticed_without(replace, each_old_or_new_and_all_new_once_said, with_old) == []


# --- a page of vehicles ---------------------------------------------------------------------------

CARS = ("car-1", "car-2")


class Signing:
    """A director over a disk that loses power."""

    def __init__(self, folder: Path) -> None:
        fleet = Fleet(folder)
        self._targets = [fleet.images.target(fleet.release(f"{n}.0", n, b"x" * n).target) for n in (1, 2)]
        self._keys, self._clock = fleet.keys, SteppingClock(wall_ns=NOW_NS)
        assert isinstance(self._keys, KeyFolder)
        assert isinstance(fleet.images, ImageRepository)

    def founded(self) -> CrashDisk:
        disk = CrashDisk()
        director = Director(disk, self._clock)
        director.init(self._keys)
        director.assign_all({CARS[0]: self._targets[:1]}, self._keys)
        return disk.after_shutdown()

    def assign(self, disk: CrashDisk) -> None:
        Director(disk, self._clock).assign_all(dict.fromkeys(CARS, self._targets[1:]), self._keys)
        disk.mark("assigned")

    def holds(self, state: CrashState) -> None:
        director = Director(state.disk, self._clock)
        new = (self._targets[1].path,)
        for car, old in zip(CARS, ((self._targets[0].path,), None), strict=True):
            said = director.assignment(car).targets if car in director.vehicles() else None
            assert said in ([new] if "assigned" in state.acknowledged else [old, new])


@pytest.mark.soak
def test_every_vehicle_of_a_page_is_told_the_old_or_the_new_whole_and_the_new_once_said(tmp_path: Path) -> None:
    signing = Signing(tmp_path / "fleet")
    assert violation(signing.assign, signing.holds, signing.founded()) is None


@pytest.mark.soak
def test_every_sync_of_a_page_is_needed(tmp_path: Path) -> None:
    signing = Signing(tmp_path / "fleet")
    # But for who made the folders that are there, and may have been killed before his own sync.
    spare = ["sync 0: sync_folder 'director/vehicles'"]
    assert unnoticed_without(signing.assign, signing.holds, signing.founded) == spare
