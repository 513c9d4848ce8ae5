"""Expressions by chance against the reference: the same texts are taken, and they say the same, bit for bit."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from types import CodeType
from typing import Any, Final

import numpy as np

from telemetry.capture.expressions import BadExpression, Condition, Kind, parse
from telemetry.capture.history import History
from tests.telemetry.capture.expressiongen import Scene, forest, scene
from tests.telemetry.capture.reference import Refused, Tree, reads, says

TEXTS_A_SCENE: Final = 40
INSTANTS_A_TEXT: Final = 6
_OPERATIONS: Final = {"magnitude", "quotient", "remainder", "least", "greatest", "truth", "number"}


@dataclass(frozen=True)
class Language:
    """What is judged; by default what is shipped."""

    read: Callable[[str], Condition] = parse
    at: Callable[[Condition, History, int], bool | float | None] = Condition.at
    over: Callable[[Condition, History, Any], Any] = Condition.over


@dataclass
class Found:
    """`faults` says of each text what is wrong with the answer to it."""

    valid: int = 0
    texts: int = 0
    answers: dict[object, int] = field(default_factory=dict)
    faults: list[tuple[str, str]] = field(default_factory=list)


Prey = Callable[[str, str], bool]
"""Of a text and its fault: whether it is what is hunted for."""


def hunt(rng: Random, texts: int, language: Language | None = None, prey: Prey | None = None) -> Found:
    """Asks as many texts, or until there is `prey` among the faults."""
    judged, found, text_of = language or Language(), Found(), forest(rng)
    here = scene(rng)
    for number in range(texts):
        if prey is not None and any(prey(*fault) for fault in found.faults):
            break
        if number % TEXTS_A_SCENE == 0:
            here = scene(rng)
        text = text_of()
        found.texts += 1
        tree, condition = _expected(text), _read(judged, text, found)
        if condition is not None:
            found.faults += [(text, fault) for fault in _code_faults(condition)]
        if (tree is None) != (condition is None):
            found.faults.append((text, "taken" if tree is None else "refused"))
        elif tree is not None and condition is not None:
            found.valid += 1
            if set(condition.paths) <= set(here.pasts):
                _ask(rng, judged, text, tree, condition, here, found)
    return found


def _expected(text: str) -> Tree | None:
    try:
        return reads(text)
    except Refused:
        return None


def _read(judged: Language, text: str, found: Found) -> Condition | None:
    try:
        return judged.read(text)
    except BadExpression as error:
        if not 1 <= error.column <= len(text) + 1 or not str(error).isprintable():
            found.faults.append((text, f"refused in a bad way: {error!r}"))
    except Exception as error:  # noqa: BLE001
        found.faults.append((text, f"raised {error!r}"))
    return None


def _code_faults(condition: Condition) -> list[str]:
    functions = [const for const in condition.program.code.co_consts if isinstance(const, CodeType)]
    faults = [f"its code names {name}" for code in functions for name in set(code.co_names) - _OPERATIONS]
    try:
        if len(str(condition)) <= 1024 and parse(str(condition)) != condition:
            faults.append(f"its canonical text says something else: {condition}")
    except BadExpression as error:
        faults.append(f"its canonical text is refused: {condition}: {error}")
    return faults


def _ask(rng: Random, judged: Language, text: str, tree: Tree, condition: Condition, here: Scene, found: Found) -> None:
    instants = sorted(rng.sample(here.instants_ns, min(INSTANTS_A_TEXT, len(here.instants_ns))))
    try:
        over = judged.over(condition, here.history, np.array(instants, np.int64)).tolist()
        at = [judged.at(condition, here.history, t_ns) for t_ns in instants]
    except Exception as error:  # noqa: BLE001
        found.faults.append((text, f"asked, it raised {error!r}"))
        return
    expected = [says(tree, here.pasts, t_ns) for t_ns in instants]
    for answer, one, many in zip(expected, at, over, strict=True):
        sort = answer if condition.kind is Kind.TRUTH else "missing" if answer is None else "a number"
        found.answers[sort] = found.answers.get(sort, 0) + 1
        if not _bits(answer) == _bits(one) == _bits(_scalar(condition.kind, many)):
            found.faults.append((text, f"it says {answer}; at one instant {one}, over many {many}"))


def _scalar(kind: Kind, answer: float) -> bool | float | None:
    if kind is Kind.TRUTH:
        return {1: True, 0: False, -1: None}[int(answer)]
    return None if math.isnan(answer) else answer


def _bits(answer: bool | float | None) -> object:
    """Tells True from 1.0, and apart what differs in the last bit; 0.0 and -0.0 are one."""
    return struct.pack("<d", answer + 0.0) if isinstance(answer, float) else answer
