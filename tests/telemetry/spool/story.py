"""A Story tells one life of a spool to a CrashDisk, marks what has been promised, and judges what is left of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count

from ecu.clock import SECOND_NS
from ecu.crashdisk import Call, CrashDisk, CrashState
from ecu.disk import DiskFault
from ecu.keys import MemoryKeyStore
from telemetry.records import Lane, Purpose, Record, RecordBatch
from telemetry.spool.ciphers import NonceWitness
from telemetry.spool.counts import Evicted, LaneCounts, MemoryCounters, SpoolCounts
from telemetry.spool.intervals import IntervalSet, Range
from telemetry.spool.shelf import Stream
from tests.telemetry.spool.rig import WIDE, Key, Rig, Told, key_of, receipt_for, record, records_of

KEYS = MemoryKeyStore()
BEGUN = "begun"
_branches = count()


@dataclass(frozen=True)
class Moment:
    """What had been promised when a mark was set. `possible`: more can't be durable, of all the lives so far; `running`
    from the first offer of a process to its planned end; `excused`: may have expired, or been refused."""

    confirmed: Mapping[Key, bytes] = field(default_factory=dict)
    stored: Mapping[Key, bytes] = field(default_factory=dict)
    erased: frozenset[Key] = frozenset()
    possible: int = 0
    running: bool = False
    excused: frozenset[Key] = frozenset()
    told: frozenset[Told] = frozenset()


class Story:
    """One life of a spool, told by `tell`, from a disk that has seen another, whose promises it inherits."""

    def __init__(self, tell: Callable[[Story], None], inherited: Moment | None = None, seed: int = 1) -> None:
        self._tell = tell
        self._inherited = inherited or Moment()
        self._seed = seed
        self.rig: Rig
        self.disk: CrashDisk
        self.counters = MemoryCounters()
        self.moments: list[Moment] = []
        self._excused = set[Key]()
        # Over this life and every life that could follow each of its cuts, as if somebody had copied the flash there
        # and let them all happen.
        self.nonces = NonceWitness()

    def scenario(self, disk: CrashDisk) -> None:
        old = self._inherited
        self.disk, self.moments, self.counters = disk, [Moment()], MemoryCounters()
        self._excused = set(old.excused)
        disk.mark(BEGUN)
        self.rig = Rig(disk, self.counters, keys=KEYS, seed=self._seed, aead=self.nonces)
        self.rig.confirmed |= old.confirmed
        self.rig.stored |= old.stored
        self.rig.told |= old.told
        self.before = durable(self.rig.spool.counts())
        # What one cut tore in two may be made whole by the half of a later write: durable late, and never confirmed.
        self.possible = max(self.before, old.possible)
        self.moments = [
            Moment(old.confirmed, old.stored, old.erased, self.possible, excused=old.excused, told=old.told)
        ]
        self._tell(self)

    # --- what a story is made of ---

    def put(self, *numbers: int, lane: Lane = Lane.P1, size: int = 10, purpose: Purpose = Purpose.PERCEPTION) -> None:
        self.commit(*(record(n, lane, purpose, size) for n in numbers))

    def commit(self, *records: Record) -> None:
        self.rig.offer(*records)
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

    def grow_old(self, seconds: int) -> None:
        """What was wanted for less leaves; while it does, any that lay there may have left."""
        before, there = self._excused, {key_of(item) for item in self.rig.read()}
        self._excused = before | there
        self.promise()
        self.rig.clock.advance(self.rig.clock.boot_ns() + seconds * SECOND_NS)
        self.rig.spool.expire()
        self._excused = before | there - {key_of(item) for item in self.rig.read()}
        self.promise()

    def tell(self) -> None:
        """What left without an acknowledgement, in records of their own."""
        while self.rig.tell():
            self.promise()
            self.rig.commit()
            self.promise()

    def quarantine(self) -> None:
        ref = self.rig.blocks()[0]
        self._excused |= {key_of(item) for item in records_of(self.rig.spool.load(ref))}
        self.promise()
        self.rig.spool.quarantine(ref, "no")

    def erase(self, purpose: Purpose) -> None:
        refs = [ref for ref in self.rig.blocks() if ref.purpose is purpose]
        doomed = {key_of(item) for ref in refs for item in records_of(self.rig.spool.load(ref))}
        self.rig.spool.erase(purpose)
        self.promise(erased=frozenset(doomed))

    def close(self) -> None:
        self.promise(running=False)
        self.rig.spool.close()

    def fail_once(self, when: Callable[[Call], bool], error: Exception) -> None:
        spent: list[Call] = []

        def first(call: Call) -> bool:
            if not spent and when(call):
                spent.append(call)
            return spent == [call]

        self.disk.fail(first, error)

    def promise(self, erased: frozenset[Key] = frozenset(), running: bool = True) -> None:
        rig, erased = self.rig, erased | self.moments[-1].erased
        possible = self.possible + rig.offered
        excused = frozenset(self._excused)
        self.moments.append(
            Moment(dict(rig.confirmed), dict(rig.stored), erased, possible, running, excused, frozenset(rig.told))
        )
        self.disk.mark(str(len(self.moments) - 1))

    # --- what must be true after a power cut ---

    def moment_of(self, state: CrashState) -> Moment:
        return self.moments[max((int(mark) for mark in state.acknowledged - {BEGUN}), default=0)]

    def law(self, state: CrashState) -> None:
        if BEGUN not in state.acknowledged:
            return
        moment = self.moment_of(state)
        branch = f"branch {next(_branches)}" if self._seed else 0
        rig = Rig(state.disk, MemoryCounters(was_lost=True), keys=KEYS, seed=branch, aead=self.nonces)
        counts = rig.spool.counts()
        assert counts.ledger_lost or not moment.running
        fresh = len(moment.confirmed) - len(self._inherited.confirmed)
        assert fresh <= durable(counts) - self.before, "durable records were forgotten"
        assert durable(counts) <= moment.possible, "records were counted twice"
        judge(moment, rig)


def judge(moment: Moment, rig: Rig) -> None:
    """A spool opened after whatever happened: all that was promised is there, once, and life goes on."""
    counts = rig.spool.counts()
    assert counts.holds
    assert not any(lane.quarantined.keys() - {"refused"} for lane in counts.lanes), "this isn't damage"
    items = rig.read()
    there = {key_of(item): item.digest for item in items}
    assert len(there) == len(items) == sum(lane.spooled for lane in counts.lanes)
    changed = [key for key, digest in there.items() if moment.confirmed.get(key, digest) != digest]
    assert not changed, "a name changed its record"
    excused = sum(sum(_evicted(lane)) + lane.erased for lane in counts.lanes)
    lost = moment.confirmed.keys() - there.keys() - moment.stored.keys() - moment.excused
    assert len(lost) <= excused, f"{len(lost)} confirmed records are gone"
    assert not there.keys() & moment.erased, "what was erased came back"

    known = moment.confirmed.keys() | there.keys()
    rig.put(record(1001), record(1002, Lane.P0))
    assert len(rig.confirmed) == 2
    assert not rig.confirmed.keys() & known, "a name was given out a second time"
    rig.drain()
    assert rig.read() == []
    assert rig.spool.counts().holds
    assert rig.spool.counts().segments == 2, "a segment that nobody wants isn't freed"
    assert unexplained(moment, rig) == [], "numbers that the receiver neither has nor heard of"


def unexplained(moment: Moment, rig: Rig) -> list[tuple[int, bytes, Range]]:
    """Once the receiver has all that the spool has to tell: what it misses below the last that it has of each epoch."""
    while rig.tell():
        rig.commit()
        rig.drain()
    stored, known = defaultdict[Stream, IntervalSet](IntervalSet), defaultdict[Stream, IntervalSet](IntervalSet)
    for lane, epoch, seq in moment.stored.keys() | rig.stored.keys():
        stored[Lane(lane), epoch].add(seq, seq + 1)
        known[Lane(lane), epoch].add(seq, seq + 1)
    for lane, epoch, start, end in moment.told | rig.told:
        known[Lane(lane), epoch].add(start, end)
    ends = {stream: max(end for _, end in ranges) for stream, ranges in stored.items()}
    return [(*stream, gap) for stream, end in ends.items() for gap in known[stream].gaps(0, end)]


def _evicted(lane: LaneCounts) -> list[int]:
    """What is excused by name isn't excused by its number once more."""
    return [records for why, records in lane.evicted.items() if why != Evicted.EXPIRED]


def durable(counts: SpoolCounts) -> int:
    return sum(lane.durable for lane in counts.lanes)


# --- where stories begin ---------------------------------------------------------------------------------------------


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


def two_blocks_in_one_commit(story: Story) -> None:
    story.commit(record(1), record(2, purpose=Purpose.DRIVING))


def a_batch_that_needs_three_segments(story: Story) -> None:
    story.put(1, 2, 3, 4, 5, size=3000)


def two_purposes_and_one_erased(story: Story) -> None:
    story.put(1, 2)
    story.put(3, 4, purpose=Purpose.DRIVING)
    story.erase(Purpose.DRIVING)
    story.acknowledge(1)
    story.put(5)


def an_erased_purpose_that_had_a_segment_to_itself(story: Story) -> None:
    story.put(1, purpose=Purpose.DRIVING)
    story.erase(Purpose.DRIVING)
    story.put(2)


def restarts(story: Story) -> None:
    story.put(1)
    story.rig.open()
    story.put(2)
    story.close()
    story.rig.open()
    story.put(3)


def old_epochs_are_sent_and_forgotten(story: Story) -> None:
    story.put(1)
    story.put(2, lane=Lane.P0)
    story.rig.open()
    story.acknowledge(1)
    story.acknowledge(1)
    story.put(3)


def a_full_spool_evicts(story: Story) -> None:
    for number in range(5):
        story.put(number, size=6000, lane=Lane.P3)
    story.put(5, size=6000)
    story.put(6, size=6000)


def a_full_spool_trims_first(story: Story) -> None:
    story.rig.limits = WIDE
    for number in range(4):
        story.rig.open()
        story.put(number, lane=Lane.P3)
    assert any(segment.file_bytes < WIDE.segment_bytes for segment in story.rig.spool.segments(Lane.P3))
    assert not story.rig.spool.counts().lanes[Lane.P3].evicted


def a_sync_fails(story: Story) -> None:
    story.put(1)
    story.fail_once(lambda call: call.act == "sync" and call.path.startswith("p1"), DiskFault("worn"))
    story.put(2)
    story.put(3)


def the_first_sync_of_a_segment_fails(story: Story) -> None:
    story.fail_once(lambda call: call.act == "sync" and call.path.startswith("p1"), DiskFault("worn"))
    story.put(1)


def a_sync_fails_and_other_records_take_the_numbers(story: Story) -> None:
    story.put(1)
    story.disk.fail(lambda call: call.act == "sync" and call.path.startswith("p1"), DiskFault("worn"))
    story.put(2)
    story.disk.heal()
    assert story.rig.spool.withdraw(Purpose.PERCEPTION) == 1
    story.put(3)


def records_that_nobody_wants_any_more(story: Story) -> None:
    story.commit(record(1, keep_s=60), record(2), record(3, Lane.P0, keep_s=60))
    story.grow_old(90)
    story.put(4)
    story.grow_old(3700)
    story.tell()


def a_refused_block_and_what_is_told_of_it(story: Story) -> None:
    story.put(1)
    story.put(2)
    story.quarantine()
    story.tell()
    story.acknowledge(1)


def a_report_that_leaves_itself_and_is_told_anew(story: Story) -> None:
    story.put(1)
    story.quarantine()
    story.tell()
    story.erase(Purpose.OPERATION)
    story.tell()
    story.acknowledge(1)


def a_batch_of_many(story: Story) -> None:
    events = [record(n, size=600).event for n in range(12)]
    story.rig.spool.offer_many(RecordBatch(Lane.P1, Purpose.PERCEPTION, range(12), events), 0)
    story.rig.offered += 12
    story.commit(record(20, Lane.P0))


STORIES = [
    commits,
    a_segment_filled_sent_freed_and_used_again,
    two_blocks_in_one_commit,
    a_batch_that_needs_three_segments,
    two_purposes_and_one_erased,
    an_erased_purpose_that_had_a_segment_to_itself,
    restarts,
    old_epochs_are_sent_and_forgotten,
    a_full_spool_evicts,
    a_full_spool_trims_first,
    a_sync_fails,
    the_first_sync_of_a_segment_fails,
    a_sync_fails_and_other_records_take_the_numbers,
    records_that_nobody_wants_any_more,
    a_refused_block_and_what_is_told_of_it,
    a_report_that_leaves_itself_and_is_told_anew,
    a_batch_of_many,
]
