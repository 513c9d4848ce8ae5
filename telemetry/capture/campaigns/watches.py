"""What triggers look at: the samples of some paths, and what they say at each of them.

A watch is given all samples of its groups, step by step, and says what holds at each. Its answers depend on the samples
alone, however they were cut into steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ecu.clock import MILLISECOND_NS
from telemetry.capture.campaigns.campaign import Residual
from telemetry.capture.campaigns.edges import MISSING
from telemetry.capture.campaigns.streams import LONG_AGO_NS
from telemetry.capture.expressions import Condition
from telemetry.capture.history import History
from telemetry.signals.schema import Columns, Schema, physical

Instants = NDArray[np.int64]
States = NDArray[np.int8]
Numbers = NDArray[np.float64]
S = TypeVar("S", bound=np.generic)
Source = tuple[int, int]
"""A group, and a column of it."""

_NO_INSTANTS: Final = np.empty(0, np.int64)
_NO_NUMBERS: Final = np.empty(0, np.float64)
_NO_STATES: Final = np.empty(0, np.int8)


class Watch(Protocol):
    """`groups` are those whose samples it needs; it takes no others."""

    groups: frozenset[int]

    @property
    def history(self) -> History | None:
        """The samples that it remembers; None for one that does with the last ones."""
        ...

    def states(self, parts: Sequence[Columns]) -> tuple[Instants, States]:
        """At each instant of these parts, all that came since the last call: 1 true, 0 false, -1 missing."""
        ...


class Samples:
    """Of one path, from all groups that tell it, in order of time and in the signal's unit."""

    def __init__(self, sources: Iterable[Source], schema: Schema) -> None:
        self._sources = {group: (column, schema.groups[group].signals[column]) for group, column in sources}
        self.groups = frozenset(self._sources)

    def of(self, parts: Sequence[Columns]) -> tuple[Instants, Numbers]:
        """Those that are finite; equal stamps in the order of the groups' numbers."""
        told = list(self._told(parts))
        t_ns = _joined([stamps for stamps, _ in told], _NO_INSTANTS)
        values = _joined([numbers for _, numbers in told], _NO_NUMBERS)
        if len(self._sources) > 1 and len(told) > 1:
            order = np.argsort(t_ns, kind="stable")
            t_ns, values = t_ns[order], values[order]
        finite = np.isfinite(values)
        return (t_ns, values) if finite.all() else (t_ns[finite], values[finite])

    def _told(self, parts: Sequence[Columns]) -> Iterator[tuple[Instants, Numbers]]:
        for part in sorted(parts, key=lambda part: part.group) if len(self._sources) > 1 else parts:
            source = self._sources.get(part.group)
            raw = part.values[source[0]] if source else None
            if source and raw is not None:
                yield part.t_ns, physical(source[1], raw)


class AnomalyTest(Protocol):
    """What is odd about one signal's samples, each given once and in order of time, at least one a call."""

    def judged(self, t_ns: Instants, values: Numbers) -> NDArray[np.bool_]:
        """Of each. Values are finite."""
        ...


class AnomalyWatch:
    """What a test says of each sample. Values that aren't finite are none."""

    def __init__(self, samples: Samples, test: AnomalyTest) -> None:
        self.groups = samples.groups
        self.history = None
        self._samples = samples
        self._test = test

    def states(self, parts: Sequence[Columns]) -> tuple[Instants, States]:
        t_ns, values = self._samples.of(parts)
        return t_ns, self._test.judged(t_ns, values).view(np.int8) if len(t_ns) else _NO_STATES


class StuckTest:
    """True from `for_ms` after the value changed last, as long as samples keep coming: a gap longer than half of that
    and than `gap_ns` begins anew."""

    def __init__(self, for_ms: int, gap_ns: int) -> None:
        self._for_ns = for_ms * MILLISECOND_NS
        self._gap_ns = max(gap_ns, self._for_ns // 2)
        self._t_ns, self._value, self._since_ns = LONG_AGO_NS, np.nan, LONG_AGO_NS

    def judged(self, t_ns: Instants, values: Numbers) -> NDArray[np.bool_]:
        changed = values != _shifted(values, self._value)
        changed |= t_ns - _shifted(t_ns, self._t_ns) > self._gap_ns
        since_ns = _carried(np.where(changed, t_ns, LONG_AGO_NS), self._since_ns)
        self._t_ns, self._value, self._since_ns = int(t_ns[-1]), float(values[-1]), int(since_ns[-1])
        return t_ns - since_ns >= self._for_ns


class RangeTest:
    """True outside of the limits."""

    def __init__(self, minimum: float, maximum: float) -> None:
        self._minimum, self._maximum = minimum, maximum

    def judged(self, t_ns: Instants, values: Numbers) -> NDArray[np.bool_]:
        return (values < self._minimum) | (values > self._maximum)


class RateTest:
    """True where the way from the sample before is steeper than the limit; of two at the same time nothing is said."""

    def __init__(self, max_per_s: float) -> None:
        self._max_per_ns = max_per_s / 1e9
        self._t_ns, self._value = LONG_AGO_NS, np.nan

    def judged(self, t_ns: Instants, values: Numbers) -> NDArray[np.bool_]:
        apart_ns = t_ns - _shifted(t_ns, self._t_ns)
        with np.errstate(over="ignore"):  # beyond all floats is steeper than any limit
            moved = np.abs(values - _shifted(values, self._value))
        self._t_ns, self._value = int(t_ns[-1]), float(values[-1])
        return (apart_ns > 0) & (moved > apart_ns * self._max_per_ns)


class Runs:
    """For how long something has been true without a break."""

    def __init__(self, for_ms: int) -> None:
        self._for_ns = for_ms * MILLISECOND_NS
        self._was_true = False
        self._since_ns = LONG_AGO_NS

    def lasting(self, t_ns: Instants, is_true: NDArray[np.bool_]) -> NDArray[np.bool_]:
        begins = is_true & ~_shifted(is_true, self._was_true)
        since_ns = _carried(np.where(begins, t_ns, LONG_AGO_NS), self._since_ns)
        self._was_true, self._since_ns = bool(is_true[-1]), int(since_ns[-1])
        return is_true & (t_ns - since_ns >= self._for_ns)


class ConditionWatch:
    """What a condition says at each instant at which a signal of it got a sample."""

    def __init__(self, condition: Condition, history: History, groups: frozenset[int]) -> None:
        self.groups = groups
        self.history = history
        self._condition = condition

    def states(self, parts: Sequence[Columns]) -> tuple[Instants, States]:
        self.history.put(parts)
        instants = self.history.instants(self._condition.paths)
        return instants, self._condition.over(self.history, instants) if len(instants) else _NO_STATES


class ResidualWatch:
    """True where a signal has differed by more than `limit` from what an expression of others says it should be, for
    `for_ms` without a break; missing where that is missing, which is a break."""

    def __init__(
        self, samples: Samples, expected: Condition, history: History, groups: frozenset[int], residual: Residual
    ) -> None:  # fmt: skip
        self.groups = groups | samples.groups
        self._samples = samples
        self._expected = expected
        self.history = history
        self._limit = residual.limit
        self._runs = Runs(residual.for_ms)

    def states(self, parts: Sequence[Columns]) -> tuple[Instants, States]:
        self.history.put(parts)
        t_ns, values = self._samples.of(parts)
        if not len(t_ns):
            return t_ns, _NO_STATES
        expected = self._expected.over(self.history, t_ns)
        with np.errstate(over="ignore", invalid="ignore"):  # what is missing is further than nothing
            differs = np.abs(values - expected) > self._limit
        states = self._runs.lasting(t_ns, differs).astype(np.int8)
        states[np.isnan(expected)] = MISSING
        return t_ns, states


def _shifted(array: NDArray[S], before: Any) -> NDArray[S]:
    """Each sample's predecessor."""
    shifted = np.empty_like(array)
    shifted[0], shifted[1:] = before, array[:-1]
    return shifted


def _carried(since_ns: Instants, before_ns: int) -> Instants:
    since_ns[0] = max(int(since_ns[0]), before_ns)
    return np.maximum.accumulate(since_ns)


def _joined(arrays: Sequence[NDArray[S]], nothing: NDArray[S]) -> NDArray[S]:
    match arrays:
        case []:
            return nothing
        case [only]:
            return only
        case _:
            return np.concatenate(arrays)
