"""Axes: where a value lies between two ends, and the round numbers to write beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from simulator.report.evidence import Point

LOG_FROM: Final = 6.0
"""An axis is logarithmic when its largest value is this many times the middle one: few would be seen otherwise."""

MOST_DECADES: Final = 10_000.0
SMALLEST: Final = 1e-9
"""What is less is nothing, whatever its unit."""


@dataclass(frozen=True, slots=True)
class Axis:
    """Maps `low`..`high` onto 0..1; values beyond are laid on the ends."""

    low: float
    high: float
    is_log: bool = False

    def place(self, value: float) -> float:
        if self.is_log:
            low, high, value = math.log(self.low), math.log(self.high), math.log(max(value, self.low))
        else:
            low, high = self.low, self.high
        return min(1.0, max(0.0, (value - low) / (high - low)))

    def ticks(self, about: int = 5) -> tuple[float, ...]:
        """Round numbers from end to end, about as many as asked."""
        return self._decades() if self.is_log else self._steps(about)

    def _steps(self, about: int) -> tuple[float, ...]:
        step = round_step((self.high - self.low) / about)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return tuple(n * step for n in range(first, last + 1))

    def _decades(self) -> tuple[float, ...]:
        exponents = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        every = [digit * 10.0**exponent for exponent in exponents for digit in (1, 2, 5)]
        inside = [tick for tick in every if self.low <= tick <= self.high]
        return tuple(inside if len(inside) <= 8 else inside[::3])


def round_step(step: float) -> float:
    """The 1, 2 or 5 times a power of ten next above."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * (1 - 1e-9))


def value_axis(values: Sequence[float]) -> Axis:
    """From nothing to a little above the largest; logarithmic where one far value would flatten all others."""
    positive = sorted(value for value in values if value > SMALLEST)
    if not positive:
        return Axis(0.0, 1.0)
    top, middle = positive[-1], positive[len(positive) // 2]
    if top > LOG_FROM * middle:
        return Axis(_round_down(max(positive[0], top / MOST_DECADES)), top * 1.25, is_log=True)
    return Axis(0.0, top * 1.12)


def _round_down(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(value))
    return max(factor * power for factor in (1, 2, 5) if factor * power <= value * (1 + 1e-9))


def thinned(points: Sequence[Point], columns: int = 150) -> list[Point]:
    """At most four points a column of time: its first, lowest, highest and last. No extreme is lost."""
    if len(points) <= 4 * columns:
        return list(points)
    width = (points[-1][0] - points[0][0]) / columns or 1.0
    by_column: dict[int, list[Point]] = {}
    for point in points:
        by_column.setdefault(int((point[0] - points[0][0]) / width), []).append(point)
    kept: list[Point] = []
    for inside in by_column.values():
        marks = {inside[0], min(inside, key=_value), max(inside, key=_value), inside[-1]}
        kept += sorted(marks, key=lambda point: point[0])
    return kept


def spans(points: Sequence[Point], columns: int = 400) -> list[tuple[float, float, float]]:
    """(seconds, lowest, highest) of each column of time that has points, at its first one."""
    if not points:
        return []
    width = (points[-1][0] - points[0][0]) / columns or 1.0
    found: dict[int, tuple[float, float, float]] = {}
    for t_s, value in points:
        column = int((t_s - points[0][0]) / width)
        first_s, low, high = found.get(column, (t_s, value, value))
        found[column] = (first_s, min(low, value), max(high, value))
    return list(found.values())


def _value(point: Point) -> float:
    return point[1]
