"""The spool killed between any two calls, on a disk that is full or failing at any call, and on one that forgets bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from ecu.crashdisk import Call, CrashDisk
from ecu.disk import DiskError, DiskFault, DiskFull
from telemetry.records import Lane
from telemetry.spool.counts import MemoryCounters, Quarantined
from telemetry.wire import BadBlock
from tests.telemetry.spool.rig import Rig, key_of, record
from tests.telemetry.spool.story import KEYS, STORIES, Story, commits, durable, judge, with_history

Tell = Callable[[Story], None]
SPACE_TAKERS = ("create", "write_at", "make_folder")


class Killed(BaseException):
    """SIGKILL: nobody catches it, and the page cache stays."""


def calls_of(tell: Tell) -> int:
    story, disk = Story(tell), with_history()
    before = len(disk.calls)
    story.scenario(disk)
    return len(disk.calls) - before


def each_call(tells: list[Tell], step: int = 1) -> Iterator[tuple[Tell, int]]:
    return ((tell, n) for tell in tells for n in range(0, calls_of(tell), step))


def tell_until_it_breaks(story: Story, disk: CrashDisk) -> None:
    """The agent ends on what a spool raises; records in its memory are then lost, and counted."""
    try:
        story.scenario(disk)
    except (Killed, DiskError):
        pass


def judge_the_next_life(story: Story, disk: CrashDisk) -> None:
    """With the ledger, which a kill doesn't take, law 1 is exact: every record ever offered is accounted for."""
    disk.heal()
    rig = Rig(disk, story.counters, keys=KEYS, seed=2)
    counts = rig.spool.counts()
    if len(story.moments) > 1:
        offered = sum(lane.offered for lane in counts.lanes)
        assert offered - story.before == story.rig.offered
        assert durable(counts) - story.before >= len(story.rig.confirmed)
        story.promise()
        judge(story.moments[-1], rig)


@pytest.mark.parametrize("tell", STORIES, ids=lambda tell: tell.__name__)
def test_a_kill_between_any_two_acts_loses_nothing_confirmed_and_counts_the_rest(tell: Tell) -> None:
    for n in range(calls_of(tell)):
        story, disk = Story(tell), with_history()
        disk.fail(n, Killed())
        tell_until_it_breaks(story, disk)
        judge_the_next_life(story, disk)


@pytest.mark.parametrize("error", [DiskFault("worn"), DiskFull("full")], ids=["EIO", "ENOSPC"])
@pytest.mark.parametrize("tell", STORIES, ids=lambda tell: tell.__name__)
def test_one_call_that_fails_loses_nothing_confirmed(tell: Tell, error: DiskError) -> None:
    for n in range(calls_of(tell)):
        story, disk = Story(tell), with_history()
        disk.fail(n, error)
        tell_until_it_breaks(story, disk)
        judge_the_next_life(story, disk)
