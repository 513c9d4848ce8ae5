"""Whatever a vehicle was doing with a release when the power went, its laws hold (tests/crash/updates/vehicle.py)."""

from __future__ import annotations

from functools import partial
from random import Random

import pytest

from ecu.crashdisk import CrashDisk
from ota.kinds import Kind
from ota.machine import WAYS, Way
from ota.updates import TAKEN, TRIED
from tests.crash.updates.laws import can_be_finished, holds
from tests.crash.updates.lives import anything, changes, gives_up, is_mended, resumes
from tests.crash.updates.vehicle import Diary, Life, Lived, Promise

ONE_A_WAY = (Kind.MODEL, Kind.CONFIG, Kind.RUNTIME, Kind.CAMPAIGN)
ALL = tuple(kind for kind in (*TRIED, *TAKEN) if WAYS[kind] is not Way.BOOTED)
"""What a system's bootloader has a part in is tests/crash/test_system.py's."""
LIVES = (changes, resumes, gives_up, is_mended)
LEAST_DISKS = 50_000 // len(ALL)
MOST_CHANCES = 300


def lived(life: Lived, kind: Kind) -> tuple[CrashDisk, Diary]:
    disk, diary = CrashDisk(), Diary(kind)
    life(Life(disk, diary))
    return disk, diary


def cases(kinds: tuple[Kind, ...]) -> list[tuple[Lived, Kind]]:
    return [(life, kind) for life in LIVES for kind in kinds if life is not gives_up or WAYS[kind] is not Way.AT_ONCE]


class Seen:
    """The disks of one kind's lives, each judged once under each pair of promises: what was acknowledged and is lost is
    seen only where it was promised."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.disks = set[int]()
        self._judged = set[tuple[int, Promise, Promise]]()

    def judge(self, life: Lived) -> None:
        disk, diary = lived(life, self.kind)
        for state in disk.after_crash():
            key = (state.fingerprint, *diary.around(state))
            if key not in self._judged:
                self._judged.add(key)
                self.disks.add(state.fingerprint)
                holds(diary, state)
                if len(self._judged) % 50 == 0:
                    can_be_finished(diary, state)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ALL)
def test_fifty_thousand_disks_hold_the_laws(kind: Kind) -> None:
    """Of each kind its part: those of the lives above, and of as many by chance as it takes."""
    seen = Seen(kind)
    for life in (life for life, its in cases(ALL) if its is kind):
        seen.judge(life)
    for number in range(MOST_CHANCES):
        if len(seen.disks) >= LEAST_DISKS:
            return
        seen.judge(partial(anything, rng=Random(f"{kind}-{number}")))
    raise AssertionError(f"only {len(seen.disks)} distinct disks of {kind}")


def test_what_is_lost_is_seen_also_on_a_disk_that_was_right_before_it_was_promised() -> None:
    """The planted fault: the same release is promised twice, and nothing at all is written the second time."""

    def forgetful(life: Life) -> None:
        life.promise(good=1)

    seen = Seen(Kind.CONFIG)
    seen.judge(lambda life: None)
    with pytest.raises(AssertionError):
        seen.judge(forgetful)


@pytest.mark.parametrize(("life", "kind"), cases(ONE_A_WAY))
def test_at_any_instant_the_laws_hold(life: Lived, kind: Kind) -> None:
    disk, diary = lived(life, kind)
    for number, state in enumerate(disk.after_crash()):
        if number % 7 == 0:
            holds(diary, state)
        if number % 70 == 0:
            can_be_finished(diary, state)
