"""The spool: what was offered is on flash within its lane's deadline, and stays until the receiver has stored it.

Two threads may use it. The owner's event loop offers, takes what is due, settles what became of it, and looks; nothing
of that waits or touches the disk. One other thread writes, loads, acknowledges, quarantines and erases.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Set
from typing import Final

from ecu.clock import Clock
from ecu.disk import Disk, WatchedDisk
from telemetry.confirmations import Confirmation
from telemetry.dictionaries import dictionary_fault
from telemetry.records import Lane, Purpose, Record, RecordBatch, RecordsLeft, encode_one, first_of_run, record_of
from telemetry.spool.aging import SpoolTime
from telemetry.spool.assembly import assemble
from telemetry.spool.blocks import BlockRef
from telemetry.spool.books import Books, Page
from telemetry.spool.ciphers import MakeAead, aes_gcm
from telemetry.spool.counts import (
    Counters,
    Dropped,
    LaneCounts,
    Opening,
    Quarantined,
    SpoolCounts,
    counted,
    counter,
    lane_counts,
    reconcile,
)
from telemetry.spool.departures import Departures, Files
from telemetry.spool.format import EPOCH_BYTES, max_wire_bytes
from telemetry.spool.frames import read_block
from telemetry.spool.limits import SpoolLimits
from telemetry.spool.log import LaneWritten, SegmentLog, StoredBlock
from telemetry.spool.packing import Waiting, max_stored_size, pack, runs_of
from telemetry.spool.queue import Batch, LaneQueue, Queue
from telemetry.spool.recovery import survey
from telemetry.spool.shelf import Segment, Shelf
from telemetry.spool.untold import Name, Report, next_report, with_unranged
from telemetry.spool.vault import KeyLost, Sealer, Vault
from telemetry.wire import BadBlock, Receipt

SPOOL_ID_BYTES: Final = 16
Written = tuple[LaneWritten, ...]


class Spool:
    """Made by `open`. Law 1 is in `counts`."""

    def __init__(
        self,
        disk: Disk,
        clock: Clock,
        limits: SpoolLimits,
        counters: Counters,
        vault: Vault,
        shelf: Shelf,
        departures: Departures,
        files: Files,
        log: SegmentLog,
        time: SpoolTime,
        *,
        ledger_lost: bool,
        books_lost: bool,
    ) -> None:
        self.ledger_lost = ledger_lost
        self.books_lost = books_lost
        self._disk = disk
        self._clock = clock
        self._counters = counters
        self._vault = vault
        self._shelf = shelf
        self._departures = departures
        self._files = files
        self._log = log
        self._time = time
        self._limits = limits
        # A first look at how old all is comes with the first commit: no start waits for it.
        self._look_ns: int | None = time.now_ns() if shelf.all_segments() or departures.copies else None
        self._telling = self._may_not_tell = False
        self._queue = Queue(limits)
        self._max_wire_bytes = max_wire_bytes(limits.segment_bytes)
        self._max_stored_size = max_stored_size(self._max_wire_bytes)
        self._segment_bytes = limits.segment_bytes
        self._last_refusal: str | None = None
        self._dictionary_fault = dictionary_fault()

    @classmethod
    def open(
        cls,
        disk: Disk,
        keys: Sealer,
        clock: Clock,
        entropy: Callable[[int], bytes],
        limits: SpoolLimits,
        counters: Counters,
        aead: MakeAead = aes_gcm,
    ) -> Spool:
        """`disk` is the spool's own folder; `entropy` gives that many unpredictable bytes, never the same again;
        `counters` have LEDGER_NAMES.

        Begins a new epoch in every lane. Damage is counted and refuses nothing; BooksTooNew and DiskError do.
        """
        disk.make_folder("")
        disk = WatchedDisk(disk)
        vault, books = Vault(disk, keys, entropy, aead=aead), Books(disk)
        vault.open()
        page = books.read() or Page(entropy(SPOOL_ID_BYTES))
        found = survey(disk, vault, page, limits.segment_bytes)
        assembly = assemble(found, page)
        begun_ns = [segment.created_spool_ns for segment in found.segments]
        time = SpoolTime(clock, max([page.aged.at_least(clock.boot_ns()), *begun_ns]))
        files = Files(found.free, found.unreadable_bytes, found.next_serial)
        epochs = {lane: entropy(EPOCH_BYTES) for lane in Lane}
        departures = Departures(
            disk, assembly, books, page, files, vault, counters, limits, frozenset(epochs.items()), time
        )
        departures.remove_useless(found.useless)
        departures.finish_erasing()
        log = SegmentLog(
            disk, vault, clock, entropy, limits, assembly.shelf, departures, files, page.spool_id, epochs, time
        )
        durable = log.settle_found(found.unsealed, found.floors)
        behind = _settle_counters(counters, departures, assembly.shelf, found.unreadable)
        departures.open_books()
        log.seal_found(durable)
        departures.free_what_is_done()
        departures.give_back()
        return cls(
            disk, clock, limits, counters, vault, assembly.shelf, departures, files, log, time,
            ledger_lost=(behind or counters.was_lost) and not page.clean,
            books_lost=books.lost,
        )  # fmt: skip

    # --- the owner's event loop: never waits, never touches the disk ---

    def offer(self, record: Record, wall_ns: int) -> bool:
        """Takes the record, or drops it and counts why. `wall_ns` is what the computer believes the time is."""
        run = encode_one(record.captured_ns, wall_ns, record.event)
        return self._offer_run(record.lane, record.purpose, record.keep_s, 1, run, self._clock.boot_ns())

    def offer_many(self, batch: RecordBatch, wall_ns: int) -> int:
        """As `offer` for each of them, at a fraction of what that takes; how many were taken."""
        queue, boot_ns = self._queue.lanes[batch.lane], self._clock.boot_ns()
        most, taken = min(self._max_stored_size, queue.limits.queue_bytes), 0
        for count, run in runs_of(batch, wall_ns, most):
            fits = min(count, max(0, queue.room))
            if fits < count:
                self._drop(batch.lane, count - fits, queue.refusal(0) or Dropped.QUEUE_FULL)
                run = first_of_run(fits, count, run)
            if fits and self._offer_run(batch.lane, batch.purpose, batch.keep_s, fits, run, boot_ns):
                taken += fits
        return taken

    def _offer_run(
        self, lane: Lane, purpose: Purpose, keep_s: int | None, count: int, run: bytes, boot_ns: int
    ) -> bool:
        queue = self._queue.lanes[lane]
        if (why := self._refusal(queue, len(run))) is not None:
            self._drop(lane, count, why)
            return False
        # Counted before it is held: a kill in between loses it, and says so.
        self._count(lane, offered=count)
        queue.put(Waiting(purpose, run, count, boot_ns, self._limits.keeps_s(lane, keep_s)))
        return True

    def _refusal(self, queue: LaneQueue, size: int) -> Dropped | None:
        return Dropped.TOO_LARGE if size > self._max_stored_size else queue.refusal(size)

    def _drop(self, lane: Lane, records: int, why: Dropped) -> None:
        self._count(lane, offered=records, **{f"dropped_{why.value}": records})

    def tell_what_left(self, wall_ns: int, private: Callable[[Record], Record | None]) -> bool:
        """Offers a record of what left without an acknowledgement, one reason of one epoch at a time; False when there
        is nothing to tell, the last one isn't durable yet, or no room for it. `private` gives the record as it may be
        told; when it gives none it isn't asked again: what may be told doesn't change while a process lives."""
        with self._departures.lock:
            report = next_report(self._departures.untold)
        if report is None or self._telling or self._may_not_tell:
            return False
        boot_ns, (lane, epoch, why) = self._clock.boot_ns(), report.key
        record = record_of(boot_ns, RecordsLeft(int(lane), epoch, why, list(report.ranges), report.unranged))
        run, queue = encode_one(boot_ns, wall_ns, record.event), self._queue.lanes[record.lane]
        if self._refusal(queue, len(run)) is not None:
            return False
        if (told := private(record)) is None:
            self._may_not_tell = True
            return False
        run = encode_one(told.captured_ns, wall_ns, told.event)
        self._count(record.lane, offered=1)
        queue.put(Waiting(record.purpose, run, 1, boot_ns, None, report))
        self._telling = True
        return True

    def due_ns(self) -> int | None:
        """Boot time by which the next commit has to begin; None while nothing waits."""
        return self._queue.due_ns()

    def look_ns(self) -> int | None:
        """Boot time of the next `expire`; None while nothing grows old."""
        return None if self._look_ns is None else self._time.boot_ns_at(self._look_ns)

    def take(self, now_ns: int, everything: bool = False) -> Batch | None:
        """What has to be committed by `now_ns`; `everything`: all there is. Then `write` it, then `settle` that."""
        return self._queue.take(now_ns, everything)

    def settle(self, written: Written) -> tuple[Confirmation, ...]:
        """The records that are durable now. From here on they can be sent; what failed waits again."""
        return tuple(confirmation for lane in written for confirmation in self._settle(lane))

    def _settle(self, written: LaneWritten) -> tuple[Confirmation, ...]:
        runs = [run for block in written.blocks for run in block.runs]
        durable = sum(block.count for block in written.blocks)
        with self._departures.lock:
            for block in written.blocks:
                segment = self._shelf.find(written.lane, block.serial)
                assert segment is not None, "a segment with unsettled blocks is busy, and never freed"
                segment.add(block.entry)
                segment.unsettled -= 1
            self._count(written.lane, durable=durable)
        queue = self._queue.lanes[written.lane]
        queue.settle(durable, sum(run.size for run in runs))
        for told in [told for block in written.blocks for told in self._reports(written.lane, block)]:
            self._departures.told(*told)
            self._telling = False
        if any(run.keep_s is not None for run in runs):
            self._look_no_later()
        if written.why is not None:
            queue.give_back(written.back, written.why, self._clock.boot_ns())
        return tuple(confirmation for block in written.blocks for confirmation in block.confirmed)

    def _reports(self, lane: Lane, block: StoredBlock) -> Iterator[tuple[Name, Report]]:
        """Which of its records tell what has left."""
        seq = block.base_seq
        for run in block.runs:
            if run.told is not None:
                yield (lane, self._log.epochs[lane], seq), run.told
            seq += run.count

    def _look_no_later(self) -> None:
        """What came may be due before all else; it puts off nothing, however often it comes."""
        looks_ns = (self._look_ns, self._departures.next_look_ns())
        self._look_ns = min((at_ns for at_ns in looks_ns if at_ns is not None), default=None)

    def withdraw(self, purpose: Purpose) -> int:
        """Drops what waits in memory for a purpose, before it is erased on flash; how many records that were."""
        return sum(self._drop_waiting(lane, purpose, Dropped.ERASED) for lane in Lane)

    def _drop_waiting(self, lane: Lane, purpose: Purpose | None, why: Dropped) -> int:
        queue = self._queue.lanes[lane]
        held = queue.told
        withdrawn = queue.withdraw(purpose)
        if held and not queue.told:  # it was among them: it is told again
            self._telling = False
        self._count(lane, **{f"dropped_{why.value}": withdrawn})
        return withdrawn

    def next_unsent(self, lane: Lane, after: BlockRef | None) -> BlockRef | None:
        """The lane's oldest block behind `after` that still has to go, over all epochs."""
        with self._departures.lock:
            return self._shelf.next_unsent(lane, after)

    def has_left(self, ref: BlockRef) -> bool:
        """Whether nothing of it has to go any more."""
        with self._departures.lock:
            return self._shelf.find(ref.lane, ref.serial) is None or self._shelf.has_left(ref)

    def mark_sent(self, ref: BlockRef) -> None:
        """From here on a receipt for it is believed."""
        with self._departures.lock:
            self._shelf.mark_sent(ref)

    def counts(self) -> SpoolCounts:
        with self._departures.lock:
            return SpoolCounts(
                lanes=tuple(self._lane_counts(lane) for lane in Lane),
                segments=len(self._shelf.all_segments()),
                free_segments=len(self._files.free),
                flash_bytes=sum(s.file_bytes for s in self._shelf.all_segments())
                + len(self._files.free) * self._segment_bytes,
                ledger_lost=self.ledger_lost,
                books_lost=self.books_lost,
                receipts_ignored=self._departures.receipts_ignored,
                last_refusal=self._last_refusal,
                fault=self._log.fault or self._departures.fault,
                why_full=self.why_full,
                untold=self._departures.untold.records,
                copies=len(self._departures.copies),
                dictionary_fault=self._dictionary_fault,
            )

    def segments(self, lane: Lane) -> tuple[Segment, ...]:
        """The lane's segments, oldest first, to look at."""
        with self._departures.lock:
            return tuple(self._shelf.segments(lane))

    def _lane_counts(self, lane: Lane) -> LaneCounts:
        return lane_counts(
            lane,
            counted(self._counters.values(), lane),
            self._queue.lanes[lane].count,
            self._departures.totals[lane],
            self._shelf.spooled(lane),
            self._departures.unreadable[lane],
        )

    @property
    def why_full(self) -> str | None:
        """Why records wait in memory although their commit was due; None while flash takes them."""
        stuck = [f"{lane.name} {queue.stuck.value}" for lane, queue in self._queue.lanes.items() if queue.stuck]
        return f"{', '.join(stuck)}: {self._log.fault}" if stuck else None

    def _count(self, lane: Lane, **deltas: int) -> None:
        self._counters.add(**{counter(lane, what): delta for what, delta in deltas.items()})

    # --- the writer's thread ---

    def write(self, batch: Batch, witnessed: bool = True) -> Written:
        """Makes the batch durable, P0 first, as far as flash lets it. DiskErrors are in the answer, never raised.

        `witnessed`: somebody wants to hear of each record; otherwise `settle` has nothing to say.
        """
        return tuple(
            self._log.append(part.lane, pack(part.runs, self._max_wire_bytes), witnessed) for part in batch.parts
        )

    def expire(self) -> None:
        """Makes leave what nobody wants any more, and sees to it that a power cut makes nothing much younger."""
        self._departures.expire()
        self._look_ns = self._departures.next_look_ns()

    def load(self, ref: BlockRef) -> bytes:
        """The wire block. Raises BadBlock when it is no more, or was damaged; then it is quarantined already.

        Raises DiskStarved when the computer can't read anything now: it stays spooled.
        """
        with self._departures.lock:
            segment = self._shelf.find(ref.lane, ref.serial)
        if segment is None or self.has_left(ref):
            raise BadBlock(f"{ref.lane.name} {ref.base_seq}-{ref.end_seq - 1} has left the spool")
        try:
            cipher = self._vault.cipher(ref.lane, ref.purpose, segment.spool_id, segment.salt)
            return read_block(self._disk, segment.name, ref, cipher, segment.salt)
        except (KeyLost, BadBlock) as error:
            why = Quarantined.KEY_LOST if isinstance(error, KeyLost) else Quarantined.CORRUPT
            self._quarantine(ref, why)
            name = f"{ref.lane.name} {ref.base_seq}-{ref.end_seq - 1}"
            raise BadBlock(f"{name} in {segment.name} can't be sent: {error}") from error

    def acknowledge(self, receipt: Receipt) -> int:
        """How many records that frees. What was never sent in this process isn't freed, and is counted as ignored."""
        return self._departures.acknowledge(receipt)

    def quarantine(self, ref: BlockRef, reason: str) -> int:
        """The other side will never take this block: the records that leave with it."""
        self._last_refusal = reason
        return self._quarantine(ref, Quarantined.REFUSED)

    def _quarantine(self, ref: BlockRef, why: Quarantined) -> int:
        left = self._departures.quarantine(ref, why)
        self._look_no_later()
        return left

    @property
    def epochs(self) -> Mapping[Lane, bytes]:
        """Of what becomes durable since this opening."""
        return self._log.epochs

    def holds(self, purpose: Purpose) -> bool:
        """Whether a record for it lies on flash that hasn't left."""
        with self._departures.lock:
            return any(
                ref.purpose is purpose and not self._shelf.has_left(ref)
                for segment in self._shelf.all_segments()
                for ref in segment.blocks()
            )

    def erase(self, purpose: Purpose) -> int:
        """Makes everything on flash for this purpose unreadable, for ever; the records that were.

        Everything written must be settled. Raises DiskError; the erasure is then finished by the next start.
        """
        if any(segment.unsettled for segment in self._shelf.all_segments()):
            raise RuntimeError("settle what was written before erasing")
        self._log.seal_all()
        return self._departures.erase(purpose)

    def close(self) -> None:
        """The planned end: everything taken must be settled. What couldn't be made durable is dropped and counted.

        Raises DiskError when that can't be written down; nothing durable is lost then.
        """
        for lane, queue in self._queue.lanes.items():
            self._drop_waiting(lane, None, queue.stuck or Dropped.DISK_FULL)
        self._log.seal_all()
        self._departures.free_what_is_done()
        self._departures.write(both=False, clean=True)


def _settle_counters(counters: Counters, departures: Departures, shelf: Shelf, unreadable: Set[Lane]) -> bool:
    """Makes counters and flash agree; True when the counters had known less than flash does."""
    openings = {lane: _opening(lane, counters, departures, shelf, lane in unreadable) for lane in Lane}
    for lane, opening in openings.items():
        missing = Quarantined.MISSING.value
        more = opening.totals.quarantined.get(missing, 0) - departures.totals[lane].quarantined.get(missing, 0)
        departures.untold = with_unranged(departures.untold, lane, f"quarantined:{missing}", more)
        departures.totals[lane], departures.unreadable[lane] = opening.totals, opening.unreadable
        dropped = {f"dropped_{why}": records for why, records in opening.totals.dropped.items()}
        known = {"offered": opening.offered, "durable": opening.durable, **dropped}
        counters.set(**{counter(lane, what): value for what, value in known.items()})
    return any(opening.behind for opening in openings.values())


def _opening(lane: Lane, counters: Counters, departures: Departures, shelf: Shelf, may_return: bool) -> Opening:
    return reconcile(counted(counters.values(), lane), departures.totals[lane], shelf.spooled(lane), may_return)
