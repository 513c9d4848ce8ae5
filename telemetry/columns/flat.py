"""All columns of a block behind one another in one row of integers, and what is done to all of them at once.

A Python step for each column would cost more than its few values, so differences, sums and choices run over the whole
row. All arithmetic is modulo 2^64: no value is too large to come back.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bits = NDArray[np.uint64]
T = TypeVar("T", bound=np.generic)


class Way(IntEnum):
    """What is told of a column's values beside its heads."""

    CONSTANT = 0  # nothing; the head is the value
    PLAIN = 1  # how far each is from the head
    DELTA = 2  # each from the one before; the head is the first
    DELTA2 = 3  # the same of those differences; the heads are the first value and the first difference
    XOR = 4  # the bits that differ from the one before; the head is the first


HEADS: Final = np.array([1, 1, 1, 2, 1], np.int64)
"""By way: numbers that are told whole."""
_LED: Final = np.array([0, 0, 1, 2, 1], np.int64)
"""By way: values at a column's beginning that come from heads alone; of a constant all do."""


@dataclass(frozen=True)
class Spans:
    """Which part of the row is which column's: `lengths` (c,) int64, each at least 1."""

    lengths: Ints

    @cached_property
    def starts(self) -> Ints:
        return np.cumsum(self.lengths) - self.lengths

    @cached_property
    def total(self) -> int:
        return int(self.lengths.sum())

    @cached_property
    def within(self) -> Ints:
        """(total,): each value's place in its column."""
        return np.arange(self.total) - self.spread(self.starts)

    def spread(self, of_columns: NDArray[T]) -> NDArray[T]:
        """(total,): what each value's column has."""
        return np.repeat(of_columns, self.lengths)

    def counts(self, ways: Ints) -> Ints:
        """(c,): how many values of each column are told beside its heads."""
        return np.where(ways == Way.CONSTANT, 0, self.lengths - _LED[ways])

    def kept(self, ways: Ints) -> NDArray[np.bool_]:
        """(total,): those values."""
        return self.within >= self.spread(self.lengths - self.counts(ways))


def differences(row: Ints, spans: Spans) -> Ints:
    """(total,): each from the one before in its column, 0 at its first."""
    result = np.empty_like(row)
    np.subtract(row[1:], row[:-1], out=result[1:])
    result[spans.starts] = 0
    return result


def changed_bits(row: Ints, spans: Spans) -> Bits:
    """(total,): the bits of each that differ from the one before in its column, 0 at its first."""
    result = np.empty_like(row)
    np.bitwise_xor(row[1:], row[:-1], out=result[1:])
    result[spans.starts] = 0
    return result.view(np.uint64)


def sums(row: Ints, spans: Spans) -> Ints:
    """(total,): running sums within each column."""
    ran: Ints = np.cumsum(row)
    return ran - spans.spread(ran[spans.starts] - row[spans.starts])


def joined_bits(row: Ints, spans: Spans) -> Ints:
    """(total,): running exclusive-or within each column."""
    ran: Ints = np.bitwise_xor.accumulate(row)
    return ran ^ spans.spread(ran[spans.starts] ^ row[spans.starts])


def zigzag(values: Ints, out: Bits | None = None) -> Bits:
    """0, -1, 1, -2 ... become 0, 1, 2, 3 ...; into `out` where that is given."""
    result = np.empty(values.shape, np.uint64) if out is None else out
    signed = result.view(np.int64)
    np.left_shift(values, 1, out=signed)
    np.bitwise_xor(signed, values >> 63, out=signed)
    return result


def unzigzag(values: Bits) -> Ints:
    return (values >> np.uint64(1)).view(np.int64) ^ -(values & np.uint64(1)).view(np.int64)


def middles(row: Ints, spans: Spans) -> Ints:
    """(c,): about the mean of each column, near enough to count from."""
    first = row[spans.starts]
    away = np.clip(row - spans.spread(first), -(1 << 40), 1 << 40)
    sums_away: Ints = np.add.reduceat(away, spans.starts)
    return first + sums_away // spans.lengths


def restore(kept: Bits, ways: Ints, heads: Ints, spans: Spans) -> Ints:
    """The row again: `kept` as it was told, `heads` in the order of columns."""
    row = np.zeros(spans.total, np.int64)
    mask, is_xor = spans.kept(ways), ways == Way.XOR
    row[mask] = unzigzag(kept)
    if is_xor.any():
        raw = np.zeros(spans.total, np.uint64)
        raw[mask] = kept
        row = np.where(spans.spread(is_xor), raw.view(np.int64), row)
    return _with_heads(row, ways, heads, spans)


def _with_heads(row: Ints, ways: Ints, heads: Ints, spans: Spans) -> Ints:
    places = np.cumsum(HEADS[ways]) - HEADS[ways]
    firsts = heads[places]
    is_second, is_delta, is_xor = ways == Way.DELTA2, (ways == Way.DELTA) | (ways == Way.DELTA2), ways == Way.XOR
    if is_second.any():
        row[spans.starts[is_second] + 1] = heads[places[is_second] + 1]
        row = np.where(spans.spread(is_second), sums(row, spans), row)
    if is_delta.any():
        row[spans.starts[is_delta]] = firsts[is_delta]
        row = np.where(spans.spread(is_delta), sums(row, spans), row)
    if is_xor.any():
        row[spans.starts[is_xor]] = firsts[is_xor]
        row = np.where(spans.spread(is_xor), joined_bits(row, spans), row)
    is_near = (ways == Way.PLAIN) | (ways == Way.CONSTANT)
    row += spans.spread(np.where(is_near, firsts, 0))
    return row
