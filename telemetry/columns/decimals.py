"""Floats that are integers in disguise: decimals (8.25 is 825 hundredths), or float32 widened to float64.

After A. Afroozeh, L. Kuffó, P. Boncz, "ALP: Adaptive Lossless floating-Point Compression", SIGMOD 2023: most floats
that machines tell were decimals once. A guess is taken only when every bit of every value comes back.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from telemetry.columns.flat import Ints

MAX_DIGITS: Final = 9
FLOAT32: Final = 254
AS_BITS: Final = 255

_EXACT: Final = float(1 << 53)
_LOOKED_AT: Final = 32


def disguise(values: NDArray[np.float64]) -> tuple[int, Ints]:
    """How `values` are told, and the integers: digits behind the point, FLOAT32 or AS_BITS."""
    bits = values.view(np.int64)
    with np.errstate(all="ignore"):
        for digits in range(MAX_DIGITS + 1):
            if _is_decimal(values[:_LOOKED_AT], digits) and _is_decimal(values, digits):
                return digits, _scaled(values, digits).astype(np.int64)
        narrow = values.astype(np.float32)
        if np.array_equal(narrow.astype(np.float64).view(np.int64), bits):
            return FLOAT32, narrow.view(np.int32).astype(np.int64)
    return AS_BITS, bits


def reveal(kind: int, ints: Ints) -> NDArray[np.float64]:
    """The floats again."""
    if kind == AS_BITS:
        return ints.view(np.float64)
    if kind == FLOAT32:
        with np.errstate(invalid="ignore"):
            return ints.astype(np.int32).view(np.float32).astype(np.float64)
    return ints.astype(np.float64) / 10.0**kind


def _scaled(values: NDArray[np.float64], digits: int) -> NDArray[np.float64]:
    return np.rint(values * 10.0**digits)


def _is_decimal(values: NDArray[np.float64], digits: int) -> bool:
    scaled = _scaled(values, digits)
    back = scaled / 10.0**digits
    return bool((np.abs(scaled) < _EXACT).all()) and np.array_equal((back + 0.0).view(np.int64), values.view(np.int64))
