"""How many of the things that are there a detector finds, how sure one may be of it, and what follows.

The bound is Wilson's (E. B. Wilson, Journal of the American Statistical Association 22, 1927): unlike the usual one it
stays below 1 when everything was found.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

Z_95 = 1.959964
"""The normal distribution's two-sided 95 % quantile."""


def wilson_low(found: int, of: int) -> float:
    """The lower end of the 95 % interval of a rate, after `found` of so many. Raises ValueError for no rate."""
    if not 0 <= found <= of or of < 1:
        raise ValueError(f"{found} of {of} is no rate")
    z2 = Z_95 * Z_95
    spread = Z_95 * math.sqrt(z2 + 4 * found * (of - found) / of)
    return max(0.0, (2 * found + z2 - spread) / (2 * (of + z2)))


def trusted_from(lows: Iterable[tuple[int, float]], bar: float) -> int | None:
    """The smallest size from which on every measured size's lower bound reaches the bar; None when the largest doesn't.

    `lows` are (size, lower bound) in any order. A size that fails takes all smaller ones along: between two sizes
    nothing was measured.
    """
    trusted = None
    for size, low in sorted(lows, reverse=True):
        if low < bar:
            break
        trusted = size
    return trusted
