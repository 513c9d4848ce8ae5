"""Whatever a vehicle was doing with a release when the power went, its laws hold (tests/crash/updates/vehicle.py)."""

from __future__ import annotations

from functools import partial
from itertools import islice

import pytest

from ecu.crashdisk import CrashDisk, unnoticed_when_swapped, unnoticed_without
from ota.kinds import Kind
from ota.machine import WAYS, Way
from ota.updates import TAKEN, TRIED
from tests.crash.updates.lives import changes, gives_up, is_mended, resumes
from tests.crash.updates.vehicle import Diary, Life, Lived, can_be_finished, holds

ONE_A_WAY = (Kind.MODEL, Kind.CONFIG, Kind.RUNTIME, Kind.CAMPAIGN)
ALL = (*TRIED, *TAKEN)


def lived(life: Lived, kind: Kind) -> tuple[CrashDisk, Diary]:
    disk, diary = CrashDisk(), Diary(kind)
    life(Life(disk, diary))
    return disk, diary


@pytest.mark.parametrize("kind", ONE_A_WAY)
def test_at_any_instant_of_a_change_the_laws_hold(kind: Kind) -> None:
    disk, diary = lived(changes, kind)
    for number, state in enumerate(disk.after_crash()):
        if number % 5 == 0:
            holds(diary, state)
