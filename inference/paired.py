"""The difference of two rates that were found on the same things, and how far it can be trusted.

Newcombe's square-and-add interval for paired proportions (R. G. Newcombe, Statistics in Medicine 17, 1998, p. 2635,
method 10): from Wilson's intervals of both rates and how much they go together. It needs no resampling, and doesn't
shrink to a point where the two never differed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.recall import wilson_low


@dataclass(frozen=True, slots=True)
class Difference:
    """Of the second rate less the first, between `low` and `high` with 95 % confidence."""

    value: float
    low: float
    high: float


def paired_difference(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> Difference:
    """first, second (N,): which of the same N > 0 things each told right. Swapping them negates and swaps
    the bounds."""
    both, none = int((first & second).sum()), int((~first & ~second).sum())
    only_first, only_second = int((first & ~second).sum()), int((~first & second).sum())
    count = len(first)
    before, after = (both + only_first) / count, (both + only_second) / count
    below_before, above_before = _reach(both + only_first, count)
    below_after, above_after = _reach(both + only_second, count)
    phi = _correlation(both, only_first, only_second, none)
    value = after - before
    down = math.sqrt(max(0.0, below_after**2 - 2 * phi * below_after * above_before + above_before**2))
    up = math.sqrt(max(0.0, above_after**2 - 2 * phi * above_after * below_before + below_before**2))
    return Difference(value, value - down, value + up)


def _reach(right: int, count: int) -> tuple[float, float]:
    """How far Wilson's interval reaches below and above the rate."""
    rate = right / count
    return rate - wilson_low(right, count), 1.0 - wilson_low(count - right, count) - rate


def _correlation(both: int, only_first: int, only_second: int, none: int) -> float:
    """Newcombe's phi, with his correction where the two go together."""
    sums = (both + only_first) * (only_second + none) * (both + only_second) * (only_first + none)
    if not sums:
        return 0.0
    crossed = both * none - only_first * only_second
    count = both + none + only_first + only_second
    if crossed > count / 2:
        crossed = int(crossed - count / 2)
    elif crossed >= 0:
        crossed = 0
    return crossed / math.sqrt(sums)
