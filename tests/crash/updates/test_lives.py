"""Whatever a vehicle was doing with a release when the power went, its laws hold (tests/crash/updates/vehicle.py)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from random import Random

import pytest

from ecu.crashdisk import CrashDisk
from ota.kinds import Kind
from ota.machine import WAYS, Way
from ota.updates import TAKEN, TRIED
from tests.crash.updates.laws import can_be_finished, holds
from tests.crash.updates.lives import (
    anything,
    changes,
    comes_as_deltas,
    comes_as_longer_deltas,
    diary_of,
    gives_up,
    is_mended,
    resumes,
    sees_other_keys,
)
from tests.crash.updates.vehicle import KEPT, Diary, Life, Lived, Promise

ONE_A_WAY = (Kind.MODEL, Kind.CONFIG, Kind.RUNTIME, Kind.CAMPAIGN)
ALL = tuple(kind for kind in (*TRIED, *TAKEN) if WAYS[kind] is not Way.BOOTED)
"""What a system's bootloader has a part in is tests/crash/test_system.py's."""
LIVES = (changes, resumes, gives_up, is_mended, comes_as_deltas, sees_other_keys)
LEAST_DISKS = {kind: 1_500 if WAYS[kind] is Way.AT_ONCE else 11_000 for kind in ALL}
"""50,000 in all. What is kept at once has no trial, and leaves few that differ."""
MOST_CHANCES = 300


def lived(life: Lived, kind: Kind) -> tuple[CrashDisk, Diary]:
    disk, diary = CrashDisk(), diary_of(life, kind)
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


@pytest.mark.parametrize("kind", ONE_A_WAY)
@pytest.mark.parametrize(("by", "goes_on"), [(comes_as_deltas, False), (comes_as_longer_deltas, True)])
def test_deltas_are_taken_and_a_spoiled_one_is_left(by: Lived, goes_on: bool, kind: Kind) -> None:
    """In the lives that are cut above."""
    life = Life(CrashDisk(), diary_of(by, kind))
    by(life)
    _, three, five, seven = (its for its in life.came if its.kept + its.fetched == its.whole)
    model_bytes = life.supply.model_bytes
    assert (three.by_delta, three.unfit) == (model_bytes, 0)
    assert 0 < five.by_delta <= model_bytes
    assert (five.by_delta < model_bytes) == goes_on
    assert seven.unfit > 0
    told = [entry.event for entry in life.updates.audit().entries()]
    assert told.count("delta_unfit") == 1


@pytest.mark.parametrize("left", [("floors.metadata.0", "floors.metadata.1"), ()])
def test_metadata_that_is_forgotten_is_noticed(left: tuple[str, ...]) -> None:
    """The planted faults: floors of metadata as they were under the first keys, and none at all."""
    disk, diary = CrashDisk(), diary_of(sees_other_keys, Kind.CONFIG)
    life = Life(disk, diary)
    life.try_and(1, KEPT[life.way])
    before = disk.after_shutdown()
    first = life.promised
    life.try_and(3, KEPT[life.way])
    assert life.promised.signed_at_s > first.signed_at_s > 0
    assert {role.partition("#")[0] for role in first.versions} >= {"image/root", "director/root", "image/config"}
    assert life.promised.versions.keys() - first.versions.keys(), "of other keys"
    *_, state = disk.after_crash()
    can_be_finished(diary, replace(state, disk=state.disk.after_shutdown()))
    for name in ("floors.metadata.0", "floors.metadata.1", "metadata.cache"):
        state.disk.remove(name)
    for name in left:
        state.disk.create(name)
        state.disk.write_at(name, 0, before.read(name))
    with pytest.raises(AssertionError, match="sank"):
        holds(diary, state)
    if not left:
        with pytest.raises(AssertionError, match="older"):
            can_be_finished(diary, state)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ONE_A_WAY)
def test_deltas_of_two_blocks_hold_the_laws(kind: Kind) -> None:
    disk, diary = lived(comes_as_longer_deltas, kind)
    for number, state in enumerate(disk.after_crash()):
        holds(diary, state)
        if number % 50 == 0:
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
        if len(seen.disks) >= LEAST_DISKS[kind]:
            return
        seen.judge(partial(anything, rng=Random(f"{kind}-{number}")))
    raise AssertionError(f"only {len(seen.disks)} distinct disks of {kind}")


def test_all_kinds_together_have_fifty_thousand_disks() -> None:
    assert sum(LEAST_DISKS.values()) >= 50_000


def test_what_is_lost_is_seen_also_on_a_disk_that_was_right_before_it_was_promised() -> None:
    """The planted fault: the same release is promised twice, and nothing at all is written the second time."""

    def forgetful(life: Life) -> None:
        life.promise(good=1)

    seen = Seen(Kind.CONFIG)
    seen.judge(lambda life: None)
    with pytest.raises(AssertionError):
        seen.judge(forgetful)


@pytest.mark.parametrize(
    ("life", "kind"),
    # Two repositories for each kind take their time.
    [its for its in cases(ONE_A_WAY) if its[0] is not sees_other_keys or its[1] in (Kind.CONFIG, Kind.CAMPAIGN)],
)
def test_at_any_instant_the_laws_hold(life: Lived, kind: Kind) -> None:
    disk, diary = lived(life, kind)
    for number, state in enumerate(disk.after_crash()):
        if number % 7 == 0:
            holds(diary, state)
        if number % 70 == 0:
            can_be_finished(diary, state)
