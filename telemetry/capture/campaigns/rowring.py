"""Rows of one group in memory, in the order of their times: bounded, contiguous, cut from the front."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

FIRST_ROWS: Final = 32
ROW_SLACK: Final = 1.5
"""A full ring moves its rows to the front once in every half of its length."""
FIXED_BYTES: Final = 512
"""Of one array, whatever it holds."""


class RowRing:
    """At most `most` rows. Beyond that the oldest go: those from `keep_from_ns` on are counted in `cut`, and of those
    before it the last stays as long as there is room."""

    __slots__ = ("_end", "_start", "_t", "_values", "cut", "keep_from_ns", "most")

    def __init__(self, dtypes: Sequence[np.dtype[Any]], most: int) -> None:
        self.most = most
        self.cut = 0
        self.keep_from_ns = 0
        self._start = self._end = 0
        rows = min(most, FIRST_ROWS)
        self._t = np.empty(rows, np.int64)
        self._values: list[NDArray[Any]] = [np.empty(rows, dtype) for dtype in dtypes]

    def __len__(self) -> int:
        return self._end - self._start

    @property
    def t_ns(self) -> NDArray[np.int64]:
        return self._t[self._start : self._end]

    def append(self, t_ns: NDArray[np.int64], values: Sequence[NDArray[Any]]) -> None:
        rows = len(t_ns)
        if self._end + rows > len(self._t):
            if rows > self.most:
                beyond = rows - self.most
                self.cut += beyond
                t_ns, values, rows = t_ns[beyond:], [column[beyond:] for column in values], self.most
            self._make_room(rows)
        end = self._end + rows
        self._t[self._end : end] = t_ns
        for column, new in zip(self._values, values, strict=True):
            column[self._end : end] = new
        self._end = end

    def first_at(self, t_ns: int) -> int:
        """How many rows are before that time."""
        return int(self.t_ns.searchsorted(t_ns))

    def last_at(self, t_ns: int) -> int | None:
        """The newest row not after that time."""
        row = int(self.t_ns.searchsorted(t_ns, "right")) - 1
        return row if row >= 0 else None

    def rows(self, first: int, end: int) -> tuple[NDArray[np.int64], list[NDArray[Any]]]:
        """Views: good until the next `append`."""
        here = slice(self._start + first, self._start + end)
        return self._t[here], [column[here] for column in self._values]

    def drop(self, rows: int) -> None:
        """The oldest go."""
        self._start += rows

    def _make_room(self, rows: int) -> None:
        self._start += max(0, self.first_at(self.keep_from_ns) - 1)
        beyond = len(self) + rows - self.most
        if beyond > 0:
            # The one row before what is needed is a convenience, and no loss.
            self.cut += max(0, beyond - self.first_at(self.keep_from_ns))
            self._start += beyond
        live = len(self)
        length = len(self._t)
        if (live + rows) * ROW_SLACK > length:
            length = min(max(2 * length, int((live + rows) * ROW_SLACK)), longest(self.most))
        self._t = _moved(self._t, self._start, live, length)
        self._values = [_moved(column, self._start, live, length) for column in self._values]
        self._start, self._end = 0, live


def longest(most: int) -> int:
    """Rows that a ring of `most` has memory for at the most."""
    return int(most * ROW_SLACK) + 1


def row_ring_bytes(most: int, columns: int) -> int:
    """The most memory that such a ring takes, its times included."""
    return (1 + columns) * (FIXED_BYTES + 8 * longest(most))


def _moved(column: NDArray[Any], start: int, live: int, length: int) -> NDArray[Any]:
    to = column if length == len(column) else np.empty(length, column.dtype)
    to[:live] = column[start : start + live]
    return to
