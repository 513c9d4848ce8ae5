"""Ranges of versions, as a release names what can run it: ">=1.20,<2" is from 1.20 on and below 2.

    range   = bound *("," bound)            all of them hold; at most four
    bound   = (">=" / ">" / "<=" / "<" / "==") version
    version = number *3("." number)         numbers of up to six digits, without leading zeros

Numbers are compared from the left, and a missing one is 0: 1.20 is 1.20.0. What a computer calls its version may go on
behind its numbers ("1.20.1rc1", "3.12.0+"): that counts for nothing.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

_NUMBER: Final = r"(?:0|[1-9][0-9]{0,5})"
_VERSION: Final = rf"{_NUMBER}(?:\.{_NUMBER}){{0,3}}"
_BOUND: Final = rf"(?:>=|<=|==|>|<){_VERSION}"
RANGE_PATTERN: Final = rf"^{_BOUND}(?:,{_BOUND}){{0,3}}$"
MOST_CHARACTERS: Final = 128

_OPERATORS: Final[Mapping[str, Callable[[tuple[int, ...], tuple[int, ...]], bool]]] = MappingProxyType(
    {">=": operator.ge, "<=": operator.le, "==": operator.eq, ">": operator.gt, "<": operator.lt}
)
_LEADING: Final = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,6}){0,3}", re.ASCII)
_PARTS: Final = re.compile(rf"(>=|<=|==|>|<)({_VERSION})", re.ASCII)


def is_within(version: str, wanted: str) -> bool:
    """Whether `version`, as a computer tells it, is in the range `wanted`, which RANGE_PATTERN let pass. A version that
    begins with no number is in none."""
    leading = _LEADING.match(version)
    if leading is None:
        return False
    numbers = _numbers(leading[0])
    return all(_OPERATORS[sign](numbers, _numbers(bound)) for sign, bound in _PARTS.findall(wanted))


def _numbers(version: str) -> tuple[int, ...]:
    """Four of them."""
    numbers = [int(number) for number in version.split(".")]
    return tuple(numbers + [0] * (4 - len(numbers)))
