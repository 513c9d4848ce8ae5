"""Whatever a vehicle was doing with a release when the power went, its laws hold (tests/crash/updates/vehicle.py)."""

from __future__ import annotations

from functools import partial
from random import Random

import pytest

from ecu.crashdisk import CrashDisk
from ota.kinds import Kind
from ota.machine import WAYS, Way
from ota.updates import TAKEN, TRIED
from tests.crash.updates.lives import anything, changes, gives_up, is_mended, resumes
from tests.crash.updates.vehicle import Diary, Life, Lived, can_be_finished, holds

ONE_A_WAY = (Kind.MODEL, Kind.CONFIG, Kind.RUNTIME, Kind.CAMPAIGN)
ALL = tuple(kind for kind in (*TRIED, *TAKEN) if WAYS[kind] is not Way.BOOTED)
"""What a system's bootloader has a part in is tests/crash/test_system.py's."""
LIVES = (changes, resumes, gives_up, is_mended)
CHANCES = 100


def lived(life: Lived, kind: Kind) -> tuple[CrashDisk, Diary]:
    disk, diary = CrashDisk(), Diary(kind)
    life(Life(disk, diary))
    return disk, diary


def cases(kinds: tuple[Kind, ...]) -> list[tuple[Lived, Kind]]:
    return [(life, kind) for life in LIVES for kind in kinds if life is not gives_up or WAYS[kind] is not Way.AT_ONCE]


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_fifty_thousand_disks_hold_the_laws() -> None:
    """Of every kind, those of the lives above and of as many by chance as it takes."""
    seen, tried = set[tuple[Kind, int]](), 0
    for kind in ALL:
        chances: list[Lived] = [partial(anything, rng=Random(seed)) for seed in range(CHANCES)]
        for life in (*(life for life, its in cases(ALL) if its is kind), *chances):
            disk, diary = lived(life, kind)
            for state in disk.after_crash():
                tried += 1
                if (key := (kind, state.fingerprint)) not in seen:
                    seen.add(key)
                    holds(diary, state)
                    if len(seen) % 50 == 0:
                        can_be_finished(diary, state)
    print(f"{len(seen)} distinct disks of {tried}")
    assert len(seen) >= 50_000


@pytest.mark.parametrize(("life", "kind"), cases(ONE_A_WAY))
def test_at_any_instant_the_laws_hold(life: Lived, kind: Kind) -> None:
    disk, diary = lived(life, kind)
    for number, state in enumerate(disk.after_crash()):
        if number % 7 == 0:
            holds(diary, state)
        if number % 70 == 0:
            can_be_finished(diary, state)
