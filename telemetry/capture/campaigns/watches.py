"""What triggers look at: the samples of some paths, and what they say at each of them.

A watch is given all samples up to some time, and then asked about those that came since it was asked last. Its answers
depend on the samples alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from telemetry.capture.campaigns.edges import MISSING
from telemetry.capture.campaigns.streams import LONG_AGO_NS, MS
from telemetry.signals.schema import Columns, Schema, physical

Instants = NDArray[np.int64]
States = NDArray[np.int8]
Numbers = NDArray[np.float64]
Source = tuple[int, int]
"""A group, and a column of it."""

_NO_INSTANTS: Final = np.empty(0, np.int64)
_NO_NUMBERS: Final = np.empty(0, np.float64)


class Watch(Protocol):
    """`groups` are those it has to be offered."""

    groups: frozenset[int]

    def offer(self, part: Columns) -> None: ...

    def states(self) -> tuple[Instants, States]:
        """At each instant since the last call: 1 true, 0 false, -1 missing."""
        ...


class Samples:
    """Of one path, from all groups that tell it, in order of time and in the signal's unit."""

    def __init__(self, sources: Iterable[Source], schema: Schema) -> None:
        self._sources = {group: (column, schema.groups[group].signals[column]) for group, column in sources}
        self._t: list[Instants] = []
        self._values: list[Numbers] = []
        self.groups = frozenset(self._sources)

    def offer(self, part: Columns) -> None:
        column, signal = self._sources[part.group]
        raw = part.values[column]
        if raw is not None:
            self._t.append(part.t_ns)
            self._values.append(physical(signal, raw))

    def take(self) -> tuple[Instants, Numbers]:
        """All that were offered since; equal stamps in the order of the groups' numbers."""
        t_ns, values = _joined(self._t, _NO_INSTANTS), _joined(self._values, _NO_NUMBERS)
        if len(self._t) > 1 and len(self._sources) > 1:
            order = np.argsort(t_ns, kind="stable")
            t_ns, values = t_ns[order], values[order]
        self._t.clear()
        self._values.clear()
        return t_ns, values


class _Anomaly:
    """Of one signal. Values that aren't finite are none."""

    def __init__(self, samples: Samples) -> None:
        self.groups = samples.groups
        self._samples = samples

    def offer(self, part: Columns) -> None:
        self._samples.offer(part)

    def states(self) -> tuple[Instants, States]:
        t_ns, values = self._samples.take()
        finite = np.isfinite(values)
        if not finite.all():
            t_ns, values = t_ns[finite], values[finite]
        return t_ns, self._judged(t_ns, values).astype(np.int8) if len(t_ns) else np.empty(0, np.int8)

    def _judged(self, t_ns: Instants, values: Numbers) -> NDArray[np.bool_]:
        raise NotImplementedError


class StuckWatch(_Anomaly):
    """True from `for_ms` after the value changed last, as long as samples keep coming: a gap longer than half of that
    and than `gap_ns` begins anew."""

    def __init__(self, samples: Samples, for_ms: int, gap_ns: int) -> None:
        super().__init__(samples)
        self._for_ns = for_ms * MS
        self._gap_ns = max(gap_ns, self._for_ns // 2)
        self._t_ns, self._value, self._since_ns = LONG_AGO_NS, np.nan, LONG_AGO_NS

    def _judged(self, t_ns: Instants, values: Numbers) -> NDArray[np.bool_]:
        changed = values != _shifted(values, self._value)
        changed |= t_ns - _shifted(t_ns, self._t_ns) > self._gap_ns
        since_ns = _carried(np.where(changed, t_ns, LONG_AGO_NS), self._since_ns)
        self._t_ns, self._value, self._since_ns = int(t_ns[-1]), float(values[-1]), int(since_ns[-1])
        return t_ns - since_ns >= self._for_ns


class RangeWatch(_Anomaly):
    """True outside of the limits."""

    def __init__(self, samples: Samples, minimum: float, maximum: float) -> None:
        super().__init__(samples)
        self._minimum, self._maximum = minimum, maximum

    def _judged(self, t_ns: Instants, values: Numbers) -> NDArray[np.bool_]:
        return (values < self._minimum) | (values > self._maximum)


class RateWatch(_Anomaly):
    """True where the way from the sample before is steeper than the limit; of two at the same time nothing is said."""

    def __init__(self, samples: Samples, max_per_s: float) -> None:
        super().__init__(samples)
        self._max_per_ns = max_per_s / 1e9
        self._t_ns, self._value = LONG_AGO_NS, np.nan

    def _judged(self, t_ns: Instants, values: Numbers) -> NDArray[np.bool_]:
        apart_ns = t_ns - _shifted(t_ns, self._t_ns)
        with np.errstate(over="ignore"):  # beyond all floats is steeper than any limit
            moved = np.abs(values - _shifted(values, self._value))
        self._t_ns, self._value = int(t_ns[-1]), float(values[-1])
        return (apart_ns > 0) & (moved > apart_ns * self._max_per_ns)


class Runs:
    """For how long something has been true without a break."""

    def __init__(self, for_ms: int) -> None:
        self._for_ns = for_ms * MS
        self._was_true = False
        self._since_ns = LONG_AGO_NS

    def lasting(self, t_ns: Instants, is_true: NDArray[np.bool_]) -> NDArray[np.bool_]:
        begins = is_true & ~_shifted(is_true, self._was_true)
        since_ns = _carried(np.where(begins, t_ns, LONG_AGO_NS), self._since_ns)
        self._was_true, self._since_ns = bool(is_true[-1]), int(since_ns[-1])
        return is_true & (t_ns - since_ns >= self._for_ns)


def _shifted(array: NDArray[np.generic], before: object) -> NDArray[np.generic]:
    shifted = np.empty_like(array)
    shifted[0], shifted[1:] = before, array[:-1]
    return shifted


def _carried(since_ns: Instants, before_ns: int) -> Instants:
    since_ns[0] = max(int(since_ns[0]), before_ns)
    return np.maximum.accumulate(since_ns)


def _joined(arrays: Sequence[NDArray[np.generic]], nothing: NDArray[np.generic]) -> NDArray[np.generic]:
    match arrays:
        case []:
            return nothing
        case [only]:
            return only
        case _:
            return np.concatenate(arrays)
