"""What one campaign retains of one group: thinned as it comes in, told piece by piece.

A signal that is wanted less often than another of its group is a stream of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from telemetry.capture.campaigns.ring import Ring
from telemetry.signals.schema import Columns, Group, Values, physical

MS: Final = 1_000_000
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
        self.ring = Ring([group.signals[column].form.dtype for column in spec.columns], spec.most_rows)
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
        rows, self._last_ns = thinned(t_ns, self._last_ns, self.spec.min_period_ms * MS)
        if rows:
            self.ring.append(t_ns[rows], [column[rows] for column in values])

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
        told, last_ns, apart = self._told, self._last_ns, self.spec.min_period_ms * MS
        for row, value in enumerate(values):
            # A value that isn't a number is no value: no comparison holds for it.
            if (told is None and value == value) or (told is not None and abs(value - told) > self._beyond):
                if times[row] - last_ns >= apart:
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
