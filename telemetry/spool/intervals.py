"""Sets of record numbers as sorted half-open ranges: what was sent, what is stored or has left, what is
missing between, whatever the order it came in."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

Range = tuple[int, int]


class IntervalSet:
    """Integers as disjoint half-open ranges that never touch. Each call costs the ranges that it meets."""

    __slots__ = ("_ends", "_starts")

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end in ranges:
            self.add(start, end)

    def __iter__(self) -> Iterator[Range]:
        return zip(self._starts, self._ends, strict=True)

    def __len__(self) -> int:
        """How many ranges there are."""
        return len(self._starts)

    def __repr__(self) -> str:
        return f"IntervalSet({list(self)})"

    def add(self, start: int, end: int) -> int:
        """How many of start .. end-1 are new; none of a range that is empty."""
        if start >= end:
            return 0
        added = end - start - self.count(start, end)
        first, last = bisect_left(self._ends, start), bisect_right(self._starts, end)
        if first < last:
            start, end = min(start, self._starts[first]), max(end, self._ends[last - 1])
        self._starts[first:last] = [start]
        self._ends[first:last] = [end]
        return added

    def count(self, start: int, end: int) -> int:
        """How many of start .. end-1 are in the set."""
        return sum(b - a for a, b in self.within(start, end))

    def covers(self, start: int, end: int) -> bool:
        return self.count(start, end) == end - start

    def touches(self, start: int, end: int) -> bool:
        """At least one of start .. end-1 is in the set. Costs no more than finding it."""
        return start < end and bisect_right(self._ends, start) < bisect_left(self._starts, end)

    def within(self, start: int, end: int) -> Iterator[Range]:
        """The ranges in the set, clipped to start .. end-1."""
        for i in range(bisect_right(self._ends, start), bisect_left(self._starts, end)):
            yield max(start, self._starts[i]), min(end, self._ends[i])

    def gaps(self, start: int, end: int) -> Iterator[Range]:
        """The ranges between start and end-1 that aren't in the set."""
        for inside_start, inside_end in self.within(start, end):
            if start < inside_start:
                yield start, inside_start
            start = inside_end
        if start < end:
            yield start, end

    def copy(self) -> IntervalSet:
        twin = IntervalSet()
        twin._starts, twin._ends = self._starts.copy(), self._ends.copy()
        return twin
