"""Appends blocks to segments: one write and one sync for all that a commit brings to a segment, none of it confirmed
before. A segment in which anything failed is never written or synced again; the same records go into a new one.

A segment begins at the seq up to which its lane's epoch was durable: what earlier segments of the epoch hold from there
on was never confirmed, and a reader passes over it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from ecu.clock import Clock
from ecu.disk import Disk, DiskError, DiskFault, DiskFull
from telemetry.confirmations import Confirmation
from telemetry.records import Lane, Purpose, digests_of_run
from telemetry.spool.aging import SpoolTime, due_code
from telemetry.spool.ciphers import Aead
from telemetry.spool.counts import Dropped, Evicted
from telemetry.spool.departures import Departures, Files, free_name
from telemetry.spool.format import (
    HEADER_PAGES,
    SALT_BYTES,
    TAG_BYTES,
    Entry,
    FrameHeader,
    SegmentHeader,
    end_page,
    frame_pages,
    pack_entry,
    pack_index,
    pack_segment_header,
    trimmed_pages,
)
from telemetry.spool.frames import seal_frame
from telemetry.spool.limits import PAGE_BYTES, SpoolLimits
from telemetry.spool.packing import Packed, Waiting
from telemetry.spool.recovery import read_header
from telemetry.spool.retention import Evict, Holding, Room, room_for, to_trim, victim_for
from telemetry.spool.shelf import Segment, Shelf, Stream
from telemetry.spool.vault import Vault
from telemetry.wire import CODEC_RECORDS_ZSTD, HEADER_BYTES, BlockHeader, pack_block

_FAULTS_BEFORE_GIVING_BACK: Final = 2


class NoRoom(DiskFull):
    """No segment can be had for this lane: the other lanes' reserves and higher lanes hold all of max_bytes."""


@dataclass(frozen=True, slots=True)
class StoredBlock:
    """A durable block, as its segment's index will list it. `confirmed` is empty where nobody witnesses."""

    serial: int
    base_seq: int
    entry: bytes
    runs: tuple[Waiting, ...]
    count: int
    confirmed: tuple[Confirmation, ...]
    pages: int


@dataclass(frozen=True, slots=True)
class LaneWritten:
    """What became of one lane's part of a batch: blocks that are durable, and records that have to be tried again."""

    lane: Lane
    blocks: tuple[StoredBlock, ...]
    back: tuple[Waiting, ...]
    why: Dropped | None


@dataclass(slots=True)
class Active:
    """A lane's segment while it is written."""

    segment: Segment
    page: int = HEADER_PAGES
    counter: int = 0
    entries: bytearray = field(default_factory=bytearray)
    named: bool = False
    ciphers: dict[Purpose, Aead] = field(default_factory=dict)

    def fitting(self, blocks: Sequence[Packed]) -> int:
        """How many of the blocks, from the first, still go into the segment."""
        page, end = self.page, end_page(self.segment.pages)
        for count, block in enumerate(blocks):
            page += frame_pages(HEADER_BYTES + len(block.body))
            if page > end:
                return count
        return len(blocks)


class SegmentLog:
    """One thread calls it. Every open of the spool has its own epochs, so no (epoch, seq) ever names two records."""

    def __init__(
        self,
        disk: Disk,
        vault: Vault,
        clock: Clock,
        entropy: Callable[[int], bytes],
        limits: SpoolLimits,
        shelf: Shelf,
        departures: Departures,
        files: Files,
        spool_id: bytes,
        epochs: dict[Lane, bytes],
        time: SpoolTime,
    ) -> None:
        self.fault: str | None = None
        self._disk = disk
        self._vault = vault
        self._clock = clock
        self._entropy = entropy
        self._limits = limits
        self._shelf = shelf
        self._departures = departures
        self._files = files
        self._spool_id = spool_id
        self.epochs = epochs
        self._time = time
        self._next_seq = dict.fromkeys(Lane, 0)
        self._active: dict[Lane, Active] = {}

    def append(self, lane: Lane, blocks: Sequence[Packed], witnessed: bool) -> LaneWritten:
        """Makes the blocks durable in order, as many as can be; never raises DiskError. `witnessed`: somebody wants to
        hear of each record."""
        stored: list[StoredBlock] = []
        why, faults = None, 0
        while len(stored) < len(blocks):
            try:
                stored += self._append_some(lane, blocks[len(stored) :], witnessed)
            except NoRoom as error:
                self.fault, why = str(error), Dropped.DISK_FULL
                break
            except DiskError as error:
                self.fault, faults = str(error), faults + 1
                if faults == _FAULTS_BEFORE_GIVING_BACK:
                    why = Dropped.DISK_FULL if isinstance(error, DiskFull) else Dropped.DISK_FAULT
                    break
        if not why and not faults:
            self.fault = None
        back = tuple(run for block in blocks[len(stored) :] for run in block.runs)
        return LaneWritten(lane, tuple(stored), back, why)

    def _append_some(self, lane: Lane, blocks: Sequence[Packed], witnessed: bool) -> list[StoredBlock]:
        """As many as still go into one segment, at least one."""
        for purpose in {block.purpose for block in blocks}:
            self._vault.make_sure(lane, purpose)
        active = self._active.get(lane)
        if active and not active.fitting(blocks[:1]):
            self._seal(active)
            active = None
        active = active or self._begin(lane)
        frames, stored = self._framed(active, blocks[: active.fitting(blocks)], witnessed)
        try:
            self._commit(active, frames)
        except DiskError:
            active.segment.faulty = True
            self._retire(active.segment)
            raise
        self._confirm(active, stored)
        return stored

    def _framed(
        self, active: Active, blocks: Sequence[Packed], witnessed: bool
    ) -> tuple[list[bytes], list[StoredBlock]]:
        """The blocks as they will lie from the active page on."""
        frames, stored, page = list[bytes](), list[StoredBlock](), active.page
        segment, now_ns = active.segment, self._time.now_ns()
        durable_seq = seq = self._next_seq[segment.lane]
        for block in blocks:
            due = due_code(segment.created_spool_ns, now_ns, block.keep_s)
            frames.append(self._frame(active, block, seq, durable_seq, due))
            stored.append(_stored(segment, block, seq, page, due, witnessed))
            seq, page = seq + block.count, page + stored[-1].pages
        return frames, stored

    def _frame(self, active: Active, block: Packed, seq: int, durable_seq: int, due: int) -> bytes:
        segment = active.segment
        header = BlockHeader(
            segment.lane, block.purpose, segment.epoch, seq, block.count,
            CODEC_RECORDS_ZSTD, block.dictionary, len(block.body),
        )  # fmt: skip
        wire = pack_block(header, block.body)
        # Counted up before anything can fail: a counter is spent even when its frame never reaches flash.
        active.counter += 1
        frame = FrameHeader(len(wire) + TAG_BYTES, block.count, seq, durable_seq, active.counter, block.purpose, due)
        return seal_frame(wire, frame, self._cipher(active, block), segment.salt)

    def _cipher(self, active: Active, block: Packed) -> Aead:
        segment, cipher = active.segment, active.ciphers.get(block.purpose)
        if cipher is None:
            cipher = self._vault.cipher(segment.lane, block.purpose, segment.spool_id, segment.salt)
            active.ciphers[block.purpose] = cipher
        return cipher

    def _commit(self, active: Active, frames: Sequence[bytes]) -> None:
        """Durable when this returns: the frames, the segment's header, and, for a new one, its name."""
        self._disk.write_at(active.segment.name, active.page * PAGE_BYTES, b"".join(frames))
        self._disk.sync(active.segment.name)
        if not active.named:
            self._disk.sync_folder("")
            active.named = True

    def _confirm(self, active: Active, stored: Sequence[StoredBlock]) -> None:
        active.page += sum(block.pages for block in stored)
        active.entries += b"".join(block.entry for block in stored)
        self._next_seq[active.segment.lane] += sum(block.count for block in stored)
        with self._departures.lock:
            active.segment.unsettled += len(stored)

    # --- segments ---

    def _begin(self, lane: Lane) -> Active:
        file = self._file_for(lane)
        serial, self._files.next_serial = self._files.next_serial, self._files.next_serial + 1
        segment = Segment(
            serial=serial,
            lane=lane,
            epoch=self.epochs[lane],
            spool_id=self._spool_id,
            salt=self._entropy(SALT_BYTES),
            base_seq=self._next_seq[lane],
            pages=self._limits.segment_bytes // PAGE_BYTES,
            created_wall_ns=self._clock.wall_ns(),
            created_spool_ns=self._time.now_ns(),
            active=True,
        )
        try:
            self._disk.write_at(file, 0, pack_segment_header(self._header(segment)))
            self._disk.rename(file, segment.name)
        except DiskError:
            self._discard(file)
            raise
        with self._departures.lock:
            self._shelf.place(segment)
        active = self._active[lane] = Active(segment)
        return active

    def _header(self, segment: Segment) -> SegmentHeader:
        return SegmentHeader(
            segment.lane, segment.pages, segment.serial, segment.spool_id, segment.epoch, segment.salt,
            segment.base_seq, segment.created_spool_ns, segment.created_wall_ns,
        )  # fmt: skip

    def _seal(self, active: Active) -> None:
        """The segment is full. Its index only saves the next start a search: it is never synced, and may fail."""
        self._write_index(active.segment, active.entries)
        self._retire(active.segment)

    def _write_index(self, segment: Segment, entries: bytearray) -> None:
        try:
            write_index(self._disk, segment.name, entries, segment.salt, segment.pages)
        except DiskError as error:
            self.fault = str(error)

    def _retire(self, segment: Segment) -> None:
        del self._active[segment.lane]
        with self._departures.lock:
            segment.active = False

    def settle_found(self, segments: Sequence[Segment], floors: Mapping[Stream, int]) -> list[Segment]:
        """Makes durable what a killed process may have left in memory only, before it is counted as durable.

        Those that are: what flash doesn't take now stays unsealed, and the next start tries again.
        """
        try:
            settled = [segment for segment in segments if self._settle(segment, floors[segment.stream])]
            if settled:
                self._disk.sync_folder("")
        except DiskError as error:
            self.fault = str(error)
            return []
        return settled

    def _settle(self, segment: Segment, floor: int) -> bool:
        unsynced = [block.page for block in segment.blocks() if block.base_seq >= floor]
        try:
            if unsynced:
                self._write_again(segment, unsynced[0])
        except DiskError as error:
            self.fault = str(error)
            return False
        return True

    def _write_again(self, segment: Segment, page: int) -> None:
        # If a sync failed before the kill, Linux takes these pages for written, and another sync alone does nothing.
        at, end = page * PAGE_BYTES, segment.used_pages * PAGE_BYTES
        if header := read_header(self._disk, segment.name):
            self._disk.write_at(segment.name, 0, pack_segment_header(header))
        self._disk.write_at(segment.name, at, self._disk.read_at(segment.name, at, end - at))
        self._disk.sync(segment.name)

    def seal_found(self, segments: Sequence[Segment]) -> None:
        """What an earlier start left open, and this one has searched: what it found is what later ones find, too.

        Only after the books hold the damage: an index doesn't tell what is missing from it.
        """
        for segment in segments:
            self._write_index(segment, segment.entries)

    def seal_all(self) -> None:
        """No segment is active any more: before a planned end, and before keys change."""
        for active in list(self._active.values()):
            self._seal(active)

    # --- files ---

    def _file_for(self, lane: Lane) -> str:
        """The name of a file for a new segment; evicts as the limits demand. Raises NoRoom or DiskError."""
        self._departures.free_what_is_done()
        while (step := room_for(lane, self._held(), self._files.unusable_bytes, self._limits)) is not Room.THERE:
            self._make_room(lane, step, Evicted.QUOTA)
        while not self._files.free:
            try:
                return self._created()
            except DiskFull:
                self._make_room(lane, victim_for(lane, self._held(), self._limits), Evicted.DISK_FULL)
        return self._files.free.pop()

    def _make_room(self, lane: Lane, step: Room | Evict, why: Evicted) -> None:
        if self._has_trimmed():
            return
        if isinstance(step, Evict):
            self._evict(step.lane, why)
        else:
            raise NoRoom(
                f"Lane {lane.name} gets no segment: higher lanes and reserves hold all of the {self._limits.max_bytes}"
                " bytes, or the disk is full. Bring the link up, free space, or raise [spool] max_bytes."
            )

    def _has_trimmed(self) -> bool:
        """Whether a finished segment gave back what it never used."""
        while wasteful := self._most_wasteful():
            try:
                trim(self._disk, wasteful)
            except (DiskFault, DiskFull) as error:
                # It would be chosen again at each commit, and no lane would ever get room.
                wasteful.faulty, self.fault = True, str(error)
            else:
                return True
        return False

    def _most_wasteful(self) -> Segment | None:
        with self._departures.lock:
            return to_trim(self._shelf.all_segments())

    def _created(self) -> str:
        name = free_name(self._files.next_serial)
        self._files.next_serial += 1
        self._disk.create(name, self._limits.segment_bytes)
        return name

    def _held(self) -> dict[Lane, Holding]:
        with self._departures.lock:
            return {
                lane: Holding(sum(s.file_bytes for s in segments), any(not s.busy for s in segments))
                for lane in Lane
                for segments in [self._shelf.segments(lane)]
            }

    def _evict(self, lane: Lane, why: Evicted) -> None:
        with self._departures.lock:
            oldest = next(segment for segment in self._shelf.segments(lane) if not segment.busy)
        self._departures.evict(oldest, why)

    def _discard(self, file: str) -> None:
        try:
            self._disk.remove(file)
        except DiskError:
            self._files.unusable_bytes += self._limits.segment_bytes


def write_index(disk: Disk, name: str, entries: bytes | bytearray, salt: bytes, pages: int) -> None:
    disk.write_at(name, end_page(pages) * PAGE_BYTES, pack_index(entries, salt))


def trim(disk: Disk, segment: Segment) -> None:
    """Gives back the pages that a finished segment never used. Its frames stay untouched, so a crash is harmless."""
    pages = trimmed_pages(segment.used_pages)
    write_index(disk, segment.name, segment.entries, segment.salt, pages)
    disk.truncate(segment.name, pages * PAGE_BYTES)
    segment.pages = pages


def _stored(segment: Segment, block: Packed, seq: int, page: int, due: int, witnessed: bool) -> StoredBlock:
    wire_bytes = HEADER_BYTES + len(block.body)
    return StoredBlock(
        segment.serial,
        seq,
        pack_entry(Entry(seq - segment.base_seq, block.count, wire_bytes, page, block.purpose, due)),
        block.runs,
        block.count,
        _confirmations(segment, block, seq) if witnessed else (),
        frame_pages(wire_bytes),
    )


def _confirmations(segment: Segment, block: Packed, seq: int) -> tuple[Confirmation, ...]:
    digests = [digest for run in block.runs for digest in digests_of_run(run.count, run.plain)]
    return tuple(Confirmation(int(segment.lane), segment.epoch, seq + i, digest) for i, digest in enumerate(digests))
