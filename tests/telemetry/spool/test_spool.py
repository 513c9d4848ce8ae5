from __future__ import annotations

from collections import defaultdict

import msgspec
import pytest

from ecu.crashdisk import CrashDisk
from ecu.disk import DiskFault
from ecu.keys import MemoryKeyStore
from telemetry.records import COMMIT_AFTER_NS, Health, Lane, Purpose, Record, decode_event
from telemetry.spool.counts import Dropped, Evicted, MemoryCounters, Quarantined
from telemetry.spool.departures import _MOST_RANGES
from telemetry.spool.format import frames_in, unpack_segment_header
from telemetry.spool.limits import PAGE_BYTES, SpoolLimits
from telemetry.wire import BadBlock, Receipt, unpack_block, unpack_body
from tests.telemetry.spool.rig import ROOMY, SMALL, Rig, key_of, receipt_for, record, records_of


@pytest.fixture
def rig() -> Rig:
    return Rig(CrashDisk(), limits=ROOMY)


# --- in ---


def test_what_was_offered_is_what_travels(rig: Rig) -> None:
    event = Health("camera_lost", "front")
    rig.spool.offer(Record(Lane.P1, Purpose.OPERATION, 7, event), wall_ns=9)
    rig.commit()
    [ref] = rig.blocks()
    header, body = unpack_block(rig.spool.load(ref))
    [stored] = unpack_body(header, body)
    assert (header.lane, header.purpose, header.base_seq, header.count) == (Lane.P1, Purpose.OPERATION, 0, 1)
    assert (stored.captured_ns, stored.wall_ns, decode_event(stored.event)) == (7, 9, event)
    assert ref.wire_bytes == len(rig.spool.load(ref))


def test_each_record_is_confirmed_once_with_its_name_and_digest(rig: Rig) -> None:
    confirmed = rig.put(*(record(n, Lane(n % 4), Purpose(1 + n % 3), size=400) for n in range(80)))
    assert len(confirmed) == 80
    assert sorted(map(key_of, confirmed)) == sorted(map(key_of, rig.read()))
    assert {key_of(item): item.digest for item in rig.read()} == rig.confirmed


def test_numbers_begin_at_zero_in_each_epoch_and_leave_no_gap(rig: Rig) -> None:
    for _ in range(3):
        rig.put(*(record(n, size=2000) for n in range(7)))
        rig.open()
    epochs: dict[bytes, list[int]] = {}
    for item in rig.read():
        epochs.setdefault(item.epoch, []).append(item.seq)
    assert list(epochs.values()) == [list(range(7))] * 3


def test_a_record_that_no_block_can_hold_is_dropped_and_counted(rig: Rig) -> None:
    assert rig.offer(record(1, size=20_000)) == 0
    [lane] = [lane for lane in rig.spool.counts().lanes if lane.offered]
    assert lane.dropped == {Dropped.TOO_LARGE: 1}
    assert rig.spool.counts().holds


def test_a_full_queue_drops_and_counts() -> None:
    rig = Rig(CrashDisk(), limits=SMALL.model_copy(update={"queue_records": 5}))
    assert rig.offer(*(record(n) for n in range(8))) == 5
    counts = rig.spool.counts()
    assert counts.lanes[Lane.P1].dropped == {Dropped.QUEUE_FULL: 3}
    assert counts.lanes[Lane.P1].pending == 5
    assert counts.holds
    assert len(rig.commit()) == 5


def test_a_commit_is_due_by_its_lanes_time(rig: Rig) -> None:
    rig.offer(record(1, Lane.P2))
    assert rig.spool.due_ns() == COMMIT_AFTER_NS[Lane.P2]
    rig.clock.advance(5)
    rig.offer(record(2, Lane.P0))
    assert rig.spool.due_ns() == 5 + COMMIT_AFTER_NS[Lane.P0]
    assert rig.spool.take(rig.clock.boot_ns()) is None


def test_law_1_holds_at_every_step_of_a_commit(rig: Rig) -> None:
    rig.offer(record(1), record(2, Lane.P0))
    assert rig.spool.counts().holds
    batch = rig.spool.take(0, everything=True)
    assert batch is not None
    assert rig.spool.counts().holds
    written = rig.spool.write(batch)
    assert rig.spool.counts().holds
    assert rig.blocks() == [], "nothing is sent before it is settled"
    rig.spool.settle(written)
    assert rig.spool.counts().holds
    assert len(rig.blocks()) == 2


# --- out ---


def test_the_oldest_goes_first_over_all_epochs(rig: Rig) -> None:
    for number in range(4):
        rig.put(record(number, size=6000))
        if number % 2:
            rig.open()
    sent = [decode_first(rig, index) for index in range(4)]
    assert sent == [0, 1, 2, 3]


def decode_first(rig: Rig, index: int) -> int:
    header, body = unpack_block(rig.spool.load(rig.lane_blocks(Lane.P1)[index]))
    return unpack_body(header, body)[0].captured_ns


def test_a_receipt_frees_nothing_that_was_never_sent(rig: Rig) -> None:
    rig.put(record(1), record(2, Lane.P0))
    [p0, p1] = rig.blocks()
    assert rig.spool.acknowledge(receipt_for(p1)) == 0
    rig.spool.mark_sent(p0)
    beyond = Receipt(p0.lane, p0.epoch, ((0, p0.end_seq + 10),))
    assert rig.spool.acknowledge(beyond) == 1
    assert rig.spool.acknowledge(beyond) == 0
    assert rig.spool.acknowledge(Receipt(p0.lane, bytes(16), ((0, 1),))) == 0
    assert rig.spool.counts().receipts_ignored == 4
    assert rig.lane_blocks(Lane.P1) == [p1]
    assert rig.spool.counts().holds


def test_what_another_process_sent_must_be_sent_again_before_its_receipt_counts(rig: Rig) -> None:
    rig.put(record(1))
    [ref] = rig.blocks()
    rig.send(ref)
    rig.open()
    assert rig.spool.acknowledge(receipt_for(ref)) == 0
    assert rig.drain() == 1


def test_a_receipt_for_part_of_a_block_frees_that_part_and_the_rest_is_sent_again(rig: Rig) -> None:
    rig.put(*(record(n) for n in range(10)))
    [ref] = rig.blocks()
    rig.send(ref)
    assert rig.spool.acknowledge(Receipt(ref.lane, ref.epoch, ((2, 5), (7, 8)))) == 4
    assert rig.blocks() == [ref]
    assert rig.spool.acknowledge(receipt_for(ref)) == 6
    assert rig.blocks() == []


def test_a_receipt_that_the_books_could_not_hold_is_counted_and_frees_nothing() -> None:
    rig = Rig(CrashDisk(), limits=SpoolLimits(queue_records=40_000))
    offered = 2 * _MOST_RANGES + 2
    rig.put(*(record(n) for n in range(offered)))
    for ref in rig.blocks():
        rig.spool.mark_sent(ref)
    epoch = rig.blocks()[0].epoch
    every_other = tuple((n, n + 1) for n in range(0, offered, 2))
    assert rig.spool.acknowledge(Receipt(Lane.P1, epoch, every_other)) == 0
    counts, p1 = rig.spool.counts(), rig.spool.counts().lanes[Lane.P1]
    assert (counts.receipts_ignored, p1.acknowledged, p1.spooled) == (1, 0, offered)
    assert rig.spool.acknowledge(Receipt(Lane.P1, epoch, every_other[1:])) == offered // 2 - 1
    assert rig.spool.counts().holds


def test_segments_that_are_done_are_used_again_without_taking_space() -> None:
    rig = Rig(disk := CrashDisk(), limits=ROOMY)
    for number in range(6):
        rig.put(record(number, size=6000))
        rig.drain()
    before = len(disk.calls)
    for number in range(40):
        rig.put(record(number, size=6000))
        assert rig.drain() == 1
    assert not [call for call in disk.calls[before:] if call.act in ("create", "remove")]
    assert rig.spool.counts().holds


def test_what_a_segment_held_before_is_never_read_as_new() -> None:
    rig = Rig(disk := CrashDisk())
    for number in range(12):
        rig.put(record(number, size=6000))
        if number < 11:
            rig.drain()
    rig.spool.close()
    again = Rig(disk.after_shutdown(), MemoryCounters(was_lost=True), keys=rig.keys, seed=1)
    fresh = rig.confirmed.keys() - rig.stored.keys()
    assert {key_of(item) for item in again.read()} == fresh
    assert len(fresh) == 1


def test_a_block_the_cloud_refuses_is_counted_and_never_seen_again(rig: Rig) -> None:
    rig.put(record(1), record(2))
    [ref] = rig.blocks()
    assert rig.spool.quarantine(ref, "too old for this receiver") == 2
    assert rig.spool.quarantine(ref, "again") == 0
    counts = rig.spool.counts()
    assert counts.lanes[Lane.P1].quarantined == {Quarantined.REFUSED: 2}
    assert counts.holds
    assert rig.blocks() == []
    with pytest.raises(BadBlock, match="has left"):
        rig.spool.load(ref)


# --- space ---


def test_a_full_spool_evicts_the_oldest_and_says_how_many() -> None:
    rig = Rig(CrashDisk())
    for number in range(20):
        rig.put(record(number, Lane.P3, size=6000))
    lane = rig.spool.counts().lanes[Lane.P3]
    assert lane.evicted == {Evicted.QUOTA: 20 - lane.spooled}
    assert rig.spool.counts().holds
    assert rig.spool.counts().flash_bytes <= rig.limits.max_bytes
    kept = [
        int(stored.captured_ns) for ref in rig.blocks() for stored in unpack_body(*unpack_block(rig.spool.load(ref)))
    ]
    assert kept == list(range(20 - lane.spooled, 20))


def test_segments_begun_at_many_starts_are_trimmed_before_anything_is_evicted() -> None:
    limits = SMALL.model_copy(update={"segment_bytes": 16 * PAGE_BYTES, "max_bytes": 6 * 16 * PAGE_BYTES})
    rig = Rig(CrashDisk(), limits=limits)
    for number in range(8):  # the other lanes' reserves leave room for three whole segments
        rig.put(record(number))
        rig.open()
    counts = rig.spool.counts()
    assert counts.lanes[Lane.P1].evicted == {}
    assert counts.lanes[Lane.P1].spooled == 8
    assert counts.flash_bytes <= limits.max_bytes
    assert len(rig.read()) == 8
    assert rig.drain() == 8


def test_limits_may_change_between_starts(rig: Rig) -> None:
    rig.put(*(record(n, size=6000) for n in range(5)))
    rig.limits = ROOMY.model_copy(update={"segment_bytes": 9 * PAGE_BYTES})
    rig.open()
    rig.put(*(record(n, size=6000) for n in range(5, 10)))
    assert len(rig.read()) == 10
    assert rig.drain() == 10
    assert rig.spool.counts().holds


@pytest.mark.parametrize("freed", ["before the start", "after it"])
def test_a_lowered_limit_gives_flash_back(rig: Rig, freed: str) -> None:
    rig.put(*(record(n, size=3000) for n in range(60)))
    assert rig.spool.counts().flash_bytes > SMALL.max_bytes
    if freed == "before the start":
        rig.drain()
    rig.limits = SMALL
    rig.open()
    rig.drain()
    files = [name for name in rig.disk.names("") if name.endswith(".seg")]
    assert sum(map(rig.disk.size, files)) == rig.spool.counts().flash_bytes == SMALL.max_bytes
    assert len(rig.put(record(100))) == 1


def test_under_a_lowered_limit_what_is_evicted_for_room_is_given_back(rig: Rig) -> None:
    rig.put(*(record(n, size=3000) for n in range(60)))
    rig.limits = SMALL
    rig.open()
    assert len(rig.put(record(100))) == 1
    assert rig.spool.counts().flash_bytes <= SMALL.max_bytes
    assert rig.spool.counts().holds


# --- secrets ---


def test_nothing_that_was_recorded_can_be_read_on_flash(rig: Rig) -> None:
    rig.put(Record(Lane.P1, Purpose.DRIVING, 1, Health("MARKER", "x")))
    assert all(b"MARKER" not in rig.disk.read(name) for name in rig.disk.names(""))


def test_no_key_meets_a_counter_with_two_plaintexts_whatever_failed() -> None:
    disk = Tapped()
    rig = Rig(disk, limits=ROOMY)
    for number in range(30):
        if number % 7 == 3:
            disk.fail(lambda call: call.act == "sync" and call.path.startswith("p1"), DiskFault("worn"))
        rig.put(record(number, size=3000), record(number, purpose=Purpose.DRIVING))
        disk.heal()
        if number % 5 == 0:
            rig.open()
        if number % 4 == 0:
            rig.drain()
    assert len(disk.frames) > 60
    assert {len(frames) for frames in disk.frames.values()} == {1}


class Tapped(CrashDisk):
    """Notes every frame written, by (segment salt, purpose, counter)."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: defaultdict[tuple[bytes, Purpose, int], set[bytes]] = defaultdict(set)

    def write_at(self, path: str, offset: int, data: bytes) -> None:
        if path.endswith(".seg") and offset:
            header = unpack_segment_header(self.read_at(path, 0, 2 * PAGE_BYTES))
            assert header is not None
            padded = bytes(2 * PAGE_BYTES) + data + bytes(PAGE_BYTES)
            for page, f in frames_in(padded, header.salt):
                frame = padded[page * PAGE_BYTES : (page + f.pages) * PAGE_BYTES]
                self.frames[header.salt, f.purpose, f.counter].add(frame)
        super().write_at(path, offset, data)


def test_an_erased_purpose_is_unreadable_for_ever_and_the_others_are_untouched(rig: Rig) -> None:
    rig.put(*(record(n, purpose=Purpose.DRIVING) for n in range(3)), record(4, Lane.P2, Purpose.DRIVING), record(5))
    driving = [ref for ref in rig.blocks() if ref.purpose is Purpose.DRIVING]
    wrapped = rig.disk.read("keys.0"), rig.disk.read("keys.1")
    rig.offer(record(6, purpose=Purpose.DRIVING), record(7))
    assert rig.spool.withdraw(Purpose.DRIVING) == 1
    rig.commit()
    assert rig.spool.erase(Purpose.DRIVING) == 4
    counts = rig.spool.counts()
    assert [lane.erased for lane in counts.lanes] == [0, 3, 1, 0]
    assert counts.lanes[Lane.P1].dropped == {Dropped.ERASED: 1}
    assert counts.holds
    for ref in driving:
        with pytest.raises(BadBlock):
            rig.spool.load(ref)
    for sealed in sealed_keys(wrapped, Purpose.DRIVING):
        assert all(sealed not in rig.disk.read(name) for name in rig.disk.names(""))
    rig.put(record(8, purpose=Purpose.DRIVING))
    rig.open()
    assert len(rig.read()) == 3
    assert rig.spool.counts().holds
    assert rig.drain() == 3


def sealed_keys(twins: tuple[bytes, bytes], purpose: Purpose) -> list[bytes]:
    """As docs/formats/spool.md has it: a twin's payload is a list of (lane, purpose, sealed key)."""
    newest = max(twins, key=lambda twin: int.from_bytes(twin[12:20], "little"))
    length = int.from_bytes(newest[20:24], "little")
    keys = msgspec.msgpack.decode(newest[24 : 24 + length], type=list[tuple[int, int, bytes]])
    assert {use for _, use, _ in keys} > {purpose}
    return [sealed for _, use, sealed in keys if use == purpose]


def test_erasing_waits_for_what_is_being_written(rig: Rig) -> None:
    rig.offer(record(1))
    batch = rig.spool.take(0, everything=True)
    assert batch is not None
    rig.spool.write(batch)
    with pytest.raises(RuntimeError, match="settle"):
        rig.spool.erase(Purpose.PERCEPTION)


def test_another_key_store_reads_nothing_and_the_spool_goes_on(rig: Rig) -> None:
    rig.put(record(1), record(2))
    rig.keys = MemoryKeyStore()
    rig.open()
    [ref] = rig.blocks()
    with pytest.raises(BadBlock):
        rig.spool.load(ref)
    assert rig.spool.counts().lanes[Lane.P1].quarantined == {Quarantined.KEY_LOST: 2}
    rig.put(record(3))
    assert len(rig.read()) == 1
    assert rig.spool.counts().holds


# --- starts and ends ---


def test_after_a_planned_end_a_lost_ledger_costs_no_knowledge(rig: Rig) -> None:
    rig.put(record(1))
    rig.offer(record(2, size=20_000))
    rig.spool.close()
    before = rig.spool.counts()
    rig.counters = MemoryCounters(was_lost=True)
    rig.open()
    assert rig.spool.counts().lanes == before.lanes
    assert not rig.spool.ledger_lost


def test_after_a_power_cut_a_lost_ledger_is_said(rig: Rig) -> None:
    rig.put(record(1))
    rig.counters = MemoryCounters(was_lost=True)
    rig.open()
    assert rig.spool.ledger_lost
    assert rig.spool.counts().holds


def test_what_was_in_memory_at_a_kill_is_lost_and_counted(rig: Rig) -> None:
    rig.put(record(1))
    rig.offer(record(2), record(3))
    rig.open()
    lane = rig.spool.counts().lanes[Lane.P1]
    assert (lane.offered, lane.durable, lane.lost_in_crash, lane.pending) == (3, 1, 2, 0)
    assert rig.spool.counts().holds
    rig.open()
    assert rig.spool.counts().lanes[Lane.P1].lost_in_crash == 2


def test_a_start_reads_little_of_what_is_sealed() -> None:
    limits = SMALL.model_copy(update={"segment_bytes": 64 * PAGE_BYTES, "max_bytes": 40 * 64 * PAGE_BYTES})
    rig = Rig(disk := CrashDisk(), limits=limits)
    for number in range(1200):
        rig.put(record(number, size=6000))
    before = len(disk.calls)
    rig.open()
    read = sum(call.length for call in disk.calls[before:] if call.act in ("read", "read_at"))
    segments = len(rig.spool.segments(Lane.P1))
    assert segments >= 19
    assert read <= segments * 4 * PAGE_BYTES + limits.segment_bytes + 20 * PAGE_BYTES
    assert len(records_of(rig.spool.load(rig.blocks()[-1]))) == 1
