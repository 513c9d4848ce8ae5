"""The wire, version 1: what vehicle and receiver both speak. Byte layout and golden vectors: docs/formats/wire.md.

A block is a 48-byte header and a body; it is made once, lies in the spool, and travels as it is. Everything that
dedupe needs is inside it, since brokers drop message properties.
"""

from __future__ import annotations

import hashlib
import struct
import threading
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

import msgspec
import zstandard

from telemetry.dictionaries import NEWEST_DICTIONARY, SHA256, read_dictionary
from telemetry.dictionaries import NO_DICTIONARY as NO_DICTIONARY
from telemetry.records import Lane, Purpose, Stored, TelemetryError, count_records, decode_records, encode_records

MAGIC: Final = b"ORB1"
VERSION: Final = 1
MAX_BLOCK_BYTES: Final = 96 * 1024
MAX_BODY_INFLATED: Final = 4 * 1024 * 1024
MAX_RECORDS: Final = 16_384
CODEC_RECORDS_ZSTD: Final = 1
LEVEL: Final = 3

# magic, version, lane, purpose, epoch, base_seq, count, codec, dictionary, body length, CRC-32
_HEADER = struct.Struct("<4sBBH16sQIHHII")
HEADER_BYTES: Final = _HEADER.size
assert HEADER_BYTES == 48

TOPIC_ROOT: Final = "outrider/v1"
DOWN_KINDS: Final = ("receipt", "refusal", "hint", "command")
MAX_HINT_CHARACTERS: Final = 64
MAX_REFUSAL_CHARACTERS: Final = 300
BLOCK_NAME_BYTES: Final = 16


class BadBlock(TelemetryError):
    """These bytes are not a block of this version. Sending or reading them again gives the same answer."""


class UnknownDictionary(BadBlock):
    """The block names a dictionary that came after this version: a newer one reads it, so whoever sent it keeps it."""


class BlockHeader(msgspec.Struct, frozen=True):
    """Who the records are (lane, epoch, base_seq .. base_seq+count-1) and how the body is packed."""

    lane: Lane
    purpose: Purpose
    epoch: bytes
    base_seq: int
    count: int
    codec: int
    dictionary: int
    body_length: int

    @property
    def end_seq(self) -> int:
        """One past the last record."""
        return self.base_seq + self.count


@dataclass(frozen=True, slots=True)
class Receipt:
    """The receiver has stored these: half-open ranges of seq in one lane of one epoch."""

    lane: Lane
    epoch: bytes
    ranges: tuple[tuple[int, int], ...]


def pack_body(records: Sequence[Stored], dictionary: int = NO_DICTIONARY) -> bytes:
    """Records as codec 1: msgpack, then zstd with this dictionary, which the block's header must name."""
    return compressed(encode_records(records), LEVEL, dictionary)


def compressed(plain: bytes, level: int = LEVEL, dictionary: int = NO_DICTIONARY) -> bytes:
    """An encoded list of records as codec 1 has it."""
    return _zstd.compressor(level, dictionary).compress(plain)


def unpack_body(header: BlockHeader, body: bytes) -> list[Stored]:
    """The records of a block; raises BadBlock when the body isn't what its header says, and its UnknownDictionary where
    that may be for want of a newer version."""
    if header.codec != CODEC_RECORDS_ZSTD:
        raise BadBlock(f"codec {header.codec} is unknown to this version")
    if header.dictionary != NO_DICTIONARY and header.dictionary not in SHA256:
        raise UnknownDictionary(
            f"dictionary {header.dictionary} is unknown to this version, which has those up to {NEWEST_DICTIONARY}: "
            "update it to the one that the vehicle runs"
        )
    try:
        return _records(_inflate(body, header.dictionary), header.count)
    except (zstandard.ZstdError, msgspec.DecodeError) as error:
        raise BadBlock(f"the body of {header.lane.name} {header.base_seq} can't be read: {error}") from error


def inflated_size(body: bytes) -> int:
    """Most bytes that reading `body` may take: as many as its frame tells, all that are allowed when it tells none, and
    none when it is refused before."""
    try:
        told = zstandard.frame_content_size(body)
    except zstandard.ZstdError:
        return 0
    if told < 0:
        return MAX_BODY_INFLATED
    return told if told <= MAX_BODY_INFLATED else 0


class _Zstd(threading.local):
    """One of each for a level, dictionary and thread: making it takes longer than a small body with it."""

    def __init__(self) -> None:
        self._compressors: dict[tuple[int, int], zstandard.ZstdCompressor] = {}
        self._decompressors: dict[int, zstandard.ZstdDecompressor] = {}

    def compressor(self, level: int, dictionary: int) -> zstandard.ZstdCompressor:
        if (level, dictionary) not in self._compressors:
            data = _read(dictionary)
            if data is not None:
                data.precompute_compress(level=level)
            # The block's header names the dictionary; the frame needn't.
            made = zstandard.ZstdCompressor(level=level, dict_data=data, write_dict_id=False)
            self._compressors[level, dictionary] = made
        return self._compressors[level, dictionary]

    def decompressor(self, dictionary: int) -> zstandard.ZstdDecompressor:
        if dictionary not in self._decompressors:
            self._decompressors[dictionary] = zstandard.ZstdDecompressor(dict_data=_read(dictionary))
        return self._decompressors[dictionary]


def _read(dictionary: int) -> zstandard.ZstdCompressionDict | None:
    return None if dictionary == NO_DICTIONARY else zstandard.ZstdCompressionDict(read_dictionary(dictionary))


_zstd = _Zstd()


def _inflate(body: bytes, dictionary: int) -> bytes:
    # A frame that declares its size is inflated to it whatever the limit says, so look before.
    if zstandard.frame_content_size(body) > MAX_BODY_INFLATED:
        raise BadBlock(f"the body inflates beyond {MAX_BODY_INFLATED} bytes")
    return _zstd.decompressor(dictionary).decompress(body, max_output_size=MAX_BODY_INFLATED, allow_extra_data=False)


def _records(plain: bytes, count: int) -> list[Stored]:
    # Before they are made: a few bytes on the wire can be a million records in memory.
    if (held := count_records(plain)) != count:
        raise BadBlock(f"the body can't be read: the header names {count} records, the body holds {held}")
    return decode_records(plain)


def pack_block(header: BlockHeader, body: bytes) -> bytes:
    """Header and body as they travel. The CRC (zlib's CRC-32) covers the header before it, and the body."""
    if len(body) != header.body_length:
        raise ValueError(f"the header says {header.body_length} bytes of body, there are {len(body)}")
    head = _pack(header, 0)
    crc = zlib.crc32(body, zlib.crc32(head[:-4]))
    return _pack(header, crc) + body


def unpack_block(block: bytes) -> tuple[BlockHeader, bytes]:
    """Checks everything that can be checked without inflating; raises BadBlock in one sentence."""
    if len(block) < HEADER_BYTES:
        raise BadBlock(f"{len(block)} bytes are less than a block's header of {HEADER_BYTES}")
    if len(block) > MAX_BLOCK_BYTES:
        raise BadBlock(f"{len(block)} bytes are more than a block's {MAX_BLOCK_BYTES}")
    magic, version, lane, purpose, epoch, base, count, codec, dictionary, length, crc = _HEADER.unpack_from(block)
    if magic != MAGIC or version != VERSION:
        raise BadBlock(f"starts with {magic!r} version {version}, not {MAGIC!r} version {VERSION}")
    body = block[HEADER_BYTES:]
    if length != len(body):
        raise BadBlock(f"the header says {length} bytes of body, there are {len(body)}")
    if zlib.crc32(body, zlib.crc32(block[: HEADER_BYTES - 4])) != crc:
        raise BadBlock("the checksum doesn't match: bytes changed on the way")
    if count == 0 or base + count >= 1 << 63:
        raise BadBlock(f"{count} records from {base} is no range")
    if count > MAX_RECORDS:
        raise BadBlock(f"{count} records are more than a block's {MAX_RECORDS}")
    try:
        header = BlockHeader(Lane(lane), Purpose(purpose), epoch, base, count, codec, dictionary, length)
    except ValueError as error:
        raise BadBlock(f"{error}: this version doesn't know it") from error
    return header, body


def _pack(header: BlockHeader, crc: int) -> bytes:
    return _HEADER.pack(
        MAGIC, VERSION, header.lane, header.purpose, header.epoch, header.base_seq, header.count,
        header.codec, header.dictionary, header.body_length, crc,
    )  # fmt: skip


class _ReceiptWire(msgspec.Struct, frozen=True, array_like=True):
    lane: int
    epoch: bytes
    ranges: list[tuple[int, int]]


_receipt_decoder = msgspec.msgpack.Decoder(_ReceiptWire)


def pack_receipt(receipt: Receipt) -> bytes:
    return msgspec.msgpack.encode(_ReceiptWire(int(receipt.lane), receipt.epoch, list(receipt.ranges)))


def unpack_receipt(data: bytes) -> Receipt:
    """Raises BadBlock for bytes that aren't a receipt, or ranges that run backwards or overlap."""
    try:
        wire = _receipt_decoder.decode(data)
        lane = Lane(wire.lane)
    except (ValueError, RecursionError) as error:  # msgspec's own errors, and UnicodeDecodeError
        raise BadBlock(f"not a receipt: {error}") from error
    last = 0
    for start, end in wire.ranges:
        if not last <= start < end < 1 << 63:
            raise BadBlock(f"not a receipt: the range {start}-{end} is out of order")
        last = end
    if len(wire.epoch) != 16:
        raise BadBlock(f"not a receipt: an epoch has 16 bytes, this one {len(wire.epoch)}")
    return Receipt(lane, wire.epoch, tuple(wire.ranges))


class Decision(Enum):
    """Why a receiver behind a broker didn't store a block: what its vehicle does about it."""

    REFUSED = "refused"  # never: these bytes stay what they are
    THROTTLED = "throttled"  # not now
    UNAUTHORIZED = "unauthorized"  # not of this vehicle


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a receiver behind a broker tells of a block that it didn't store. `name` is `block_name` of its bytes: they
    may not have been a block at all."""

    name: bytes
    decision: Decision
    words: str


class _RefusalWire(msgspec.Struct, frozen=True, array_like=True):
    name: bytes
    decision: Decision
    words: str


_refusal_decoder = msgspec.msgpack.Decoder(_RefusalWire)


def block_name(block: bytes) -> bytes:
    """16 bytes that name these bytes: the beginning of their SHA-256."""
    return hashlib.sha256(block).digest()[:BLOCK_NAME_BYTES]


def pack_refusal(refusal: Refusal) -> bytes:
    words = refusal.words[:MAX_REFUSAL_CHARACTERS]
    return msgspec.msgpack.encode(_RefusalWire(refusal.name, refusal.decision, words))


def unpack_refusal(data: bytes) -> Refusal:
    """Raises BadBlock."""
    try:
        wire = _refusal_decoder.decode(data)
    except (ValueError, RecursionError) as error:  # msgspec's own errors, and UnicodeDecodeError
        raise BadBlock(f"not a refusal: {error}") from error
    if len(wire.name) != BLOCK_NAME_BYTES:
        raise BadBlock(f"not a refusal: a block's name has {BLOCK_NAME_BYTES} bytes, this one {len(wire.name)}")
    return Refusal(wire.name, wire.decision, wire.words[:MAX_REFUSAL_CHARACTERS])


def up_topic(vehicle: str, lane: Lane) -> str:
    return f"{TOPIC_ROOT}/{vehicle}/up/{lane.name.lower()}"


def status_topic(vehicle: str) -> str:
    """Where the vehicle tells its own state."""
    return f"{TOPIC_ROOT}/{vehicle}/up/status"


def down_topic(vehicle: str, kind: str) -> str:
    """`kind` is one of DOWN_KINDS, or "#" for all of them."""
    return f"{TOPIC_ROOT}/{vehicle}/down/{kind}"
