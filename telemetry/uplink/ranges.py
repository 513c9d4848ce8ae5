"""Half-open ranges of sequence numbers."""

from __future__ import annotations

from collections.abc import Iterable

Range = tuple[int, int]


def without(ranges: Iterable[Range], start: int, end: int) -> tuple[Range, ...]:
    """What is left of the ranges when start..end-1 is taken out, in the same order."""
    pieces = (piece for low, high in ranges for piece in ((low, min(high, start)), (max(low, end), high)))
    return tuple((low, high) for low, high in pieces if low < high)


def size(ranges: Iterable[Range]) -> int:
    return sum(end - start for start, end in ranges)
