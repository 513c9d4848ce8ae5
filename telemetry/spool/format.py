"""The bytes of a segment, version 1; layout and golden vectors: docs/formats/spool.md.

    segment, 4 KiB pages:  header | header again | frames ... | index, in the last pages of the file (once sealed)
    frame:                 48-byte header | AES-256-GCM of one wire block | zeros to the next page

Every checksum is salted with the segment's own salt, so that what a recycled segment held before is never read as new.
All integers are little-endian.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from operator import add, eq
from typing import Final

from telemetry.records import Lane, Purpose
from telemetry.spool.aging import FOR_EVER
from telemetry.spool.limits import PAGE_BYTES
from telemetry.wire import MAX_BLOCK_BYTES

VERSION: Final = 1
SALT_BYTES: Final = 16
EPOCH_BYTES: Final = 16
HEADER_PAGES: Final = 2
TAG_BYTES: Final = 16

_SEGMENT_MAGIC: Final = b"ORS1"
_FRAME_MAGIC: Final = b"ORF1"
_INDEX_MAGIC: Final = b"ORI1"

# magic, version, lane, pages, serial, spool id, epoch, salt, base_seq, spool_ns, wall_ns | CRC-32
_SEGMENT = struct.Struct("<4sHHIQ16s16s16sQqq")
# magic, CRC-32 | cipher length, count, base_seq, durable_seq, counter, purpose, due
_FRAME_HEAD = struct.Struct("<4sI")
_FRAME_BODY = struct.Struct("<IIQQQB3xI")
# magic, CRC-32 | entries
_INDEX_HEAD = struct.Struct("<4sI")
_INDEX_BODY = struct.Struct("<II")
# seq - base_seq of the segment, count, low half of due, wire bytes, page, purpose, rest of due
_ENTRY = struct.Struct("<IHHIHBB")
_CRC = struct.Struct("<I")

FRAME_HEADER_BYTES: Final = _FRAME_HEAD.size + _FRAME_BODY.size
ENTRY_BYTES: Final = _ENTRY.size
assert FRAME_HEADER_BYTES == 48
assert ENTRY_BYTES == 16


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """What a segment says about itself. `serial` is also in its name: a name that differs tells of older content."""

    lane: Lane
    pages: int
    serial: int
    spool_id: bytes
    epoch: bytes
    salt: bytes
    base_seq: int
    created_spool_ns: int
    created_wall_ns: int


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """What a frame says before it is decrypted. Records of its epoch below `durable_seq` had been synced before it.
    `due`: aging.due_code."""

    cipher_bytes: int
    count: int
    base_seq: int
    durable_seq: int
    counter: int
    purpose: Purpose
    due: int = FOR_EVER

    @property
    def wire_bytes(self) -> int:
        return self.cipher_bytes - TAG_BYTES

    @property
    def end_seq(self) -> int:
        return self.base_seq + self.count

    @property
    def pages(self) -> int:
        return frame_pages(self.wire_bytes)

    @property
    def nonce(self) -> bytes:
        """12 bytes, never twice under one key: the counter doesn't repeat within the segment that the key is for."""
        return self.counter.to_bytes(12, "little")


@dataclass(frozen=True, slots=True)
class Entry:
    """One block in a segment's index: 16 bytes there and in memory."""

    seq_offset: int
    count: int
    wire_bytes: int
    page: int
    purpose: Purpose
    due: int = FOR_EVER


def frame_pages(wire_bytes: int) -> int:
    return -(-(FRAME_HEADER_BYTES + wire_bytes + TAG_BYTES) // PAGE_BYTES)


def index_pages(pages: int) -> int:
    """How many pages at the end of a segment its index takes when every block is one page."""
    per_page = PAGE_BYTES // ENTRY_BYTES
    return -(-(pages - HEADER_PAGES + 1) // (per_page + 1))


def end_page(pages: int) -> int:
    """The page behind the last that a frame can take."""
    return pages - index_pages(pages)


def trimmed_pages(used_pages: int) -> int:
    """The smallest segment whose frames end at page `used_pages`, its index behind them."""
    pages = used_pages + 1
    while end_page(pages) < used_pages:
        pages += 1
    return pages


def max_wire_bytes(segment_bytes: int) -> int:
    """The largest block that a segment of this size takes."""
    pages = segment_bytes // PAGE_BYTES
    room = (end_page(pages) - HEADER_PAGES) * PAGE_BYTES - FRAME_HEADER_BYTES - TAG_BYTES
    return min(MAX_BLOCK_BYTES, room)


def pack_segment_header(header: SegmentHeader) -> bytes:
    """Both copies: the first two pages of the segment."""
    head = _SEGMENT.pack(
        _SEGMENT_MAGIC, VERSION, header.lane, header.pages, header.serial, header.spool_id, header.epoch, header.salt,
        header.base_seq, header.created_spool_ns, header.created_wall_ns,
    )  # fmt: skip
    return (head + _CRC.pack(zlib.crc32(head))).ljust(PAGE_BYTES, b"\0") * HEADER_PAGES


def unpack_segment_header(data: bytes) -> SegmentHeader | None:
    """The first whole copy in the first two pages of a file; None when neither is."""
    for page in range(HEADER_PAGES):
        if header := _segment_header(data[page * PAGE_BYTES : (page + 1) * PAGE_BYTES]):
            return header
    return None


def _segment_header(page: bytes) -> SegmentHeader | None:
    if len(page) < PAGE_BYTES or _CRC.unpack_from(page, _SEGMENT.size) != (zlib.crc32(page[: _SEGMENT.size]),):
        return None
    magic, version, lane, pages, serial, spool_id, epoch, salt, base_seq, spool_ns, wall_ns = _SEGMENT.unpack_from(page)
    if (magic, version) != (_SEGMENT_MAGIC, VERSION) or lane not in list(Lane):
        return None
    return SegmentHeader(Lane(lane), pages, serial, spool_id, epoch, salt, base_seq, spool_ns, wall_ns)


def pack_frame_header(frame: FrameHeader, salt: bytes) -> bytes:
    """48 bytes, which are the cipher's associated data as well."""
    body = _FRAME_BODY.pack(
        frame.cipher_bytes, frame.count, frame.base_seq, frame.durable_seq, frame.counter, frame.purpose, frame.due
    )
    return _FRAME_HEAD.pack(_FRAME_MAGIC, zlib.crc32(body, zlib.crc32(salt))) + body


def unpack_frame_header(data: bytes, salt: bytes) -> FrameHeader | None:
    """None when no frame of this segment begins here."""
    if len(data) < FRAME_HEADER_BYTES:
        return None
    magic, crc = _FRAME_HEAD.unpack_from(data)
    if magic != _FRAME_MAGIC or crc != zlib.crc32(data[_FRAME_HEAD.size : FRAME_HEADER_BYTES], zlib.crc32(salt)):
        return None
    cipher_bytes, count, base_seq, durable_seq, counter, purpose, due = _FRAME_BODY.unpack_from(data, _FRAME_HEAD.size)
    if purpose not in list(Purpose):
        return None
    return FrameHeader(cipher_bytes, count, base_seq, durable_seq, counter, Purpose(purpose), due)


def frames_in(segment: bytes, salt: bytes) -> Iterator[tuple[int, FrameHeader]]:
    """(page, header) of every frame that begins whole; what isn't a frame is skipped page by page."""
    end = end_page(len(segment) // PAGE_BYTES)
    page = HEADER_PAGES
    while page < end:
        frame = unpack_frame_header(segment[page * PAGE_BYTES : page * PAGE_BYTES + FRAME_HEADER_BYTES], salt)
        if frame is None or page + frame.pages > end:
            page += 1
            continue
        yield page, frame
        page += frame.pages


def pack_entry(entry: Entry) -> bytes:
    low, high = entry.due & 0xFFFF, entry.due >> 16
    return _ENTRY.pack(entry.seq_offset, entry.count, low, entry.wire_bytes, entry.page, entry.purpose, high)


def unpack_entry(entries: bytes | bytearray, index: int) -> Entry:
    seq_offset, count, low, wire_bytes, page, purpose, high = _ENTRY.unpack_from(entries, index * ENTRY_BYTES)
    return Entry(seq_offset, count, wire_bytes, page, Purpose(purpose), high << 16 | low)


def due_codes(entries: bytes | bytearray) -> Iterator[int]:
    """When each block of an index is due, without making anything of the rest of it."""
    return (high << 16 | low for _, _, low, _, _, _, high in _ENTRY.iter_unpack(entries))


def is_contiguous(entries: bytes | bytearray) -> bool:
    """Whether each block begins where the one before it ends: then the first and the last tell all numbers."""
    fields = struct.unpack("<" + "IHHIHBB" * (len(entries) // ENTRY_BYTES), entries)
    starts, counts = fields[0::7], fields[1::7]
    return all(map(eq, starts[1:], map(add, starts, counts)))


def pack_index(entries: bytes | bytearray, salt: bytes) -> bytes:
    """What is written at `end_page` of a segment that is full: all its blocks, so that nobody has to look for them."""
    body = _INDEX_BODY.pack(len(entries) // ENTRY_BYTES, 0) + entries
    packed = _INDEX_HEAD.pack(_INDEX_MAGIC, zlib.crc32(body, zlib.crc32(salt))) + body
    return packed + bytes(-len(packed) % PAGE_BYTES)


def unpack_index(data: bytes, salt: bytes) -> bytes | None:
    """The entries, packed; None when this segment wasn't sealed, or its index was damaged."""
    start = _INDEX_HEAD.size + _INDEX_BODY.size
    if len(data) < start:
        return None
    magic, crc = _INDEX_HEAD.unpack_from(data)
    count, _ = _INDEX_BODY.unpack_from(data, _INDEX_HEAD.size)
    body = data[_INDEX_HEAD.size : start + count * ENTRY_BYTES]
    if magic != _INDEX_MAGIC or crc != zlib.crc32(body, zlib.crc32(salt)):
        return None
    return body[_INDEX_BODY.size :]
