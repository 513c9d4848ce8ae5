"""What lies on flash, as values in memory: segments by lane, and which of their records have left.

A record leaves once, for one reason: acknowledged, evicted, quarantined or erased. What hasn't left is spooled. Nothing
here touches a disk; 16 bytes a block are all it holds of the data.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from telemetry.records import Lane, Purpose
from telemetry.spool.aging import FOR_EVER, due_ns
from telemetry.spool.blocks import BlockRef
from telemetry.spool.format import ENTRY_BYTES, HEADER_PAGES, due_codes, frame_pages, is_contiguous, unpack_entry
from telemetry.spool.intervals import IntervalSet, Range
from telemetry.spool.limits import PAGE_BYTES

Stream = tuple[Lane, bytes]
"""A lane and one of its epochs: within it, a seq names one record for ever."""


@dataclass(slots=True)
class Segment:
    """One segment file with its index: `pages` is the file's size. Busy ones (being written, or not yet settled) are
    never freed."""

    serial: int
    lane: Lane
    epoch: bytes
    spool_id: bytes
    salt: bytes
    base_seq: int
    pages: int
    created_wall_ns: int
    created_spool_ns: int = 0
    entries: bytearray = field(default_factory=bytearray)
    active: bool = False
    unsettled: int = 0
    faulty: bool = False
    first_due_ns: float | None = None  # not looked for yet

    @property
    def name(self) -> str:
        return segment_name(self.lane, self.serial)

    @property
    def stream(self) -> Stream:
        return self.lane, self.epoch

    @property
    def busy(self) -> bool:
        return self.active or self.unsettled > 0

    @property
    def block_count(self) -> int:
        return len(self.entries) // ENTRY_BYTES

    @property
    def end_seq(self) -> int:
        if not self.entries:
            return self.base_seq
        last = unpack_entry(self.entries, self.block_count - 1)
        return self.base_seq + last.seq_offset + last.count

    @property
    def used_pages(self) -> int:
        """The page behind the last frame."""
        if not self.entries:
            return HEADER_PAGES
        last = unpack_entry(self.entries, self.block_count - 1)
        return last.page + frame_pages(last.wire_bytes)

    @property
    def file_bytes(self) -> int:
        return self.pages * PAGE_BYTES

    def ranges(self) -> Iterator[tuple[int, int]]:
        """The numbers of its records, in as few ranges as is quick to say."""
        if self.entries and is_contiguous(self.entries):
            yield self.base_seq + unpack_entry(self.entries, 0).seq_offset, self.end_seq
        else:
            yield from ((block.base_seq, block.end_seq) for block in self.blocks())

    def block(self, index: int) -> BlockRef:
        entry = unpack_entry(self.entries, index)
        base_seq = self.base_seq + entry.seq_offset
        return BlockRef(
            self.lane,
            self.epoch,
            base_seq,
            entry.count,
            entry.purpose,
            entry.wire_bytes,
            self.serial,
            index,
            entry.page,
        )

    def add(self, entry: bytes) -> None:
        """One more block."""
        self.entries += entry
        if self.first_due_ns is not None:
            self.first_due_ns = min(self.first_due_ns, self.due(self.block_count - 1))

    def due(self, index: int) -> float:
        """The spool time at which nobody wants that block any more; infinity: never."""
        return self._due_ns(unpack_entry(self.entries, index).due)

    def first_due(self) -> float:
        """The earliest such time in the segment. What is long gone may make it earlier than need be."""
        if self.first_due_ns is None:
            code = min((code for code in due_codes(self.entries) if code), default=FOR_EVER)
            self.first_due_ns = self._due_ns(code)
        return self.first_due_ns

    def _due_ns(self, code: int) -> float:
        at_ns = due_ns(self.created_spool_ns, code)
        return math.inf if at_ns is None else at_ns

    def blocks(self) -> Iterator[BlockRef]:
        return (self.block(i) for i in range(self.block_count))


def segment_name(lane: Lane, serial: int) -> str:
    return f"{lane.name.lower()}-{serial:08d}.seg"


class Shelf:
    """The segments, oldest first in each lane, and per stream which records were sent and which have left."""

    def __init__(self) -> None:
        self._lanes: dict[Lane, list[Segment]] = {lane: [] for lane in Lane}
        self._left: defaultdict[Stream, IntervalSet] = defaultdict(IntervalSet)
        self._erased: defaultdict[Stream, IntervalSet] = defaultdict(IntervalSet)
        self._sent: defaultdict[Stream, IntervalSet] = defaultdict(IntervalSet)
        self.erasures: dict[Purpose, int] = {}

    # --- segments ---

    def place(self, segment: Segment) -> None:
        self._lanes[segment.lane].append(segment)
        self._lanes[segment.lane].sort(key=lambda s: s.serial)

    def remove(self, segment: Segment) -> None:
        self._lanes[segment.lane].remove(segment)

    def segments(self, lane: Lane) -> list[Segment]:
        return self._lanes[lane]

    def all_segments(self) -> list[Segment]:
        return [segment for lane in Lane for segment in self._lanes[lane]]

    def find(self, lane: Lane, serial: int) -> Segment | None:
        at = self._at(lane, serial)
        segments = self._lanes[lane]
        return segments[at] if at < len(segments) and segments[at].serial == serial else None

    def _at(self, lane: Lane, serial: int) -> int:
        return bisect_left(self._lanes[lane], serial, key=lambda segment: segment.serial)

    def done(self) -> list[Segment]:
        """Segments with nothing left in them that anybody could want."""
        return [s for s in self.all_segments() if not s.busy and self.live(s) == 0]

    # --- records ---

    def live(self, segment: Segment) -> int:
        """Records in the segment that haven't left."""
        base, end = segment.base_seq, segment.end_seq
        return end - base - self._left[segment.stream].count(base, end)

    def spooled(self, lane: Lane) -> int:
        return sum(self.live(segment) for segment in self._lanes[lane])

    def leave(self, stream: Stream, start: int, end: int) -> int:
        """How many of these records leave now; the others had left before."""
        return self._left[stream].add(start, end)

    def remaining(self, stream: Stream, start: int, end: int) -> list[Range]:
        """The ranges of these records that haven't left."""
        return list(self._left[stream].gaps(start, end))

    def has_left(self, ref: BlockRef) -> bool:
        return self._left[ref.lane, ref.epoch].covers(ref.base_seq, ref.end_seq)

    def missing(self, stream: Stream, present: IntervalSet, below: int) -> list[tuple[int, int]]:
        """Ranges below `below` that are neither present nor known to have left."""
        gone = self._left[stream]
        return [gap for hole in present.gaps(0, below) for gap in gone.gaps(*hole)]

    def next_unsent(self, lane: Lane, after: BlockRef | None) -> BlockRef | None:
        """The oldest block behind `after` with a record that hasn't left."""
        segments = self._lanes[lane]
        first = self._at(lane, after.serial) if after else 0
        for segment in segments[first:]:
            begin = after.index + 1 if after and after.serial == segment.serial else 0
            for index in range(begin, segment.block_count):
                if not self.has_left(ref := segment.block(index)):
                    return ref
        return None

    # --- sent and acknowledged ---

    def mark_sent(self, ref: BlockRef) -> None:
        if self.find(ref.lane, ref.serial):
            self._sent[ref.lane, ref.epoch].add(ref.base_seq, ref.end_seq)

    def was_sent(self, stream: Stream, start: int, end: int) -> bool:
        return stream in self._sent and self._sent[stream].covers(start, end)

    def acknowledge(self, stream: Stream, ranges: tuple[tuple[int, int], ...]) -> int:
        """Records that leave now: of `ranges` only what was sent."""
        if stream not in self._sent:
            return 0
        sent = self._sent[stream]
        return sum(self.leave(stream, *part) for start, end in ranges for part in sent.within(start, end))

    def can_write_down(self, stream: Stream, ranges: tuple[tuple[int, int], ...], most: int) -> bool:
        """Whether books of up to `most` ranges can hold what has left after that acknowledgement; always, when it makes
        them no larger."""
        if stream not in self._sent:
            return True
        now, after = self._left[stream], self._left[stream].copy()
        for start, end in ranges:
            for part in self._sent[stream].within(start, end):
                after.add(*part)
        # At most this many: what erasing took isn't in the books, but takes a look at each range to tell.
        if sum(len(left) for left in self._left.values()) - len(now) + len(after) <= most:
            return True
        more = len(list(self._beyond_erasures(stream, after))) - len(list(self._beyond_erasures(stream, now)))
        held = sum(len(list(self._beyond_erasures(*left))) for left in self._left.items())
        return more <= 0 or held + more <= most

    # --- growing old ---

    def due(self, now_ns: int, most: int) -> list[BlockRef]:
        """Up to `most` settled blocks, oldest first in their lanes, that nobody wants any more."""
        found: list[BlockRef] = []
        for segment in self.all_segments():
            if segment.first_due() <= now_ns:
                found += [ref for ref in self._staying(segment) if segment.due(ref.index) <= now_ns]
        return found[:most]

    def next_due_ns(self) -> float:
        """The spool time at which the next block is due; infinity: never."""
        return min((segment.first_due() for segment in self.all_segments()), default=math.inf)

    def look_again(self, now_ns: int) -> None:
        """After what was due has left: which of the rest is due first."""
        for segment in self.all_segments():
            if segment.first_due() <= now_ns:
                segment.first_due_ns = min((segment.due(ref.index) for ref in self._staying(segment)), default=math.inf)

    def _staying(self, segment: Segment) -> Iterator[BlockRef]:
        return (ref for ref in segment.blocks() if not self.has_left(ref))

    def held_ranges(self) -> int:
        """How many ranges the books keep of what has left, at most."""
        return sum(len(left) for left in self._left.values())

    # --- erasing ---

    def erase(self, purpose: Purpose, below_serial: int) -> list[tuple[Stream, Range]]:
        """Records that leave because the key to their blocks in segments before that serial is gone."""
        self.erasures[purpose] = below_serial
        return [left for lane in Lane for ref in self._concerned(lane, purpose) for left in self._erase_block(ref)]

    def _erase_block(self, ref: BlockRef) -> list[tuple[Stream, Range]]:
        stream = ref.lane, ref.epoch
        self._erased[stream].add(ref.base_seq, ref.end_seq)
        left = self.remaining(stream, ref.base_seq, ref.end_seq)
        self.leave(stream, ref.base_seq, ref.end_seq)
        return [(stream, part) for part in left]

    def _concerned(self, lane: Lane, purpose: Purpose) -> Iterator[BlockRef]:
        for segment in self._lanes[lane][: self._at(lane, self.erasures[purpose])]:
            yield from (ref for ref in segment.blocks() if ref.purpose is purpose)

    # --- what the books keep ---

    def left(self) -> Mapping[Stream, IntervalSet]:
        return self._left

    def left_beyond_erasures(self, stream: Stream) -> Iterator[tuple[int, int]]:
        """The ranges of the left that have to be written down: a reader finds erased blocks by their purpose, but only
        in segments that are still there when the next page is written."""
        return self._beyond_erasures(stream, self._left[stream])

    def _beyond_erasures(self, stream: Stream, left: IntervalSet) -> Iterator[tuple[int, int]]:
        erased, lane = self._erased.get(stream, IntervalSet()), stream[0]
        staying = IntervalSet((s.base_seq, s.end_seq) for s in self._lanes[lane] if s.stream == stream and self.live(s))
        return ((start, end) for start, end in left if not (erased.covers(start, end) and staying.covers(start, end)))

    def forget_streams(self, keep: frozenset[Stream]) -> None:
        """Forgets streams of which no segment remains. Only after their removal is durable (a resend would follow)."""
        alive = keep | {segment.stream for segment in self.all_segments()}
        for sets in (self._left, self._erased, self._sent):
            for stream in sets.keys() - alive:
                del sets[stream]
