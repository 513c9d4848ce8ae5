"""Whatever a vehicle was doing with a release when the power went, its laws hold (tests/crash/updates/vehicle.py)."""

from __future__ import annotations

import pytest

from ecu.crashdisk import CrashDisk
from ota.kinds import Kind
from ota.machine import WAYS, Way
from ota.updates import TAKEN, TRIED
from tests.crash.updates.lives import changes, gives_up, is_mended, resumes
from tests.crash.updates.vehicle import Diary, Life, Lived, can_be_finished, holds

ONE_A_WAY = (Kind.MODEL, Kind.CONFIG, Kind.RUNTIME, Kind.CAMPAIGN)
ALL = (*TRIED, *TAKEN)
LIVES = (changes, resumes, gives_up, is_mended)


def lived(life: Lived, kind: Kind) -> tuple[CrashDisk, Diary]:
    disk, diary = CrashDisk(), Diary(kind)
    life(Life(disk, diary))
    return disk, diary


def cases(kinds: tuple[Kind, ...]) -> list[tuple[Lived, Kind]]:
    return [(life, kind) for life in LIVES for kind in kinds if life is not gives_up or WAYS[kind] is not Way.AT_ONCE]


@pytest.mark.parametrize(("life", "kind"), cases(ONE_A_WAY))
def test_at_any_instant_the_laws_hold(life: Lived, kind: Kind) -> None:
    disk, diary = lived(life, kind)
    for number, state in enumerate(disk.after_crash()):
        if number % 7 == 0:
            holds(diary, state)
        if number % 70 == 0:
            can_be_finished(diary, state)
