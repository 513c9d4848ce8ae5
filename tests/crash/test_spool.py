"""The spool through every power cut that its disk can have: nothing confirmed is lost, and no name is given out twice.

A Story tells one life of a spool to a CrashDisk and marks what has been promised; its law judges every state that a cut
at any instant could leave, with the ledger of counters gone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest

from ecu.crashdisk import Call, CrashDisk, CrashState, unnoticed_without, violation
from ecu.disk import DiskFault, DiskFull
from ecu.keys import MemoryKeyStore
from telemetry.records import Lane, Purpose
from telemetry.spool.counts import MemoryCounters, SpoolCounts
from tests.telemetry.spool.rig import Key, Rig, key_of, receipt_for, record

KEYS = MemoryKeyStore()
BEGUN = "begun"


@dataclass(frozen=True)
class Moment:
    """What had been promised when a mark was set. `offered` are all that could possibly be on flash; `running` from the
    first offer of a process to its planned end."""

    confirmed: Mapping[Key, bytes] = field(default_factory=dict)
    stored: frozenset[Key] = frozenset()
    erased: frozenset[Purpose] = frozenset()
    offered: int = 0
    running: bool = False


class Story:
    """One life of a spool, told by `tell`, from a disk that has seen another."""

    def __init__(self, tell: Callable[[Story], None]) -> None:
        self._tell = tell
        self.rig: Rig
        self.disk: CrashDisk
        self.moments: list[Moment] = []

    def scenario(self, disk: CrashDisk) -> None:
        self.disk, self.moments = disk, [Moment()]
        disk.mark(BEGUN)
        self.rig = Rig(disk, keys=KEYS, seed=1)
        self.before = durable(self.rig.spool.counts())
        self._tell(self)

    # --- what a story is made of ---

    def put(self, *numbers: int, lane: Lane = Lane.P1, size: int = 10, purpose: Purpose = Purpose.PERCEPTION) -> None:
        self.rig.offer(*(record(n, lane, purpose, size) for n in numbers))
        self.promise()
        self.rig.commit()
        self.promise()

    def acknowledge(self, blocks: int) -> None:
        refs = self.rig.blocks()[:blocks]
        for ref in refs:
            self.rig.send(ref)
        self.promise()
        for ref in refs:
            self.rig.spool.acknowledge(receipt_for(ref))

    def fail_once(self, when: Callable[[Call], bool], error: Exception) -> None:
        spent: list[Call] = []

        def first(call: Call) -> bool:
            if not spent and when(call):
                spent.append(call)
            return spent == [call]

        self.disk.fail(first, error)

    def close(self) -> None:
        self.promise(running=False)
        self.rig.spool.close()

    def promise(self, erased: frozenset[Purpose] = frozenset(), running: bool = True) -> None:
        rig, erased = self.rig, erased | self.moments[-1].erased
        self.moments.append(Moment(dict(rig.confirmed), frozenset(rig.stored), erased, rig.offered, running))
        self.disk.mark(str(len(self.moments) - 1))

    # --- what must be true after a cut ---

    def law(self, state: CrashState) -> None:
        if BEGUN not in state.acknowledged:
            return
        moment = self.moments[max((int(mark) for mark in state.acknowledged - {BEGUN}), default=0)]
        rig = Rig(state.disk, MemoryCounters(was_lost=True), keys=KEYS, seed=2)
        counts = rig.spool.counts()
        assert counts.holds
        assert counts.ledger_lost or not moment.running
        assert not any(lane.quarantined for lane in counts.lanes), "a power cut isn't damage"
        assert len(moment.confirmed) <= durable(counts) - self.before, "durable records were forgotten"
        assert durable(counts) - self.before <= moment.offered, "records were counted twice"
        self._judge_records(moment, rig)
        self._judge_what_follows(rig)

    def _judge_records(self, moment: Moment, rig: Rig) -> None:
        counts = rig.spool.counts()
        items = rig.read()
        there = {key_of(item): item.digest for item in items}
        assert len(there) == len(items) == sum(lane.spooled for lane in counts.lanes)
        assert all(moment.confirmed.get(key, digest) == digest for key, digest in there.items()), "a name changed its record"
        excused = sum(sum(lane.evicted.values()) + lane.erased for lane in counts.lanes)
        lost = moment.confirmed.keys() - there.keys() - moment.stored
        assert len(lost) <= excused, f"{len(lost)} confirmed records are gone"
        assert not any(ref.purpose in moment.erased for ref in rig.blocks()), "what was erased came back"

    def _judge_what_follows(self, rig: Rig) -> None:
        rig.put(record(1001), record(1002, Lane.P0))
        assert not rig.confirmed.keys() & self.rig.confirmed.keys(), "a name was given out a second time"
        rig.drain()
        assert rig.read() == []
        assert rig.spool.counts().holds


def durable(counts: SpoolCounts) -> int:
    return sum(lane.durable for lane in counts.lanes)


def with_history() -> CrashDisk:
    """Its keys are made, and it has free segments with old blocks in them; it was shut down in order."""
    disk = CrashDisk()
    rig = Rig(disk, keys=KEYS, seed=0)
    rig.put(*(record(n, size=3000) for n in range(3)), record(3, Lane.P0))
    rig.drain()
    rig.spool.close()
    return disk.after_shutdown()


def killed() -> CrashDisk:
    """Killed after it had freed segments, nothing of which had been synced: memory knows more than flash."""
    disk = with_history()
    rig = Rig(disk, keys=KEYS, seed=3)
    rig.put(*(record(n, size=3000) for n in range(4)))
    rig.drain()
    return disk


# --- stories ---------------------------------------------------------------------------------------------------------


def commits(story: Story) -> None:
    story.put(1, 2)
    story.put(3, size=3000)
    story.put(4, 5, lane=Lane.P0)


def a_segment_filled_sent_freed_and_used_again(story: Story) -> None:
    story.put(1, 2, size=3000)
    story.put(3, size=3000)
    story.acknowledge(2)
    story.put(4, 5, size=3000)
    story.put(6)


def a_batch_that_needs_three_segments(story: Story) -> None:
    story.put(1, 2, 3, 4, 5, size=3000)


def two_purposes_and_one_erased(story: Story) -> None:
    story.put(1, 2)
    story.put(3, 4, purpose=Purpose.DRIVING)
    story.rig.spool.erase(Purpose.DRIVING)
    story.promise(erased=frozenset({Purpose.DRIVING}))
    story.acknowledge(1)


def restarts(story: Story) -> None:
    story.put(1)
    story.rig.open()
    story.put(2)
    story.close()
    story.rig.open()
    story.put(3)


def a_full_spool_evicts(story: Story) -> None:
    for number in range(0, 20, 2):
        story.put(number, number + 1, size=3000, lane=Lane.P3)
    story.put(20, 21, size=3000)


def a_sync_fails(story: Story) -> None:
    story.put(1)
    story.fail_once(lambda call: call.act == "sync" and call.path.startswith("p1"), DiskFault("worn"))
    story.put(2)
    story.put(3)


def a_sync_fails_and_other_records_take_the_numbers(story: Story) -> None:
    story.put(1)
    story.disk.fail(lambda call: call.act == "sync" and call.path.startswith("p1"), DiskFault("worn"))
    story.put(2)
    story.disk.heal()
    assert story.rig.spool.withdraw(Purpose.PERCEPTION) == 1
    story.put(3)


STORIES = [
    commits,
    a_segment_filled_sent_freed_and_used_again,
    a_batch_that_needs_three_segments,
    two_purposes_and_one_erased,
    restarts,
    a_full_spool_evicts,
    a_sync_fails,
    a_sync_fails_and_other_records_take_the_numbers,
]


@pytest.mark.parametrize("tell", STORIES, ids=lambda tell: tell.__name__)
def test_no_power_cut_loses_a_confirmed_record_or_gives_its_name_away(tell: Callable[[Story], None]) -> None:
    story = Story(tell)
    if cut := violation(story.scenario, story.law, with_history()):
        pytest.fail(cut)


@pytest.mark.parametrize("prepare", [CrashDisk, killed], ids=["first start", "after a kill"])
def test_no_power_cut_at_a_start_loses_anything(prepare: Callable[[], CrashDisk]) -> None:
    story = Story(a_segment_filled_sent_freed_and_used_again)
    if cut := violation(story.scenario, story.law, prepare()):
        pytest.fail(cut)
