"""How each column is told: the way and packing that take the fewest bits, by a count of how long its numbers are.

The costs are whole numbers, so that every machine chooses the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
import zstandard
from numpy.typing import NDArray

from telemetry.columns.bits import to_planes
from telemetry.columns.flat import (
    HEADS,
    Bits,
    Ints,
    Spans,
    Way,
    changed_bits,
    differences,
    middles,
    zigzag,
)

MAX_UNARY: Final = 15
"""The most zeros that the encoder puts before a one: what is further away is told as an exception."""


class Packing(IntEnum):
    """How a column's numbers are written; `size` is what comes with it."""

    PLANES = 0  # `size` byte planes each, through zstd
    FIXED = 1  # `size` bits each
    RICE = 2  # a Rice code with `size` low bits


@dataclass(frozen=True, slots=True)
class Choice:
    """Of every column (c,): its way, packing and size. Of all together: `kept`, numbers to be told, and the heads."""

    ways: Ints
    packings: Ints
    sizes: Ints
    kept: Bits
    heads: Ints


_LENGTHS: Final = np.arange(65)
_RICE: Final = np.arange(41)
_FIXED: Final = np.arange(65)
_EXCEPTION_BITS: Final = 28  # its place and its value's frame, about, after zstd
_HEAD_BITS: Final = 24
_ZSTD_FRAME_BYTES: Final = 11


def _cost_table() -> NDArray[np.float64]:
    """(65, 41 + 65): bits that a number of so many bits costs, by Rice code and by fixed size."""
    lengths, usual = _LENGTHS[:, None], [0] + [3 << bits >> 2 for bits in range(1, 65)]
    zeros = np.array([[value >> int(k) for k in _RICE] for value in usual], np.uint64)
    is_far = zeros > MAX_UNARY
    rice = np.where(is_far, 1 + _RICE + _EXCEPTION_BITS + lengths, 1 + _RICE + np.where(is_far, 0, zeros))
    fixed = np.where(lengths > _FIXED, _FIXED + _EXCEPTION_BITS + lengths, np.broadcast_to(_FIXED, (65, 65)))
    return np.hstack([rice, fixed]).astype(np.float64)


# Products and sums of whole numbers far below 2^53: exact in float64, in whatever order they are added.
_COSTS: Final = _cost_table()


def choose(row: Ints, spans: Spans, is_bits: NDArray[np.bool_]) -> Choice:
    """`is_bits` (c,): columns that are the bits of floats."""
    steps = differences(row, spans)
    turns = differences(steps, spans)
    turns[spans.starts + (spans.lengths > 1)] = 0
    bases = middles(row, spans)
    candidates = np.empty((3, spans.total), np.uint64)
    for out, values in zip(candidates, (row - spans.spread(bases), steps, turns), strict=True):
        zigzag(values, out)
    told = _bit_lengths(candidates)
    ways, packings, sizes, costs = _cheapest(told, spans)
    planes = _Planes(candidates[1], row, spans, is_bits)
    for column in np.flatnonzero(costs > _ZSTD_FRAME_BYTES * 8).tolist():
        if (better := planes.of(column, int(costs[column]))) is not None:
            ways[column], packings[column], sizes[column] = better, Packing.PLANES, planes.widths[column]
    return _taken(candidates, planes.changed, ways, packings, sizes, row, steps, bases, spans)


def _bit_lengths(values: Bits) -> NDArray[np.int32]:
    """How many bits each needs: the exponent of a float32, which for values beyond 2^24 may be one more."""
    lengths = (values.astype(np.float32).view(np.int32) >> 23) - 126
    return np.clip(lengths, 0, 64, out=lengths)


def _cheapest(told: NDArray[np.int32], spans: Spans) -> tuple[Ints, Ints, Ints, NDArray[np.float64]]:
    """By way, packing and size, without zstd; and what that costs in bits."""
    columns = len(spans.lengths)
    cell = spans.spread(np.arange(columns)) * 65
    counts = np.array([np.bincount(cell + of, minlength=columns * 65) for of in told]).reshape(3, columns, 65)
    counts[1, :, 0] -= 1
    counts[2, :, 0] -= np.minimum(spans.lengths, 2)
    costs = counts.astype(np.float64) @ _COSTS
    costs += np.array([1, 1, 2])[:, None, None] * _HEAD_BITS
    costs[2, spans.lengths < 3] = np.inf
    flat = costs.transpose(1, 0, 2).reshape(columns, -1)
    best = flat.argmin(axis=1)
    ways, sizes = np.divmod(best, _COSTS.shape[1])
    is_fixed = sizes >= len(_RICE)
    is_constant = counts[1, :, 0] == spans.lengths - 1
    ways = np.where(is_constant, Way.CONSTANT, ways + Way.PLAIN)
    packings = np.where(is_constant, Packing.PLANES, np.where(is_fixed, Packing.FIXED, Packing.RICE))
    sizes = np.where(is_constant, 0, np.where(is_fixed, sizes - len(_RICE), sizes))
    return ways, packings, sizes, np.where(is_constant, 0, flat[np.arange(columns), best])


class _Planes:
    """What byte planes through zstd would take: tried at its fastest level, since nothing cheaper knows repetition."""

    def __init__(self, steps: Bits, row: Ints, spans: Spans, is_bits: NDArray[np.bool_]) -> None:
        self._is_bits, self._spans = is_bits, spans
        self.changed = changed_bits(row, spans) if is_bits.any() else None
        self._numbers = steps if self.changed is None else np.where(spans.spread(is_bits), self.changed, steps)
        most = np.maximum.reduceat(self._numbers, spans.starts)
        self.widths = np.array([-(-int(value).bit_length() // 8) for value in most], np.int64)
        self._small = self._numbers.astype(np.uint8)
        self._zstd = zstandard.ZstdCompressor(level=1, write_checksum=False)

    def of(self, column: int, cost: int) -> Way | None:
        """The way with which planes take less than `cost` bits, None when they don't."""
        start, end = int(self._spans.starts[column]), int(self._spans.starts[column] + self._spans.lengths[column])
        numbers = self._small[start:end].tobytes() if self.widths[column] == 1 else to_planes(self._numbers[start:end])
        taken = (len(self._zstd.compress(numbers)) - _ZSTD_FRAME_BYTES) * 8 + _HEAD_BITS
        if taken >= cost:
            return None
        return Way.XOR if self._is_bits[column] else Way.DELTA


def _taken(
    candidates: NDArray[np.uint64], changed: Bits | None, ways: Ints, packings: Ints, sizes: Ints,
    row: Ints, steps: Ints, bases: Ints, spans: Spans,
) -> Choice:  # fmt: skip
    kept = np.flatnonzero(spans.kept(ways))
    places = spans.spread(np.clip(ways - Way.PLAIN, 0, 2) * spans.total)[kept]
    places += kept
    numbers = candidates.ravel()[places]
    if changed is not None:
        numbers = np.where(spans.spread(ways == Way.XOR)[kept], changed[kept], numbers)
    return Choice(ways, packings, sizes, numbers, _heads(ways, row, steps, bases, spans))


def _heads(ways: Ints, row: Ints, steps: Ints, bases: Ints, spans: Spans) -> Ints:
    """In the order of columns, as many as each column's way has."""
    places = np.cumsum(HEADS[ways]) - HEADS[ways]
    heads = np.empty(int(HEADS[ways].sum()), np.int64)
    heads[places] = np.where(ways == Way.PLAIN, bases, row[spans.starts])
    is_second = ways == Way.DELTA2
    heads[places[is_second] + 1] = steps[spans.starts[is_second] + 1]
    return heads
