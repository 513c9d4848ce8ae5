"""Sets of sequence numbers as half-open ranges: what of a lane is stored, whatever the order it came in."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable

Range = tuple[int, int]


class IntervalSet:
    """Disjoint, ascending, merged where they touch. `add` in O(log n) plus what it swallows."""

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end in ranges:
            self.add(start, end)

    def add(self, start: int, end: int) -> None:
        """Raises ValueError for an empty or backward range."""
        if start >= end:
            raise ValueError(f"{start}-{end} is no range")
        if self._ends and start == self._ends[-1]:  # what comes in order only grows the last
            self._ends[-1] = end
            return
        # Those that overlap or touch: from the first that ends at or after `start` to the last that starts by `end`.
        first, last = bisect_left(self._ends, start), bisect_right(self._starts, end)
        if first < last:
            start, end = min(start, self._starts[first]), max(end, self._ends[last - 1])
        self._starts[first:last] = [start]
        self._ends[first:last] = [end]

    def covers(self, start: int, end: int) -> bool:
        """Every number of start..end-1 is in the set."""
        at = bisect_right(self._starts, start) - 1
        return at >= 0 and end <= self._ends[at]

    def touches(self, start: int, end: int) -> bool:
        """At least one number of start..end-1 is in the set."""
        return bisect_right(self._ends, start) < bisect_left(self._starts, end)

    @property
    def ranges(self) -> tuple[Range, ...]:
        return tuple(zip(self._starts, self._ends, strict=True))

    def __len__(self) -> int:
        """How many numbers are in the set."""
        return sum(self._ends) - sum(self._starts)
