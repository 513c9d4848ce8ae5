"""What left without an acknowledgement is told to the receiver: no number is missing there that nobody explained."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecu.clock import SECOND_NS
from ecu.crashdisk import CrashDisk
from telemetry.records import Lane, Purpose, Record, RecordsLeft, decode_event
from telemetry.spool.format import unpack_entry
from telemetry.spool.intervals import IntervalSet
from telemetry.spool.shelf import segment_name
from telemetry.spool.untold import (
    MOST_RANGES,
    MOST_TOLD,
    Key,
    Untold,
    heard,
    next_report,
    told_by,
    unheard,
    with_range,
    with_unranged,
)
from telemetry.wire import BadBlock, unpack_block, unpack_body
from tests.telemetry.spool.rig import ROOMY, SMALL, Rig, record

KEYS = [(Lane.P1, b"a" * 16, "evicted:quota"), (Lane.P1, b"b" * 16, "erased"), (Lane.P3, b"c" * 16, "evicted:quota")]
EPOCH = b"e" * 16
BY = Lane.P1, EPOCH, 0
LEAVING = st.lists(st.tuples(st.sampled_from(KEYS), st.integers(0, 2000), st.integers(1, 9)), max_size=120)


@given(LEAVING)
def test_few_ranges_are_held_and_the_rest_keeps_its_count(leaving: list[tuple[Key, int, int]]) -> None:
    untold, all_left = Untold(), defaultdict[Key, IntervalSet](IntervalSet)
    for key, start, length in leaving:
        for part in list(all_left[key].gaps(start, start + length)):
            untold = with_range(untold, key, *part)
        all_left[key].add(start, start + length)
        assert sum(map(len, untold.ranges.values())) <= MOST_RANGES
    assert untold.records == sum(end - start for ranges in all_left.values() for start, end in ranges)
    assert all(all_left[key].covers(*part) for key, ranges in untold.ranges.items() for part in ranges)


@given(LEAVING, st.integers(0, 5))
def test_each_telling_leaves_less_to_tell_until_nothing_is(leaving: list[tuple[Key, int, int]], lost: int) -> None:
    untold = with_unranged(Untold(), Lane.P2, "quarantined:missing", lost)
    for key, start, length in leaving:
        untold = with_range(untold, key, start, start + length)
    while (report := next_report(untold)) is not None:
        less = heard(told_by(untold, BY, report), BY)
        assert less.records < untold.records
        untold = less
    assert untold == Untold()


@given(LEAVING, st.integers(0, 5), st.lists(st.booleans(), max_size=12))
def test_what_is_told_to_nobody_is_not_less_to_tell(
    leaving: list[tuple[Key, int, int]], lost: int, tellings: list[bool]
) -> None:
    untold = with_unranged(Untold(), Lane.P2, "quarantined:missing", lost)
    for key, start, length in leaving:
        untold = with_range(untold, key, start, start + length)
    before = untold.records
    for seq, is_lost in enumerate(tellings):
        if (report := next_report(untold)) is not None:
            untold = told_by(untold, (Lane.P1, EPOCH, seq), report)
            untold = unheard(untold, (Lane.P1, EPOCH, seq)) if is_lost else untold
    assert len(untold.told) <= MOST_TOLD
    for name in list(untold.told):
        untold = unheard(untold, name)
    assert untold.records == before
    assert not untold.told


def test_what_leaves_while_a_report_is_under_way_is_still_to_be_told() -> None:
    untold = with_range(Untold(), KEYS[0], 0, 10)
    report = next_report(untold)
    assert report is not None
    told = told_by(with_range(untold, KEYS[0], 10, 12), BY, report)
    assert told == Untold({KEYS[0]: ((10, 12),)}, told={BY: report})


class Receiver:
    """Stores all that it is sent, and reads what it was told of the rest."""

    def __init__(self) -> None:
        self.stored: defaultdict[tuple[int, bytes], IntervalSet] = defaultdict(IntervalSet)
        self.told: defaultdict[tuple[int, bytes], IntervalSet] = defaultdict(IntervalSet)
        self.reasons = set[str]()
        self.unranged = 0

    def take(self, rig: Rig) -> None:
        for ref in rig.blocks():
            try:
                header, body = unpack_block(rig.spool.load(ref))
            except BadBlock:
                continue
            self.stored[header.lane, header.epoch].add(header.base_seq, header.end_seq)
            for event in (decode_event(stored.event) for stored in unpack_body(header, body)):
                if isinstance(event, RecordsLeft):
                    self._hear(event)
            rig.acknowledge(ref)

    def _hear(self, event: RecordsLeft) -> None:
        self.reasons.add(event.reason)
        self.unranged += event.unranged
        for part in event.ranges:
            self.told[event.lane, event.epoch].add(*part)

    def unexplained(self, rig: Rig) -> list[object]:
        """Confirmed records that it neither has nor heard of."""
        return [
            key for key in rig.confirmed
            if not self.stored[key[:2]].covers(key[2], key[2] + 1) and not self.told[key[:2]].covers(key[2], key[2] + 1)
        ]  # fmt: skip


def tell_and_take(rig: Rig, receiver: Receiver) -> None:
    receiver.take(rig)
    while rig.tell():
        rig.commit()
        receiver.take(rig)


def evict(rig: Rig) -> str:
    for number in range(20, 40):
        rig.put(record(number, Lane.P3, size=6000))
    return "evicted:quota"


def erase(rig: Rig) -> str:
    rig.spool.erase(Purpose.PERCEPTION)
    return "erased"


def expire(rig: Rig) -> str:
    rig.put(record(50, keep_s=10))
    rig.clock.advance(rig.clock.boot_ns() + 60 * SECOND_NS)
    rig.spool.expire()
    return "evicted:expired"


def refuse(rig: Rig) -> str:
    rig.spool.quarantine(rig.blocks()[0], "no")
    return "quarantined:refused"


def rot(rig: Rig) -> str:
    assert isinstance(rig.disk, CrashDisk)
    rig.put(record(60), record(61, purpose=Purpose.DRIVING))
    rig.put(record(62))
    segment = rig.spool.segments(Lane.P1)[0]
    rig.disk.flip_bit(segment.name, (segment.block(0).page * 4096 + 9) * 8)
    rig.open()
    return "quarantined:corrupt"


@pytest.mark.parametrize("leave", [evict, erase, expire, refuse, rot])
def test_every_number_that_never_comes_is_explained_to_the_receiver(leave: Callable[[Rig], str]) -> None:
    rig, receiver = Rig(CrashDisk(), limits=SMALL if leave is evict else ROOMY), Receiver()
    rig.put(record(1), record(2, Lane.P3))
    reason = leave(rig)
    tell_and_take(rig, receiver)
    assert receiver.reasons == {reason}
    assert receiver.unexplained(rig) == []
    assert receiver.unranged == 0
    assert rig.spool.counts().untold == 0
    assert not rig.tell()


def test_a_receiver_that_hears_nothing_misses_some() -> None:
    rig, receiver = Rig(CrashDisk(), limits=ROOMY), Receiver()
    rig.put(record(1), record(2))
    erase(rig)
    receiver.take(rig)
    assert len(receiver.unexplained(rig)) == 2


def test_what_was_not_told_yet_is_told_after_a_restart() -> None:
    rig, receiver = Rig(CrashDisk(), limits=ROOMY), Receiver()
    rig.put(record(1))
    rig.spool.quarantine(rig.blocks()[0], "no")
    rig.spool.close()
    rig.open()
    assert rig.spool.counts().untold == 1
    tell_and_take(rig, receiver)
    assert receiver.unexplained(rig) == []


def test_a_report_that_was_not_durable_is_told_again_and_a_second_time_is_as_good_as_once() -> None:
    rig, receiver = Rig(CrashDisk(), limits=ROOMY), Receiver()
    rig.put(record(1))
    rig.spool.quarantine(rig.blocks()[0], "no")
    rig.spool.close()
    rig.open()
    assert rig.tell()
    assert not rig.tell(), "one at a time"
    rig.open()
    for _ in range(2):
        tell_and_take(rig, receiver)
        rig.open()
    assert receiver.unexplained(rig) == []


def test_records_that_only_the_ledger_knew_of_are_told_by_their_count() -> None:
    rig, receiver = Rig(disk := CrashDisk(), limits=ROOMY), Receiver()
    rig.put(record(1), record(2))
    disk.remove(rig.spool.segments(Lane.P1)[0].name)
    rig.open()
    tell_and_take(rig, receiver)
    assert (receiver.reasons, receiver.unranged) == ({"quarantined:missing"}, 2)


def test_what_privacy_forbids_to_tell_stays_untold() -> None:
    rig = Rig(CrashDisk(), limits=ROOMY)
    rig.put(record(1))
    rig.spool.quarantine(rig.blocks()[0], "no")
    asked: list[Record] = []

    def forbid(record: Record) -> Record | None:
        asked.append(record)
        return None

    for _ in range(3):
        assert not rig.spool.tell_what_left(0, forbid)
    assert len(asked) == 1
    assert rig.spool.counts().untold == 1
    assert rig.spool.counts().holds


def test_a_purge_that_takes_the_report_along_has_it_told_anew() -> None:
    rig, receiver = Rig(CrashDisk(), limits=ROOMY), Receiver()
    rig.put(record(1))
    rig.spool.quarantine(rig.blocks()[0], "no")
    assert rig.tell()
    assert rig.spool.withdraw(Purpose.OPERATION) == 1
    tell_and_take(rig, receiver)
    assert receiver.unexplained(rig) == []


def test_what_left_is_told_as_coarsely_as_privacy_asks() -> None:
    rig = Rig(CrashDisk(), limits=ROOMY)
    rig.put(record(1))
    rig.spool.quarantine(rig.blocks()[0], "no")
    rig.clock.advance(1234)
    assert rig.spool.tell_what_left(0, lambda record: replace(record, captured_ns=1000))
    rig.commit()
    header, body = unpack_block(rig.spool.load(rig.blocks()[0]))
    assert [stored.captured_ns for stored in unpack_body(header, body)] == [1000]


def test_a_purge_of_others_has_nothing_told_twice() -> None:
    """A count that is told twice counts twice."""
    rig, receiver = Rig(disk := CrashDisk(), limits=ROOMY), Receiver()
    rig.put(record(1), record(2))
    disk.remove(rig.spool.segments(Lane.P1)[0].name)
    rig.open()
    assert rig.tell()
    rig.offer(record(3), record(4, Lane.P2))
    assert rig.spool.withdraw(Purpose.PERCEPTION) == 2
    rig.tell()
    rig.commit()
    tell_and_take(rig, receiver)
    assert receiver.unranged == 2


def refuse_the_report(rig: Rig) -> None:
    rig.spool.quarantine(rig.blocks()[-1], "no")


def erase_the_report(rig: Rig) -> None:
    rig.spool.erase(Purpose.OPERATION)


def evict_the_report(rig: Rig) -> None:
    for number in range(20, 90):
        rig.put(record(number, Lane.P1, size=6000))
    assert rig.spool.counts().lanes[Lane.P1].evicted


def rot_the_report(rig: Rig) -> None:
    assert isinstance(rig.disk, CrashDisk)
    ref = rig.blocks()[-1]
    rig.put(record(60))
    rig.spool.close()
    rig.disk.flip_bit(segment_name(ref.lane, ref.serial), (ref.page * 4096 + 9) * 8)
    rig.open()


def lose_the_file_of_the_report(rig: Rig) -> None:
    assert isinstance(rig.disk, CrashDisk)
    rig.spool.close()
    rig.disk.remove(rig.spool.segments(Lane.P1)[0].name)
    rig.open()


def restart_first(lose: Callable[[Rig], None]) -> Callable[[Rig], None]:
    def lose_after_a_restart(rig: Rig) -> None:
        rig.spool.close()
        rig.open()
        lose(rig)

    return lose_after_a_restart


LOSSES = [refuse_the_report, erase_the_report, evict_the_report, rot_the_report, lose_the_file_of_the_report]


@pytest.mark.parametrize("lose", [*LOSSES, *map(restart_first, LOSSES)])
@pytest.mark.parametrize("restarted", [False, True])
def test_what_was_told_in_a_record_that_left_itself_is_told_anew(lose: Callable[[Rig], None], restarted: bool) -> None:
    rig, receiver = Rig(CrashDisk(), limits=ROOMY), Receiver()
    rig.put(record(1, Lane.P3))
    rig.spool.quarantine(rig.blocks()[0], "no")
    (gone,) = (key for key in rig.confirmed if key[0] == Lane.P3)
    assert rig.tell()
    rig.commit()
    lose(rig)
    if restarted:
        rig.spool.close()
        rig.open()
    tell_and_take(rig, receiver)
    assert receiver.told[gone[:2]].covers(gone[2], gone[2] + 1)
    assert rig.spool.counts().untold == 0


def test_what_a_receiver_has_acknowledged_to_have_heard_is_never_told_again() -> None:
    """A count that is told twice counts twice."""
    rig, receiver = Rig(disk := CrashDisk(), limits=ROOMY), Receiver()
    rig.put(record(1), record(2))
    disk.remove(rig.spool.segments(Lane.P1)[0].name)
    rig.open()
    for _ in range(3):
        tell_and_take(rig, receiver)
        rig.spool.erase(Purpose.OPERATION)
        rig.spool.close()
        rig.open()
    assert receiver.unranged == 2


def test_a_report_that_waits_for_a_receiver_survives_a_restart_as_told() -> None:
    rig, receiver = Rig(disk := CrashDisk(), limits=ROOMY), Receiver()
    rig.put(record(1), record(2))
    disk.remove(rig.spool.segments(Lane.P1)[0].name)
    rig.open()
    assert rig.tell()
    rig.commit()
    rig.spool.close()
    rig.open()
    assert not rig.tell()
    tell_and_take(rig, receiver)
    assert receiver.unranged == 2


def test_while_nobody_takes_them_only_so_many_reports_are_written() -> None:
    rig, receiver = Rig(CrashDisk(), limits=ROOMY), Receiver()
    for number in range(3 * MOST_TOLD):
        rig.put(record(number, Lane.P3))
        rig.spool.close()
        rig.open()
        rig.spool.quarantine(rig.lane_blocks(Lane.P3)[0], "no")
        rig.tell()
        rig.commit()
    assert rig.spool.counts().lanes[Lane.P1].spooled == MOST_TOLD
    tell_and_take(rig, receiver)
    assert receiver.unexplained(rig) == []
    assert rig.spool.counts().untold == 0


def test_a_number_that_a_torn_commit_left_empty_is_explained_too() -> None:
    rig, receiver = Rig(disk := CrashDisk(), limits=ROOMY), Receiver()
    rig.offer(record(1), record(2, purpose=Purpose.DRIVING))
    batch = rig.spool.take(0, everything=True)
    assert batch is not None
    (lane,) = rig.spool.write(batch)
    assert len(lane.blocks) == 2
    # The first of the two is torn, and nobody had heard that either is durable.
    disk.flip_bit(rig.spool.segments(Lane.P1)[0].name, (unpack_entry(lane.blocks[0].entry, 0).page * 4096 + 9) * 8)
    rig.open()
    tell_and_take(rig, receiver)
    ((stream, told),) = receiver.told.items()
    assert receiver.reasons == {"lost_in_crash"}
    assert list(told) == [(0, 1)]
    assert IntervalSet([*receiver.stored[stream], *told]).covers(0, 2)
