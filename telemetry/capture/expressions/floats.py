"""Expressions at one instant: a number is a float, and NaN where it is missing."""

from __future__ import annotations

from math import nan
from typing import Final

from telemetry.capture.expressions.program import Form, Operations


def _quotient(left: float, right: float) -> float:
    return left / right if right else nan


def _remainder(left: float, right: float) -> float:
    return left % right if right else nan


def _least(left: float, right: float) -> float:
    return left if left < right or left != left else right


def _greatest(left: float, right: float) -> float:
    return left if left > right or left != left else right


def _truth(true: bool, false: bool) -> bool | None:
    if true:
        return True
    return False if false else None


def _number(value: float) -> float | None:
    return value if value == value else None


def _as_it_is(form: Form) -> Form:
    return form


FLOATS: Final = Operations("floats", abs, _quotient, _remainder, _least, _greatest, _truth, _number, _as_it_is)
"""The form gives True, False or None; or a finite float or None."""
