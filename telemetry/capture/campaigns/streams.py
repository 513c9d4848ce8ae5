"""What one campaign retains of one group: thinned as it comes in, told piece by piece.

A signal that is wanted less often than another of its group is a stream of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ecu.clock import MILLISECOND_NS
from telemetry.capture.campaigns.rowring import RowRing
from telemetry.signals.schema import Columns, Group, Values, physical

LONG_AGO_NS: Final = -(1 << 62)


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """`columns` of the group; no two rows told are closer than `min_period_ms`; `most_rows` at a time."""

    group: int
    columns: tuple[int, ...]
    min_period_ms: int
    most_rows: int


class Stream:
    """Every row of the group, thinned. Told are rows from the front of its `ring`."""

    def __init__(self, spec: StreamSpec, group: Group) -> None:
        self.spec = spec
        self.group = group
        self.ring = RowRing([group.signals[column].form.dtype for column in spec.columns], spec.most_rows)
        self.incomplete = 0
        self._last_ns = LONG_AGO_NS

    def offer(self, part: Columns) -> None:
        given = part.values
        values = [given[column] for column in self.spec.columns]
        if any(column is None for column in values):
            self.incomplete += len(part.t_ns)
            return
        self._keep(part.t_ns, values)  # type: ignore[arg-type] # none of them is None

    def _keep(self, t_ns: NDArray[np.int64], values: Sequence[Values]) -> None:
        if not self.spec.min_period_ms:
            self.ring.append(t_ns, values)
            return
        rows, self._last_ns = thinned(t_ns, self._last_ns, self.spec.min_period_ms * MILLISECOND_NS)
        if rows:
            self.ring.append(t_ns[rows], [column[rows] for column in values])

    def begin_with(self, others: Sequence[Stream], from_ns: int) -> None:
        """Takes what the fullest ring holds of its signals from `from_ns` on."""
        group, columns = self.spec.group, set(self.spec.columns)
        alike = [other for other in others if other.spec.group == group and columns <= set(other.spec.columns)]
        held = [(other, other.ring.first_at(from_ns)) for other in alike]
        if held:
            fullest, first = max(held, key=lambda ring: len(ring[0].ring) - ring[1])
            if first < len(fullest.ring):
                self.offer(fullest.told(first, len(fullest.ring)))

    def told(self, first: int, end: int) -> Columns:
        """Rows of its ring as they are told; good until the next `offer`."""
        t_ns, values = self.ring.rows(first, end)
        told: list[Values | None] = [None] * len(self.group.signals)
        for column, array in zip(self.spec.columns, values, strict=True):
            told[column] = array
        return Columns(self.spec.group, t_ns, tuple(told))

    def last_known(self, t_ns: int) -> Iterator[tuple[str, float, int]]:
        """At that time, of each signal: path, value and its time. What isn't finite isn't known."""
        row = self.ring.last_at(t_ns)
        if row is None:
            return
        times, values = self.ring.rows(row, row + 1)
        for column, array in zip(self.spec.columns, values, strict=True):
            signal = self.group.signals[column]
            value = float(physical(signal, array)[0])
            if np.isfinite(value):
                yield signal.path, value, int(times[0])


class ChangeStream(Stream):
    """Of one signal, the rows at which it has moved by more than `beyond` since the last one told."""

    def __init__(self, spec: StreamSpec, group: Group, beyond: float) -> None:
        super().__init__(spec, group)
        self._signal = group.signals[spec.columns[0]]
        self._beyond = beyond
        self._told: float | None = None

    def _keep(self, t_ns: NDArray[np.int64], values: Sequence[Values]) -> None:
        (raw,) = values
        rows = self._moved(t_ns.tolist(), physical(self._signal, raw).tolist())
        if rows:
            self.ring.append(t_ns[rows], [raw[rows]])

    def _moved(self, times: list[int], values: list[float]) -> list[int]:
        rows = []
        told, last_ns, apart = self._told, self._last_ns, self.spec.min_period_ms * MILLISECOND_NS
        for row, value in enumerate(values):
            # A value that isn't a number is no value: no comparison holds for it.
            moved = value == value if told is None else abs(value - told) > self._beyond
            if moved and times[row] - last_ns >= apart:
                told, last_ns = value, times[row]
                rows.append(row)
        self._told, self._last_ns = told, last_ns
        return rows


def thinned(t_ns: NDArray[np.int64], last_ns: int, apart_ns: int) -> tuple[list[int], int]:
    """Rows that are told when one was told at `last_ns`: each the first that is far enough from the one before; and
    when the last was."""
    rows = []
    row = int(t_ns.searchsorted(last_ns + apart_ns))
    while row < len(t_ns):
        rows.append(row)
        last_ns = int(t_ns[row])
        row = int(t_ns.searchsorted(last_ns + apart_ns))
    return rows, last_ns
