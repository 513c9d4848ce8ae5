"""What of a group's samples campaigns are given: in order of time, and no faster than their rings have room for."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from typing import Final

import numpy as np

from ecu.clock import SECOND_NS
from telemetry.signals.schema import Columns, Group

_BURST_ROWS: Final = 8


class Unfit(StrEnum):
    """Why a sample goes no further than the gate."""

    OUT_OF_ORDER = "out_of_order"  # before one that came already, or outside of what was said to be complete
    TOO_FAST = "too_fast"  # its group came far more often than it says it does


def hertz(group: Group, assumed_hz: float) -> float:
    """How often the group comes, about."""
    return 1e6 / group.period_us if group.period_us else assumed_hz


def most_per_second(hz: float) -> int:
    """Rows of one second of boot time that pass: twice what is usual, and a few."""
    return int(2 * hz) + _BURST_ROWS


def most_rows(hz: float, seconds: float) -> int:
    """Rows that pass within any such span: it touches one second more than it is long."""
    return most_per_second(hz) * (int(np.ceil(seconds)) + 1)


class Gate:
    """Of one group. What passes depends on the samples alone, however they were cut into batches."""

    __slots__ = ("_left", "_most", "_newest_ns", "_second", "unfit")

    def __init__(self, hz: float) -> None:
        self.unfit: Counter[Unfit] = Counter()
        self._most = self._left = most_per_second(hz)
        self._newest_ns = self._second = -1

    def passing(self, part: Columns, after_ns: int, until_ns: int) -> Columns | None:
        """The rows later than `after_ns`, up to `until_ns` and fit, None when there is none."""
        part = self._in_order(part, max(after_ns + 1, self._newest_ns), until_ns)
        rows = len(part.t_ns)
        if not rows:
            return None
        first, last = int(part.t_ns[0]), int(part.t_ns[-1])
        self._newest_ns = last
        if first // SECOND_NS == last // SECOND_NS:
            taken = self._taken(first // SECOND_NS, rows)
            return part if taken == rows else cut(part, 0, taken) if taken else None
        return self._slowed(part)

    def _in_order(self, part: Columns, first_ns: int, last_ns: int) -> Columns:
        t_ns = part.t_ns
        if not len(t_ns) or (t_ns[0] >= first_ns and t_ns[-1] <= last_ns):
            return part
        begin, end = int(t_ns.searchsorted(first_ns)), int(t_ns.searchsorted(last_ns, "right"))
        fit = cut(part, begin, max(begin, end))
        self.unfit[Unfit.OUT_OF_ORDER] += len(t_ns) - len(fit.t_ns)
        return fit

    def _taken(self, second: int, rows: int) -> int:
        if second != self._second:
            self._second, self._left = second, self._most
        taken = min(rows, self._left)
        self._left -= taken
        if taken < rows:
            self.unfit[Unfit.TOO_FAST] += rows - taken
        return taken

    def _slowed(self, part: Columns) -> Columns | None:
        """As rows of several seconds pass, each second on its own."""
        seconds, firsts, counts = np.unique(part.t_ns // SECOND_NS, return_index=True, return_counts=True)
        taken = [self._taken(int(second), int(rows)) for second, rows in zip(seconds, counts, strict=True)]
        if sum(taken) == len(part.t_ns):
            return part
        kept = np.concatenate([np.arange(first, first + rows) for first, rows in zip(firsts, taken, strict=True)])
        return selected(part, kept)


def cut(part: Columns, begin: int, end: int) -> Columns:
    """Its rows from `begin` up to before `end`."""
    rows = slice(begin, end)
    values = tuple(None if column is None else column[rows] for column in part.values)
    return Columns(part.group, part.t_ns[rows], values)


def selected(part: Columns, rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Columns:
    """Those rows of it."""
    values = tuple(None if column is None else column[rows] for column in part.values)
    return Columns(part.group, part.t_ns[rows], values)
