"""What a ring says at one instant. docs/formats/expressions.md defines each answer; NaN where it is missing."""

from __future__ import annotations

from math import isfinite, nan
from typing import Final, assert_never

import numpy as np
from numpy.typing import NDArray

from ecu.clock import MILLISECOND_NS, SECOND_NS
from telemetry.capture.expressions.tree import Function
from telemetry.capture.samplering import SampleRing

PIECE: Final = 32
"""Sums are cut where a sample's number is a multiple of this, so that no answer depends on who adds it up."""

Values = NDArray[np.float64]


def signal_at(ring: SampleRing, t_ns: int) -> float:
    """The value that holds at `t_ns`."""
    if t_ns >= ring.last_ns:
        return ring.last if t_ns - ring.last_ns <= ring.stale_after_ns else nan
    until = _until(ring, t_ns)
    if until == 0 or t_ns - int(ring.t_ns[until - 1]) > ring.stale_after_ns:
        return nan
    return float(ring.values[until - 1])


def age_at(ring: SampleRing, t_ns: int) -> float:
    """Milliseconds since the sample whose value holds."""
    until = _until(ring, t_ns)
    if until == 0 or ring.values[until - 1] != ring.values[until - 1]:
        return nan
    return float(t_ns - int(ring.t_ns[until - 1])) / MILLISECOND_NS


def window_at(ring: SampleRing, function: Function, t_ns: int, ms: int) -> float:
    """What `function` says of the samples later than `ms` before `t_ns`, up to it."""
    from_ns = t_ns - ms * MILLISECOND_NS
    if ring.forgotten_ns > from_ns:
        return nan
    begin, end = _until(ring, from_ns), _until(ring, t_ns)
    values = ring.values[begin:end]
    told = np.flatnonzero(values == values)
    if len(told) == 0 and function is not Function.COUNT:
        return nan
    answer = _asked(ring, function, begin, end, told + begin)
    return answer if isfinite(answer) else nan


def _asked(ring: SampleRing, function: Function, begin: int, end: int, told: NDArray[np.intp]) -> float:
    match function:
        case Function.AVG:
            return _total(np.nan_to_num(ring.values[begin:end]).tolist(), ring.first + begin) / len(told)
        case Function.LOW:
            return float(ring.values[told].min())
        case Function.HIGH:
            return float(ring.values[told].max())
        case Function.RATE:
            return _rate(ring, int(told[0]), int(told[-1]))
        case Function.CHANGED:
            return float(ring.changed[begin:end].any())
        case Function.COUNT:
            return float(len(told))
        case _:
            assert_never(function)


def _total(items: list[float], number: int) -> float:
    """The sum of `items`, of which the first has this number: by the piece, then of pieces by the piece."""
    while len(items) > 1:
        sums, at = [], 0
        while at < len(items):
            cut = at + PIECE - (number + at) % PIECE
            sums.append(_sum(items[at:cut]))
            at = cut
        items, number = sums, number // PIECE
    return items[0]


def _sum(items: list[float]) -> float:
    """From the first to the last: the built-in sum compensates, from Python 3.12 on."""
    total = 0.0
    for item in items:
        total += item
    return total


def _rate(ring: SampleRing, first: int, last: int) -> float:
    if first == last:
        return nan
    rise = float(ring.values[last]) - float(ring.values[first])
    return rise / (int(ring.t_ns[last] - ring.t_ns[first]) / SECOND_NS)


def _until(ring: SampleRing, t_ns: int) -> int:
    """How many of the samples held are not later than `t_ns`."""
    return len(ring) if t_ns >= ring.last_ns else int(ring.t_ns.searchsorted(t_ns, "right"))
