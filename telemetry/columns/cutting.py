"""Batches into blocks that each fit one record: joined by group, cut by time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np

from telemetry.columns.block import MAX_COLUMNS, MAX_PARTS, Naming, encode
from telemetry.records import SignalBlock, encode_event
from telemetry.signals.schema import Columns, Schema, Values

AIMED_SAMPLES: Final = 1 << 17
"""Times and values of a block, at most: what writing one takes in memory goes by it."""
_BIN_HEADER_BYTES: Final = 5  # MessagePack's bin 32
_MARGIN: Final = 0.95


@dataclass(frozen=True, slots=True)
class Cut:
    """A block's bytes and the time of its first sample, boot time."""

    t_ns: int
    data: bytes


def room_for(campaign: str, revision: int, max_event_bytes: int) -> int:
    """How long a block may be whose SignalBlock, by this campaign, is an event of so many bytes at most. What a spool
    takes is telemetry.spool.packing's `max_stored_size(...) - stored_size(b"")`."""
    return max_event_bytes - len(encode_event(SignalBlock(campaign, revision, b""))) - _BIN_HEADER_BYTES


def pack(batches: Sequence[Columns], schema: Schema, max_bytes: int, naming: Naming = Naming.DIGEST) -> list[Cut]:
    """Blocks of at most `max_bytes` that hold all the batches' rows once, by rising time; none when there are no rows.

    The batches of one group must come in the order of their times. Raises ValueError as `encode` does, and where
    `max_bytes` is too little for one row.
    """
    joined = join(batches)
    return list(_cut(joined, schema, max_bytes, naming)) if joined else []


def join(batches: Sequence[Columns]) -> list[Columns]:
    """One batch for each group and choice of told signals, in the order in which they first come; none is empty."""
    alike: dict[tuple[int, tuple[bool, ...]], list[Columns]] = {}
    for batch in batches:
        if len(batch):
            alike.setdefault((batch.group, tuple(values is not None for values in batch.values)), []).append(batch)
    return [_joined(same) for same in alike.values()]


def _joined(same: Sequence[Columns]) -> Columns:
    if len(same) == 1:
        return same[0]
    values = tuple(_concatenated(columns) for columns in zip(*(batch.values for batch in same), strict=True))
    return Columns(same[0].group, np.concatenate([batch.t_ns for batch in same]), values)


def _concatenated(columns: Sequence[Values | None]) -> Values | None:
    told: list[Any] = [column for column in columns if column is not None]
    return np.concatenate(told) if told else None


def _cut(batches: list[Columns], schema: Schema, max_bytes: int, naming: Naming) -> Iterator[Cut]:
    pieces = -(-_samples(batches) // AIMED_SAMPLES)
    if pieces == 1 and not _has_too_many(batches):
        data = encode(batches, schema, naming)
        if len(data) <= max_bytes:
            yield Cut(min(int(batch.t_ns[0]) for batch in batches), data)
            return
        pieces = int(len(data) / (max_bytes * _MARGIN)) + 1
    for piece in _split(batches, max(2, pieces)):
        yield from _cut(piece, schema, max_bytes, naming)


def _samples(batches: Sequence[Columns]) -> int:
    return sum(len(batch) * (1 + sum(values is not None for values in batch.values)) for batch in batches)


def _has_too_many(batches: Sequence[Columns]) -> bool:
    return len(batches) > MAX_PARTS or sum(1 + len(batch.values) for batch in batches) > MAX_COLUMNS


def _split(batches: list[Columns], pieces: int) -> list[list[Columns]]:
    """At least two pieces, by time; rows of one instant only by batch, then by row."""
    times = np.sort(np.concatenate([batch.t_ns for batch in batches]))
    if len(times) < 2:
        raise ValueError("one row of signals is more than a record holds: let fewer be told, or by their digest")
    inner = np.unique(times[[len(times) * piece // pieces for piece in range(1, pieces)]])
    if len(inner := inner[inner > times[0]]):
        bounds = [int(times[0]), *inner.tolist(), int(times[-1]) + 1]
        return [_between(batches, start, end) for start, end in pairwise(bounds)]
    if times[-1] > times[0]:
        later = int(times[np.searchsorted(times, times[0], "right")])
        return [_between(batches, int(times[0]), later), _between(batches, later, int(times[-1]) + 1)]
    if len(batches) > 1:
        return [batches[: len(batches) // 2], batches[len(batches) // 2 :]]
    middle = len(batches[0]) // 2
    return [[_rows(batches[0], 0, middle)], [_rows(batches[0], middle, len(batches[0]))]]


def _between(batches: Sequence[Columns], start_ns: int, end_ns: int) -> list[Columns]:
    """The rows from `start_ns` until before `end_ns`."""
    cut = [_rows(batch, *np.searchsorted(batch.t_ns, [start_ns, end_ns]).tolist()) for batch in batches]
    return [batch for batch in cut if len(batch)]


def _rows(batch: Columns, start: int, end: int) -> Columns:
    values = tuple(None if values is None else values[start:end] for values in batch.values)
    return Columns(batch.group, batch.t_ns[start:end], values)
