"""Expressions at many instants at once: a number is an array of them, and NaN where it is missing."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from telemetry.capture.expressions.program import Form, Operations

Booleans = NDArray[np.bool_]


def _quotient(left: Any, right: Any) -> Any:
    return np.divide(left, right)  # by 0 it isn't finite, which is missing


def _truth(true: Booleans, false: Booleans) -> NDArray[np.int8]:
    known: NDArray[np.int8] = (true | false).view(np.int8)
    known += true.view(np.int8)
    known -= 1
    return known


def _number(value: Any) -> Any:
    return value


def _quiet(form: Form) -> Form:
    """Missing numbers and those that grow too large are values here, no reason to warn."""
    quiet: Form = np.errstate(all="ignore")(form)
    return quiet


ARRAYS: Final = Operations("arrays", np.abs, _quotient, np.remainder, np.minimum, np.maximum, _truth, _number, _quiet)
"""The form gives int8: 1 true, 0 false, -1 missing; or float64, NaN where missing."""
