"""Claims: what a run promised, what it measured, and whether one holds the other.

A claim is made by `at_most`, `at_least`, `equals` or `holds`, so that its verdict always comes from its number. What
wasn't measured never holds.
"""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass

NOT_MEASURED = "not measured"


@dataclass(frozen=True, slots=True)
class Claim:
    """One promise and its number. `why` is one sentence on what breaks for people when it fails."""

    name: str
    measured: str
    bar: str
    ok: bool
    why: str
    value: float | None = None
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """All claims of one run, which took `seconds`."""

    claims: tuple[Claim, ...]
    seconds: float

    @property
    def ok(self) -> bool:
        """True when every claim held. A run that claimed nothing proved nothing."""
        return bool(self.claims) and all(claim.ok for claim in self.claims)

    @property
    def failed(self) -> tuple[Claim, ...]:
        return tuple(claim for claim in self.claims if not claim.ok)

    @property
    def sentence(self) -> str:
        """The verdict in words, without a full stop."""
        total, failed = len(self.claims), len(self.failed)
        if total == 0:
            return "Nothing was claimed, so nothing is proved"
        if failed:
            return f"{failed} of {total} claims failed"
        return "The one claim held" if total == 1 else f"All {total} claims held"

    def to_json(self) -> str:
        """The stable form: {"seconds", "claims": [{"claim", "measured", "bar", "ok"}]}. ASCII, ends with a newline."""
        claims = [{"claim": c.name, "measured": c.measured, "bar": c.bar, "ok": c.ok} for c in self.claims]
        return json.dumps({"seconds": round(float(self.seconds), 3), "claims": claims}, indent=2) + "\n"


def at_most(name: str, value: float | None, bar: float, unit: str, why: str) -> Claim:
    return _compared(name, value, bar, unit, why, "≤", operator.le)


def at_least(name: str, value: float | None, bar: float, unit: str, why: str) -> Claim:
    return _compared(name, value, bar, unit, why, "≥", operator.ge)


def equals(name: str, value: float | None, bar: float, unit: str, why: str) -> Claim:
    return _compared(name, value, bar, unit, why, "=", operator.eq)


def holds(name: str, held: bool | None, why: str, *, measured: str = "", bar: str = "yes") -> Claim:
    """For what is so or isn't: `measured` tells what was seen, `bar` what had to be; None is not measured."""
    if held is None:
        return Claim(name, NOT_MEASURED, bar, False, why)
    return Claim(name, measured or ("yes" if held else "no"), bar, held, why, float(held))


def _compared(
    name: str, value: float | None, bar: float, unit: str, why: str, sign: str, test: Callable[[float, float], bool]
) -> Claim:
    shown_bar = f"{sign} {_with_unit(_plain(bar), unit)}"
    if value is None or not math.isfinite(value):
        return Claim(name, NOT_MEASURED, shown_bar, False, why, None, unit)
    return Claim(name, _with_unit(shown(value, bar), unit), shown_bar, test(value, bar), why, float(value), unit)


def shown(value: float, bar: float) -> str:
    """`value` with three significant digits, or as many more as it takes to stay on its side of `bar`."""
    for digits in range(3, 17):
        text = _rounded(value, digits)
        if _side(float(text.replace(",", "")), bar) == _side(value, bar):
            return text
    return repr(value)


def _side(value: float, bar: float) -> int:
    return (value > bar) - (value < bar)


def _rounded(value: float, digits: int) -> str:
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    if abs(value) < 1e-4:
        return f"{value:.{digits}g}"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{decimals}f}"


def _plain(value: float) -> str:
    return f"{int(value):,}" if float(value).is_integer() else f"{value:,}"


def _with_unit(number: str, unit: str) -> str:
    if not unit:
        return number
    return f"{number}{unit}" if unit == "%" else f"{number} {unit}"
