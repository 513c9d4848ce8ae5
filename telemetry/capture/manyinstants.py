"""What a ring says at many instants at once: bit for bit what oneinstant.py says at each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from ecu.clock import MILLISECOND_NS, SECOND_NS
from telemetry.capture.expressions.tree import Function
from telemetry.capture.oneinstant import PIECE
from telemetry.capture.samplering import SampleRing

Values = NDArray[np.float64]
Instants = NDArray[np.int64]
Indices = NDArray[np.intp]


def signals_over(ring: SampleRing, instants_ns: Instants) -> Values:
    """The value that holds at each instant."""
    values, ages_ns = _held(ring, instants_ns)
    values[ages_ns > ring.stale_after_ns] = np.nan
    return values


def ages_over(ring: SampleRing, instants_ns: Instants) -> Values:
    """Milliseconds since the sample whose value holds at each instant."""
    values, ages_ns = _held(ring, instants_ns)
    ages_ms = ages_ns / float(MILLISECOND_NS)
    ages_ms[values != values] = np.nan
    return ages_ms


def _held(ring: SampleRing, instants_ns: Instants) -> tuple[Values, Instants]:
    """Of each instant the last sample's value and its age."""
    if len(ring) == 0:
        return np.full(len(instants_ns), np.nan), np.zeros(len(instants_ns), np.int64)
    last = np.searchsorted(ring.t_ns, instants_ns, "right") - 1
    before = last < 0
    if before.any():
        last[before] = 0
    values = ring.values[last]
    values[before] = np.nan
    return values, instants_ns - ring.t_ns[last]


@dataclass(frozen=True, slots=True)
class Spans:
    """The samples that any of the windows takes in, the oldest of which has the number `first`; window i is
    `begin[i]:end[i]` of them."""

    first: int
    t_ns: Instants
    values: Values
    changed: NDArray[np.bool_]
    begin: Indices
    end: Indices


def windows_over(ring: SampleRing, function: Function, instants_ns: Instants, ms: int) -> Values:
    """What `function` says of the window that ends at each instant."""
    if len(instants_ns) == 0:
        return np.empty(0)
    from_ns = instants_ns - ms * MILLISECOND_NS
    spans = _spans(ring, from_ns, instants_ns)
    told = np.flatnonzero(spans.values == spans.values)
    told_begin, told_end = np.searchsorted(told, spans.begin), np.searchsorted(told, spans.end)
    counts = (told_end - told_begin).astype(np.float64)
    with np.errstate(all="ignore"):
        answers = _asked(function, spans, told, told_begin, told_end)
    if function is not Function.COUNT:
        answers[(counts == 0) | ~np.isfinite(answers)] = np.nan
    answers[from_ns < ring.forgotten_ns] = np.nan
    return answers


def _spans(ring: SampleRing, from_ns: Instants, to_ns: Instants) -> Spans:
    begin, end = np.searchsorted(ring.t_ns, from_ns, "right"), np.searchsorted(ring.t_ns, to_ns, "right")
    lowest = int(begin[0])
    part = slice(lowest, int(end[-1]))
    first = ring.first + lowest
    return Spans(first, ring.t_ns[part], ring.values[part], ring.changed[part], begin - lowest, end - lowest)


def _asked(function: Function, spans: Spans, told: Indices, told_begin: Indices, told_end: Indices) -> Values:
    match function:
        case Function.COUNT:
            return (told_end - told_begin).astype(np.float64)
        case Function.AVG:
            return _totals(spans) / (told_end - told_begin)
        case Function.LOW:
            return _lowest(np.where(spans.values == spans.values, spans.values, np.inf), spans)
        case Function.HIGH:
            return -_lowest(np.where(spans.values == spans.values, -spans.values, np.inf), spans)
        case Function.RATE:
            return _rates(spans, told, told_begin, told_end)
        case Function.CHANGED:
            so_far = np.concatenate(([0], np.cumsum(spans.changed)))
            return (so_far[spans.end] > so_far[spans.begin]).astype(np.float64)
        case _:
            assert_never(function)


def _rates(spans: Spans, told: Indices, told_begin: Indices, told_end: Indices) -> Values:
    rates = np.full(len(told_begin), np.nan)
    two = told_end - told_begin >= 2
    first, last = told[told_begin[two]], told[told_end[two] - 1]
    seconds = (spans.t_ns[last] - spans.t_ns[first]) / float(SECOND_NS)
    rates[two] = (spans.values[last] - spans.values[first]) / seconds
    return rates


def _lowest(values: Values, spans: Spans) -> Values:
    """The least of each window, from a table of the least of every 1, 2, 4, ... in a row (M. A. Bender and
    M. Farach-Colton, The LCA Problem Revisited, LATIN 2000, section 3)."""
    sizes = spans.end - spans.begin
    levels = np.frexp(np.maximum(sizes, 1))[1] - 1
    lowest = np.full(len(sizes), np.inf)
    for level in range(int(levels.max()) + 1):
        mine = (levels == level) & (sizes > 0)
        begin, end = spans.begin[mine], spans.end[mine] - (1 << level)
        lowest[mine] = np.minimum(values[begin], values[end])
        values = np.minimum(values[: -(1 << level)], values[1 << level :])
    return lowest


def _totals(spans: Spans) -> Values:
    """The sum of each window: of samples by the piece, then of pieces by the piece, until one is left."""
    totals = np.zeros(len(spans.begin))
    some = spans.end > spans.begin
    items, number = np.nan_to_num(spans.values), spans.first
    begin, last = spans.begin[some], spans.end[some] - 1
    head, tail = items[begin], items[last]  # a piece that a window cuts counts only as far as it is inside
    while (last > begin).any():
        skipped = number % PIECE
        items = np.pad(items, (skipped, -(skipped + len(items)) % PIECE))
        begin, last = begin + skipped, last + skipped
        sums = np.add.accumulate(items.reshape(-1, PIECE), axis=1)
        head, tail = _heads(items, head, begin, last, tail), _tails(sums, last, tail)
        items, number = sums[:, -1], number // PIECE
        begin, last = begin // PIECE, last // PIECE
    totals[some] = head
    return totals


def _heads(items: Values, head: Values, begin: Indices, last: Indices, tail: Values) -> Values:
    """The sums of the pieces that windows begin in."""
    sums, at = head.copy(), begin + 1
    until = np.minimum(last, (begin // PIECE + 1) * PIECE)
    for _ in range(int((until - at).max(initial=0))):
        sums += np.where(at < until, items.take(at, mode="clip"), 0.0)
        at += 1
    whole = (last > begin) & (last // PIECE == begin // PIECE)
    sums[whole] += tail[whole]
    return sums


def _tails(sums: Values, last: Indices, tail: Values) -> Values:
    """The sums of the pieces that windows end in; `sums` adds up each piece from its beginning."""
    place = last % PIECE
    before: Values = np.where(place > 0, sums[last // PIECE, place - 1], 0.0)
    return before + tail
