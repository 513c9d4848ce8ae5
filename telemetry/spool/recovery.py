"""What is on flash: read at every start, and by verbs that only look. Nothing here writes.

A segment that was sealed tells its blocks in its index; any other is searched page by page. Of the last commit in it,
which a power cut may have torn, each block is decrypted to see whether it is whole. Damage costs what it hit: a block
whose header doesn't read is passed over, and the search goes on at the next page.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from ecu.disk import Disk, DiskFault
from telemetry.records import Lane, Purpose
from telemetry.spool.books import Page
from telemetry.spool.ciphers import Aead
from telemetry.spool.format import (
    HEADER_PAGES,
    Entry,
    FrameHeader,
    SegmentHeader,
    end_page,
    frames_in,
    index_pages,
    pack_entry,
    unpack_index,
    unpack_segment_header,
)
from telemetry.spool.frames import is_whole, patiently
from telemetry.spool.intervals import IntervalSet
from telemetry.spool.limits import PAGE_BYTES
from telemetry.spool.shelf import Segment, Stream, segment_name
from telemetry.spool.vault import KeyLost, Vault

_SEGMENT_NAME: Final = re.compile(r"(?:p[0-3]|free)-(\d{8,})\.seg")


@dataclass(slots=True)
class Survey:
    """The segments on a disk, oldest first, and what else there is.

    `floors`: records of a stream below its floor had been synced, so that one that isn't there was lost to damage.
    `unreadable`: lanes with a segment that can't be read now, and may be another time.
    """

    segments: list[Segment] = field(default_factory=list)
    unsealed: list[Segment] = field(default_factory=list)
    floors: dict[Stream, int] = field(default_factory=dict)
    free: list[str] = field(default_factory=list)
    useless: list[str] = field(default_factory=list)
    unreadable_bytes: int = 0
    unreadable: set[Lane] = field(default_factory=set)
    next_serial: int = 1

    def streams(self) -> dict[Stream, IntervalSet]:
        """Each stream with the records that are there."""
        present: dict[Stream, IntervalSet] = {}
        for segment in self.segments:
            records = present.setdefault(segment.stream, IntervalSet())
            for start, end in segment.ranges():
                records.add(start, end)
        return present

    def raise_floor(self, stream: Stream, seq: int) -> None:
        self.floors[stream] = max(seq, self.floors.get(stream, 0))


def survey(disk: Disk, vault: Vault, page: Page, segment_bytes: int) -> Survey:
    """Reads a page or two and the index of each sealed segment, and all of any other."""
    found = Survey()
    for name in disk.names(""):
        if match := _SEGMENT_NAME.fullmatch(name):
            found.next_serial = max(found.next_serial, int(match[1]) + 1)
            _look_at(disk, name, segment_bytes, found)
    found.segments.sort(key=lambda segment: segment.serial)
    begun: dict[Stream, int] = {}
    for segment in reversed(found.segments):
        whole = _Whole(vault, page, segment)
        _fill(disk, whole, segment, begun.get(segment.stream, 1 << 63), found)
        begun[segment.stream] = segment.base_seq
    return found


def _look_at(disk: Disk, name: str, segment_bytes: int, found: Survey) -> None:
    try:
        size = patiently(lambda: disk.size(name))
        header = read_header(disk, name)
    except DiskFault:
        found.unreadable_bytes += segment_bytes
        found.unreadable |= {lane for lane in Lane if name.startswith(f"{lane.name.lower()}-")}
        return
    if header:
        # A free file may have been begun under a number that no name tells: it must not be given out again.
        found.next_serial = max(found.next_serial, header.serial + 1)
    if header and name == segment_name(header.lane, header.serial):
        found.segments.append(_segment(header, size // PAGE_BYTES))
    elif name.startswith("free-") and size == segment_bytes:
        found.free.append(name)
    else:
        # Never begun, or damaged in both headers. Not to be reused: its file may have another name as well.
        found.useless.append(name)


def read_header(disk: Disk, name: str) -> SegmentHeader | None:
    """The first whole copy; None when neither is. Raises DiskFault when one that can't be read may be."""
    fault = None
    for page in range(HEADER_PAGES):
        try:
            if header := unpack_segment_header(_read_page(disk, name, page)):
                return header
        except DiskFault as error:
            fault = error
    if fault:
        raise fault
    return None


def _segment(header: SegmentHeader, pages: int) -> Segment:
    return Segment(
        serial=header.serial,
        lane=header.lane,
        epoch=header.epoch,
        spool_id=header.spool_id,
        salt=header.salt,
        base_seq=header.base_seq,
        pages=pages,
        created_wall_ns=header.created_wall_ns,
        created_spool_ns=header.created_spool_ns,
    )


def _fill(disk: Disk, whole: _Whole, segment: Segment, next_base_seq: int, found: Survey) -> None:
    """The segment's blocks, up to where the next segment of its stream begins: what lies beyond was never confirmed."""
    entries = _index(disk, segment)
    if entries is None:
        entries = _searched(disk, whole, segment, next_base_seq, found)
        found.unsealed.append(segment)
    segment.entries += entries
    found.raise_floor(segment.stream, segment.base_seq)


def _index(disk: Disk, segment: Segment) -> bytes | None:
    where, length = end_page(segment.pages) * PAGE_BYTES, index_pages(segment.pages) * PAGE_BYTES
    try:
        return unpack_index(patiently(lambda: disk.read_at(segment.name, where, length)), segment.salt)
    except DiskFault:
        return None


def _searched(disk: Disk, whole: _Whole, segment: Segment, next_base_seq: int, found: Survey) -> bytes:
    data = _all_of(disk, segment)
    frames = [(p, f) for p, f in frames_in(data, segment.salt) if segment.base_seq <= f.base_seq < next_base_seq]
    floor = max((frame.durable_seq for _, frame in frames), default=segment.base_seq)
    found.raise_floor(segment.stream, floor)
    return b"".join(
        pack_entry(_entry(segment, page, frame))
        for page, frame in frames
        if frame.base_seq < floor or whole(frame, data[page * PAGE_BYTES : (page + frame.pages) * PAGE_BYTES])
    )


def _all_of(disk: Disk, segment: Segment) -> bytes:
    try:
        return disk.read(segment.name)
    except DiskFault:
        return b"".join(_page(disk, segment.name, page) for page in range(segment.pages))


def _page(disk: Disk, name: str, page: int) -> bytes:
    try:
        return _read_page(disk, name, page)
    except DiskFault:
        return bytes(PAGE_BYTES)


def _read_page(disk: Disk, name: str, page: int) -> bytes:
    return patiently(lambda: disk.read_at(name, page * PAGE_BYTES, PAGE_BYTES))


def _entry(segment: Segment, page: int, frame: FrameHeader) -> Entry:
    return Entry(frame.base_seq - segment.base_seq, frame.count, frame.wire_bytes, page, frame.purpose, frame.due)


class _Whole:
    """Tells whether a frame reached flash in full; one whose key is gone has the benefit of the doubt."""

    def __init__(self, vault: Vault, page: Page, segment: Segment) -> None:
        self._vault = vault
        self._page = page
        self._segment = segment
        self._ciphers: dict[Purpose, Aead | None] = {}

    def __call__(self, frame: FrameHeader, data: bytes) -> bool:
        if self._page.is_erased(frame.purpose, self._segment.serial):
            return True
        if frame.purpose not in self._ciphers:
            self._ciphers[frame.purpose] = self._cipher(frame.purpose)
        cipher = self._ciphers[frame.purpose]
        return cipher is None or is_whole(data, cipher, self._segment.salt)

    def _cipher(self, purpose: Purpose) -> Aead | None:
        segment = self._segment
        try:
            return self._vault.cipher(segment.lane, purpose, segment.spool_id, segment.salt)
        except KeyLost:
            return None
