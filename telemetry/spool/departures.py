"""How records leave: acknowledged, evicted, quarantined or erased; written down first, then their segments are freed.

The order is what makes it safe. The books say in both twins that all of a segment has left; then its file is renamed to
a free one; and only when that name is durable do the books forget the segment's epoch. Freeing takes no space.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, field, replace
from typing import Final

from ecu.clock import SECOND_NS
from ecu.disk import DiskError, WatchedDisk
from telemetry.records import Lane, Purpose
from telemetry.spool.aging import UNIT_NS, SpoolTime
from telemetry.spool.assembly import Assembly
from telemetry.spool.blocks import BlockRef
from telemetry.spool.books import Books, Page, page_of
from telemetry.spool.copies import Copies
from telemetry.spool.counts import Counters, Evicted, Quarantined, counted, with_added
from telemetry.spool.intervals import Range
from telemetry.spool.limits import SpoolLimits
from telemetry.spool.shelf import Segment, Stream
from telemetry.spool.untold import Name, Report, heard, names_in, told_by, unheard, with_range
from telemetry.spool.vault import Vault
from telemetry.wire import Receipt

_RECEIPTS_BEFORE_WRITING: Final = 16
# Receipts for parts of blocks could split what has left without end; beyond this they wait for a better one.
_MOST_RANGES: Final = 16_384
# Where power is cut after each drive, this is what the shortest drive lasts that counts.
_TIME_WRITTEN_EVERY_NS: Final = 600 * SECOND_NS


@dataclass(slots=True)
class Files:
    """Segment files that no segment owns: `free` ones by name, and those that can be neither used nor removed."""

    free: list[str] = field(default_factory=list)
    unusable_bytes: int = 0
    next_serial: int = 1


def free_name(serial: int) -> str:
    return f"free-{serial:08d}.seg"


class Departures:
    """Makes records leave and frees what they leave behind. One thread calls it; `lock` guards what others read."""

    def __init__(
        self,
        disk: WatchedDisk,
        assembly: Assembly,
        books: Books,
        page: Page,
        files: Files,
        vault: Vault,
        counters: Counters,
        limits: SpoolLimits,
        current: frozenset[Stream],
        time: SpoolTime,
    ) -> None:
        self.lock = threading.Lock()
        self.totals = assembly.totals
        self.untold = assembly.untold
        self._time = time
        self._written_ns = time.now_ns()
        self.unreadable = dict.fromkeys(Lane, 0)
        self.receipts_ignored = 0
        self.fault: str | None = None
        self.copies = Copies(disk)
        self._shelf = assembly.shelf
        self._disk = disk
        self._books = books
        self._files = files
        self._vault = vault
        self._counters = counters
        self._limits = limits
        self._current = current
        self._spool_id = page.spool_id
        self._erasing = set(page.erasing)
        self._unwritten_receipts = 0
        self._names_unsynced = False

    # --- why they leave ---

    def acknowledge(self, receipt: Receipt) -> int:
        """Records freed: never beyond what was sent."""
        stream = receipt.lane, receipt.epoch
        with self.lock:
            if not all(self._shelf.was_sent(stream, *part) for part in receipt.ranges):
                self.receipts_ignored += 1
            if not self._shelf.can_write_down(stream, receipt.ranges, _MOST_RANGES):
                self.receipts_ignored += 1
                return 0
            freed = self._shelf.acknowledge(stream, receipt.ranges)
            self._heard(stream, receipt.ranges)
            totals = self.totals[receipt.lane]
            self.totals[receipt.lane] = replace(totals, acknowledged=totals.acknowledged + freed)
        self._unwritten_receipts += freed > 0
        self.free_what_is_done()
        if self._unwritten_receipts >= _RECEIPTS_BEFORE_WRITING:
            self._try_to_write(both=False)
        return freed

    def quarantine(self, ref: BlockRef, why: Quarantined) -> int:
        """Records that leave with the block."""
        with self.lock:
            if (segment := self._shelf.find(ref.lane, ref.serial)) is None:
                return 0
            due_ns = segment.due(ref.index)
        self.copies.keep(segment.name, ref, due_ns)
        with self.lock:
            left = self._leave((ref.lane, ref.epoch), ref.base_seq, ref.end_seq, f"quarantined:{why.value}")
            totals = self.totals[ref.lane]
            self.totals[ref.lane] = replace(totals, quarantined=with_added(totals.quarantined, why, left))
        self.free_what_is_done()
        return left

    def evict(self, segment: Segment, why: Evicted) -> None:
        """Its file is free when this returns. Raises DiskError, and frees nothing, when that can't be written down."""
        with self.lock:
            self._evict(segment.stream, segment.base_seq, segment.end_seq, why)
        self.write(both=True)
        self._free([segment])

    def expire(self) -> None:
        """Makes leave what nobody wants any more. What can't be written down now is found again later."""
        now_ns = self._time.now_ns()
        with self.lock:
            due = self._shelf.due(now_ns, max(0, _MOST_RANGES - self._shelf.held_ranges()))
            for ref in due:
                self._evict((ref.lane, ref.epoch), ref.base_seq, ref.end_seq, Evicted.EXPIRED)
            self._shelf.look_again(now_ns)
        self.copies.expire(now_ns)
        self.free_what_is_done()
        if now_ns - self._written_ns >= (1 if due else _TIME_WRITTEN_EVERY_NS):
            self._try_to_write(both=False)

    def next_look_ns(self) -> int | None:
        """The spool time of the next `expire`; None while nothing grows old. How old all is has to outlive a cut."""
        now_ns = self._time.now_ns()
        with self.lock:
            due_ns = min(self._shelf.next_due_ns(), self.copies.next_due_ns())
        if due_ns == math.inf:
            return None
        # What couldn't be done now is tried again, but not at once.
        return max(now_ns + UNIT_NS, int(min(due_ns, self._written_ns + _TIME_WRITTEN_EVERY_NS)))

    def _evict(self, stream: Stream, start: int, end: int, why: Evicted) -> None:
        left = self._leave(stream, start, end, f"evicted:{why.value}")
        totals = self.totals[stream[0]]
        self.totals[stream[0]] = replace(totals, evicted=with_added(totals.evicted, why, left))

    def _leave(self, stream: Stream, start: int, end: int, reason: str) -> int:
        """How many records leave with these that hadn't; they are to be told to the receiver."""
        for part in self._shelf.remaining(stream, start, end):
            self._to_be_told(stream, *part, reason)
        return self._shelf.leave(stream, start, end)

    def _to_be_told(self, stream: Stream, start: int, end: int, reason: str) -> None:
        self.untold = with_range(self.untold, (*stream, reason), start, end)
        for name in names_in(self.untold, stream, start, end):
            self.untold = unheard(self.untold, name)

    def told(self, name: Name, report: Report) -> None:
        """A durable record says so now."""
        with self.lock:
            self.untold = told_by(self.untold, name, report)

    def _heard(self, stream: Stream, ranges: tuple[Range, ...]) -> None:
        """Of the records that tell something, those that an acknowledgement made leave."""
        for name in [name for part in ranges for name in names_in(self.untold, stream, *part)]:
            if not self._shelf.remaining(stream, name[2], name[2] + 1):
                self.untold = heard(self.untold, name)

    def erase(self, purpose: Purpose) -> int:
        """Makes all blocks of a purpose unreadable; the records that were. Once begun, the next start finishes it.

        No segment may be active: what is written from now on is in segments of higher serials, under another key.
        """
        self._erasing.add(purpose)
        self.write(both=True)
        erased = self._finish_erasing(purpose)
        self.write(both=True)
        self.free_what_is_done()
        return erased

    def finish_erasing(self) -> None:
        """What an earlier process had begun."""
        for purpose in list(self._erasing):
            self._finish_erasing(purpose)

    def _finish_erasing(self, purpose: Purpose) -> int:
        self._vault.shred(purpose)
        with self.lock:
            erased = self._shelf.erase(purpose, self._files.next_serial)
            for stream, (start, end) in erased:
                totals = self.totals[stream[0]]
                self.totals[stream[0]] = replace(totals, erased=totals.erased + end - start)
                self._to_be_told(stream, start, end, "erased")
            self._erasing.discard(purpose)
        return sum(end - start for _, (start, end) in erased)

    # --- written down, then freed ---

    def open_books(self) -> None:
        """Makes the books say how the spool was found, so that no flipped bit brings an erasure under way back, whose
        purpose has a new key by then. Raises DiskError."""
        self.write(both=True)

    def write(self, *, both: bool, clean: bool = False) -> None:
        """Raises DiskError."""
        if self._names_unsynced:
            # A freed segment whose old name came back would be sent anew once its epoch is forgotten.
            self._disk.sync_folder("")
            self._names_unsynced = False
            if not self._files.unusable_bytes and not self._disk.names_doubtful:
                # What can't be read today may be there tomorrow, and a name whose sync once failed may come back; then
                # it must be known what has left.
                with self.lock:
                    self._shelf.forget_streams(self._current)
        (self._books.write_both if both else self._books.write)(self._page(clean))
        self._unwritten_receipts = 0
        self._written_ns = self._time.now_ns()

    def _page(self, clean: bool) -> Page:
        with self.lock:
            values = self._counters.values()
            totals = {lane: replace(self.totals[lane], dropped=counted(values, lane).dropped) for lane in Lane}
            aged = self._time.to_write_down()
            return page_of(self._spool_id, clean, totals, self._shelf, self._erasing, aged, self.untold)

    def _try_to_write(self, *, both: bool) -> bool:
        """False when it can't be written now: nothing is freed, and the next receipt tries again."""
        try:
            self.write(both=both)
        except DiskError as error:
            self.fault = str(error)
            return False
        return True

    def free_what_is_done(self) -> None:
        with self.lock:
            done = self._shelf.done()
        if done and self._try_to_write(both=True):
            try:
                self._free(done)
            except DiskError as error:
                self.fault = str(error)

    def remove_useless(self, names: list[str]) -> None:
        for name in names:
            try:
                self._disk.remove(name)
            except DiskError as error:
                self.fault = str(error)
                self._files.unusable_bytes += self._limits.segment_bytes

    def _free(self, segments: list[Segment]) -> None:
        for segment in segments:
            self._names_unsynced = True
            if segment.faulty or segment.file_bytes != self._limits.segment_bytes:
                self._disk.remove(segment.name)
            else:
                self._disk.rename(segment.name, free_name(segment.serial))
                self._files.free.append(free_name(segment.serial))
            with self.lock:
                self._shelf.remove(segment)
        self.give_back()

    def give_back(self) -> None:
        """Removes free files while all files take more than max_bytes: it was higher when they were made."""
        while self._files.free and self._flash_bytes() > self._limits.max_bytes:
            try:
                self._disk.remove(self._files.free[-1])
            except DiskError as error:
                self.fault = str(error)
                return
            self._files.free.pop()

    def _flash_bytes(self) -> int:
        with self.lock:
            held = sum(segment.file_bytes for segment in self._shelf.all_segments())
        return held + len(self._files.free) * self._limits.segment_bytes + self._files.unusable_bytes
