"""The spool through every power cut its disk can have: nothing confirmed is lost, no name is given out twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from ecu.crashdisk import Call, CrashDisk, CrashState, violation
from ecu.errors import OutriderError
from telemetry.spool.ciphers import NonceReused, NonceWitness
from tests.crash.sampled import some_of
from tests.telemetry.spool.rig import Rig, record
from tests.telemetry.spool.story import (
    KEYS,
    STORIES,
    Story,
    a_batch_of_many,
    a_batch_that_needs_three_segments,
    a_full_spool_trims_first,
    a_segment_filled_sent_freed_and_used_again,
    a_sync_fails,
    a_sync_fails_and_other_records_take_the_numbers,
    commits,
    killed,
    old_epochs_are_sent_and_forgotten,
    records_that_nobody_wants_any_more,
    restarts,
    the_first_sync_of_a_segment_fails,
    two_purposes_and_one_erased,
    with_history,
)

Tell = Callable[[Story], None]


@pytest.mark.parametrize("one_in", [3, pytest.param(1, marks=pytest.mark.soak)])
@pytest.mark.parametrize("tell", STORIES, ids=lambda tell: tell.__name__)
def test_no_power_cut_loses_a_confirmed_record_or_gives_its_name_away(tell: Tell, one_in: int) -> None:
    story = Story(tell)
    if cut := violation(story.scenario, some_of(story.law, one_in), with_history()):
        pytest.fail(cut)


@pytest.mark.parametrize("prepare", [CrashDisk, killed], ids=["first start", "after a kill"])
def test_no_power_cut_at_a_start_loses_anything(prepare: Callable[[], CrashDisk]) -> None:
    story = Story(commits)
    if cut := violation(story.scenario, story.law, prepare()):
        pytest.fail(cut)


@pytest.mark.parametrize("tell", [commits])
def test_every_sync_of_a_segment_and_of_its_name_is_needed(tell: Tell) -> None:
    assert _needless(tell) == []


# Those that no power cut alone can miss. A start syncs what it finds unsealed: only a kill within a commit needs that,
# which test_spool_faults.py shows. A sync that fails does nothing by itself. And of two new segments in one commit the
# later sync of their names covers the earlier, before anything is confirmed.
EXCUSED: dict[Tell, list[str]] = {
    restarts: ["the 12th, sync 'p1-00000005.seg'", "the 13th, sync_folder ''"],
    old_epochs_are_sent_and_forgotten: [
        "the 14th, sync 'p0-00000006.seg'", "the 15th, sync 'p1-00000005.seg'", "the 16th, sync_folder ''",
    ],
    a_full_spool_trims_first: [
        "the 20th, sync 'p3-00000006.seg'", "the 21th, sync_folder ''", "the 30th, sync 'p3-00000008.seg'",
        "the 31th, sync_folder ''", "the 40th, sync 'p3-00000010.seg'", "the 41th, sync_folder ''",
    ],
    a_sync_fails: ["the 8th, sync 'p1-00000005.seg'"],
    the_first_sync_of_a_segment_fails: ["the 6th, sync 'p1-00000005.seg'"],
    a_sync_fails_and_other_records_take_the_numbers: [
        "the 8th, sync 'p1-00000005.seg'", "the 9th, sync 'p1-00000006.seg'",
    ],
    records_that_nobody_wants_any_more: ["the 7th, sync_folder ''"],
    a_batch_of_many: ["the 7th, sync_folder ''"],
}  # fmt: skip


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("tell", STORIES, ids=lambda tell: tell.__name__)
def test_every_sync_of_a_segment_and_of_its_name_is_needed_in_every_life(tell: Tell) -> None:
    assert _needless(tell) == EXCUSED.get(tell, [])


def _needless(tell: Tell) -> list[str]:
    story = Story(tell)
    return [
        f"the {n}th, {call.act} {call.path!r}"
        for n, call in _own_syncs(story)
        if violation(story.scenario, story.law, _without_sync(n)) is None
    ]


def _without_sync(n: int) -> CrashDisk:
    disk = with_history()
    disk.without_sync(n)
    return disk


def _own_syncs(story: Story) -> list[tuple[int, Call]]:
    """All but those of twin records, where each twin stands in for the other: no single one of their syncs counts."""
    disk = with_history()
    before = len(disk.calls)
    story.scenario(disk)
    own, of_twin = [], False
    for n, call in enumerate(call for call in disk.calls[before:] if call.act.startswith("sync")):
        of_twin = call.path.startswith(("books", "keys")) or (of_twin and call.act == "sync_folder")
        if not of_twin:
            own.append((n, call))
    return own


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_ten_thousand_disks_that_power_cuts_leave_lose_nothing_and_reuse_no_nonce() -> None:
    """Every cut of every story, from three beginnings; the disks are counted by what is on them."""
    disks = set[int]()
    for tell in STORIES:
        for prepare in (with_history, CrashDisk, killed):
            story, disk = Story(tell), prepare()
            story.scenario(disk)
            for state in disk.after_crash():
                disks.add(state.fingerprint)
                judged(story, state, tell)
    assert len(disks) >= 10_000


def judged(story: Story, state: CrashState, tell: Tell) -> None:
    try:
        story.law(state)
    except (AssertionError, OutriderError, OSError) as error:
        pytest.fail(f"{tell.__name__}: {state.describe}\n{error!r}")


# What they give away is the segment whose sync failed: it holds nothing that was confirmed.
GIVING_AWAY_NOTHING = (the_first_sync_of_a_segment_fails, a_sync_fails_and_other_records_take_the_numbers)


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "tell", [tell for tell in STORIES if tell not in GIVING_AWAY_NOTHING], ids=lambda tell: tell.__name__
)
def test_without_the_syncs_of_both_twins_something_is_lost_wherever_a_segment_is_given_away(tell: Tell) -> None:
    """One twin stands in for the other, so they are left out together: the run of syncs of one write of both."""
    story = Story(tell)
    unnoticed = []
    for run in _twin_runs(story):
        disk = with_history()
        disk.without_sync(*run.syncs)
        if run.destroys and violation(story.scenario, story.law, disk) is None:
            unnoticed.append(run)
    assert unnoticed == []


@dataclass(frozen=True)
class TwinRun:
    """Syncs of twin records with no other sync between; `destroys`: what follows gives a segment's file away."""

    syncs: tuple[int, ...]
    destroys: bool


def _twin_runs(story: Story) -> list[TwinRun]:
    disk = with_history()
    before = len(disk.calls)
    story.scenario(disk)
    runs, run, number = list[TwinRun](), list[int](), 0
    for call in disk.calls[before:]:
        if call.act in ("sync", "sync_folder"):
            if call.path.startswith(("books", "keys")) or (run and call.act == "sync_folder"):
                run.append(number)
            else:
                run = []
            number += 1
        elif run and call.act in ("rename", "remove") and call.path.startswith("p"):
            runs.append(TwinRun(tuple(run), destroys=True))
            run = []
    return runs


class Forgetful(CrashDisk):
    """Doesn't sync the files of one kind."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self._kind = kind

    def sync(self, path: str) -> None:
        if not path.startswith(self._kind):
            super().sync(path)


@pytest.mark.parametrize(
    ("kind", "tell"),
    [
        ("books", a_segment_filled_sent_freed_and_used_again),
        ("keys", two_purposes_and_one_erased),
        ("p1-", a_batch_that_needs_three_segments),
    ],
)
def test_a_disk_that_forgets_one_kind_of_file_is_noticed(kind: str, tell: Tell) -> None:
    story = Story(tell)
    assert violation(story.scenario, story.law, Forgetful(kind)) is not None


def test_chance_that_repeats_itself_is_noticed() -> None:
    """Epochs, salts and keys drawn twice: what a start without fresh ones would do."""
    story = Story(commits, seed=0)
    assert violation(story.scenario, story.law, with_history()) is not None


def test_a_salt_that_comes_twice_is_noticed_by_whoever_watches_the_nonces() -> None:
    disk, nonces = with_history(), NonceWitness()
    for number in range(2):
        rig = Rig(disk, keys=KEYS, aead=nonces)
        rig.entropy = bytes
        rig.open()
        if number == 0:
            rig.put(record(number))
        else:
            with pytest.raises(NonceReused):
                rig.put(record(number))
