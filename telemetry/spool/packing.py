"""Records into block bodies: one purpose and one time to live a block, compressed before anybody encrypts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from telemetry.dictionaries import NO_DICTIONARY, dictionary_to_pack_with
from telemetry.records import Purpose, RecordBatch, encode_run, list_head
from telemetry.spool.untold import Report
from telemetry.wire import HEADER_BYTES, LEVEL, MAX_RECORDS, compressed

_RAW_TARGET: Final = 256 * 1024
_RUN_BYTES: Final = 16 * 1024
_FIRST_RUN: Final = 64
_LIST_BYTES: Final = 5
_STAMPS_BYTES: Final = 19  # two stamps of nine bytes each, and the array around the record
_DICTIONARY_HELPS_BELOW: Final = 32 * 1024
"""Of plain bytes: what is longer repeats itself enough, and is packed in half the time without."""
# Bytes that hardly compress are looked at briefly: a higher level finds no more in them and takes twice the time.
_LEVEL_FOR_NOISE: Final = 1
_NOISE: Final = 0.5


@dataclass(frozen=True, slots=True)
class Waiting:
    """Records in memory that were offered together: `plain` is how they lie in a block's list, one behind the other.

    `offered_ns` (boot time) starts their commit deadline; `keep_s` is how long they are wanted, None: for ever.
    `told`: what this record says has left, to be forgotten once it is durable.
    """

    purpose: Purpose
    plain: bytes
    count: int
    offered_ns: int
    keep_s: int | None = None
    told: Report | None = None

    @property
    def size(self) -> int:
        return len(self.plain)


@dataclass(frozen=True, slots=True)
class Packed:
    """The records of one block and its body as it will travel."""

    purpose: Purpose
    keep_s: int | None
    runs: tuple[Waiting, ...]
    count: int
    dictionary: int
    body: bytes


def max_stored_size(max_wire_bytes: int) -> int:
    """The most bytes of records that fit in a block whatever they are: zstd adds less than 1/128 and 128 to what it
    can't compress (RFC 8878, section 3.1.1: raw blocks and their headers)."""
    room = max_wire_bytes - HEADER_BYTES - 128
    return room - room // 128 - _LIST_BYTES


def max_event_bytes(max_wire_bytes: int) -> int:
    """The longest event, encoded, that a record may hold."""
    return max_stored_size(max_wire_bytes) - _STAMPS_BYTES


def runs_of(batch: RecordBatch, wall_ns: int, max_bytes: int) -> Iterator[tuple[int, bytes]]:
    """The batch encoded, a run at a time: how many records, and their bytes. Only a single record can be longer than
    `max_bytes`."""
    most = min(_RUN_BYTES, max_bytes)
    at, take = 0, _FIRST_RUN
    while at < len(batch.events):
        stamps, events = batch.captured_ns[at : at + take], batch.events[at : at + take]
        run = encode_run(stamps, wall_ns, events)
        if len(run) > most and len(events) > 1:
            take = len(events) // 2
            continue
        yield len(events), run
        at += len(events)
        take = max(1, most * len(events) // len(run))


def pack(waiting: Sequence[Waiting], max_wire_bytes: int) -> list[Packed]:
    """Blocks that hold all the records once, those of each purpose and time to live in their own order."""
    groups: dict[tuple[Purpose, int | None], list[Waiting]] = {}
    for run in waiting:
        groups.setdefault((run.purpose, run.keep_s), []).append(run)
    return [block for group in groups.values() for block in _blocks(group, max_wire_bytes)]


def _blocks(group: Sequence[Waiting], max_wire_bytes: int) -> Iterator[Packed]:
    room, safe = max_wire_bytes - HEADER_BYTES, max_stored_size(max_wire_bytes)
    most, level = safe, LEVEL
    if sum(run.size for run in group) > safe:
        most, level = _allowance(len(_body(group[:1], _LEVEL_FOR_NOISE, NO_DICTIONARY)) / group[0].size, room, safe)
    at = 0
    while at < len(group):
        runs = group[at : _reach(group, at, most)]
        dictionary = _dictionary(runs, level)
        body = _body(runs, level, dictionary)
        if len(body) > room:
            if len(runs) == 1:
                raise ValueError(f"records of {runs[0].size} bytes pack into {len(body)}, more than {room}")
            most = safe
            continue
        yield Packed(runs[0].purpose, runs[0].keep_s, tuple(runs), sum(run.count for run in runs), dictionary, body)
        most, level = _allowance(len(body) / sum(run.size for run in runs), room, safe)
        at += len(runs)


def _allowance(ratio: float, room: int, safe: int) -> tuple[int, int]:
    """How many plain bytes the next block may take when they compress as these did, and the level to try it with."""
    return max(safe, min(_RAW_TARGET, int(room * 0.95 / ratio))), _LEVEL_FOR_NOISE if ratio > _NOISE else LEVEL


def _reach(group: Sequence[Waiting], start: int, most: int) -> int:
    """The end of the longest stretch from `start` with at most so many bytes; of one run at least."""
    size = count = 0
    for i in range(start, len(group)):
        size, count = size + group[i].size, count + group[i].count
        if i > start and (size > most or count > MAX_RECORDS):
            return i
    return len(group)


def _dictionary(runs: Sequence[Waiting], level: int) -> int:
    is_small = level == LEVEL and sum(run.size for run in runs) < _DICTIONARY_HELPS_BELOW
    return dictionary_to_pack_with() if is_small else NO_DICTIONARY


def _body(runs: Sequence[Waiting], level: int, dictionary: int) -> bytes:
    head = list_head(sum(run.count for run in runs))
    return compressed(b"".join([head, *(run.plain for run in runs)]), level, dictionary)
