"""Records into block bodies: one purpose a block, as many records as fit, compressed before anybody encrypts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from telemetry.dictionaries import NEWEST_DICTIONARY, NO_DICTIONARY
from telemetry.records import Purpose, Stored
from telemetry.wire import HEADER_BYTES, pack_body

_RAW_TARGET: Final = 256 * 1024
_DICTIONARY_HELPS_BELOW: Final = 32 * 1024
"""Of plain bytes: what is longer repeats itself enough, and is packed in half the time without."""
_STAMPS_BYTES: Final = 24  # two stamps, the brackets around a record and those around a list


@dataclass(frozen=True, slots=True)
class Waiting:
    """A record in memory: `offered_ns` (boot time) starts its commit deadline; `size` bounds its bytes in a block."""

    purpose: Purpose
    stored: Stored
    size: int
    offered_ns: int


@dataclass(frozen=True, slots=True)
class Packed:
    """The records of one block and its body as it will travel."""

    purpose: Purpose
    records: tuple[Waiting, ...]
    dictionary: int
    body: bytes


def stored_size(event: bytes) -> int:
    """Most bytes that a record with this event takes in a block's plain body."""
    return len(event) + _STAMPS_BYTES


def max_stored_size(max_wire_bytes: int) -> int:
    """The largest record that fits in a block whatever its bytes: zstd adds less than 1/128 and 128 to what it can't
    compress (RFC 8878, section 3.1.1: raw blocks and their headers)."""
    room = max_wire_bytes - HEADER_BYTES - 128
    return room - room // 128


def pack(records: Sequence[Waiting], max_wire_bytes: int) -> list[Packed]:
    """Blocks that hold all the records once, each purpose in its own order."""
    return [
        packed
        for purpose in dict.fromkeys(record.purpose for record in records)
        for run in _cut([record for record in records if record.purpose is purpose])
        for packed in _packed(run, max_wire_bytes - HEADER_BYTES)
    ]


def _cut(records: Sequence[Waiting]) -> Iterator[Sequence[Waiting]]:
    start = size = 0
    for i, record in enumerate(records):
        if size + record.size > _RAW_TARGET and i > start:
            yield records[start:i]
            start, size = i, 0
        size += record.size
    yield records[start:]


def _packed(records: Sequence[Waiting], max_body_bytes: int) -> Iterator[Packed]:
    is_small = sum(record.size for record in records) < _DICTIONARY_HELPS_BELOW
    dictionary = NEWEST_DICTIONARY if is_small else NO_DICTIONARY
    body = pack_body([record.stored for record in records], dictionary)
    if len(body) <= max_body_bytes:
        yield Packed(records[0].purpose, tuple(records), dictionary, body)
    elif len(records) == 1:
        raise ValueError(f"a record of {records[0].size} bytes packs into {len(body)}, more than {max_body_bytes}")
    else:
        middle = len(records) // 2
        yield from _packed(records[:middle], max_body_bytes)
        yield from _packed(records[middle:], max_body_bytes)


def max_event_bytes(max_wire_bytes: int) -> int:
    """The longest event, encoded, that a record may hold."""
    return max_stored_size(max_wire_bytes) - stored_size(b"")
