from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any, Final

import numpy as np
import pytest

from telemetry.capture.expressions import BadExpression, Condition, parse
from telemetry.capture.expressions.arrays import ARRAYS
from telemetry.capture.expressions.floats import FLOATS
from telemetry.capture.expressions.program import Operations, Program, compiled
from telemetry.capture.expressions.reading import FUNCTIONS, Reader, parsed, read
from telemetry.capture.expressions.text import checked
from telemetry.capture.expressions.tree import Function, Joined, Node, Number, Signal, Window
from telemetry.capture.history import History
from tests.telemetry.capture.expressionhunt import Found, Language, hunt

SOAK_TEXTS: Final = 15_000
SOAK_RUNS: Final = 8
MOST_TEXTS: Final = 5000
"""For what a planted fault must be found in; most are in the first few dozen."""


def _check(found: Found) -> None:
    assert found.faults == []
    assert found.valid >= 0.3 * found.texts
    assert all(found.answers[sort] > found.texts / 10 for sort in (True, False, None, "missing", "a number"))


def test_what_chance_writes_is_taken_or_refused_as_the_document_says_and_says_the_same_thrice() -> None:
    _check(hunt(Random(5), 2000))


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(SOAK_RUNS))
def test_whatever_chance_writes_is_taken_or_refused_as_the_document_says(seed: int) -> None:
    _check(hunt(Random(1000 + seed), SOAK_TEXTS))


# Planted faults: the hunt finds each.


def _no_check(reader: type[Reader]) -> Callable[[str], Condition]:
    """Reads without looking at the text first; what the reader doesn't know is still refused."""

    def read_text(text: str) -> Condition:
        if not text or len(text) > 1024 or re.search(r"[^ -~\t\n]|\\", text):
            raise BadExpression(1, "refused")
        return Condition(reader().read(parsed(text.replace("\n", " "))))

    return read_text


class _AttributeOfAnything(Reader):
    def path(self, given: ast.expr) -> str:
        inner = given
        while isinstance(inner, ast.Attribute):
            inner = inner.value
        return super().path(given) if isinstance(inner, ast.Name) else "Vehicle.Speed"


class _CallOfACall(Reader):
    def call(self, given: ast.Call, depth: int) -> Node:
        return self.call(given.func, depth) if isinstance(given.func, ast.Call) else super().call(given, depth)


class _Strings(Reader):
    def foreign(self, given: ast.expr) -> Node:
        return Number(0.0) if isinstance(given, ast.JoinedStr) else super().foreign(given)


class _Comprehensions(Reader):
    def foreign(self, given: ast.expr) -> Node:
        return Number(0.0) if isinstance(given, ast.ListComp) else super().foreign(given)


class _AnyFunction(Reader):
    def call(self, given: ast.Call, depth: int) -> Node:
        try:
            return super().call(given, depth)
        except BadExpression:
            return Signal("Vehicle.Speed")


def _is_of_a_call(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Call)


def _is_attribute_of_a_value(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and not isinstance(node.value, ast.Name | ast.Attribute)


def _is_call_of_anything(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id not in FUNCTIONS


@pytest.mark.parametrize(
    ("reader", "is_planted"),
    [
        (_AttributeOfAnything, _is_attribute_of_a_value),
        (_CallOfACall, _is_of_a_call),
        (_Strings, lambda node: isinstance(node, ast.JoinedStr)),
        (_Comprehensions, lambda node: isinstance(node, ast.ListComp)),
        (_AnyFunction, _is_call_of_anything),
    ],
)
def test_an_allow_list_with_a_hole_is_noticed(reader: type[Reader], is_planted: Callable[[ast.AST], bool]) -> None:
    def prey(text: str, fault: str) -> bool:
        return fault == "taken" and any(is_planted(node) for node in ast.walk(ast.parse(_flat(text), mode="eval")))

    found = hunt(Random(6), MOST_TEXTS, Language(_no_check(reader)), prey)
    assert any(prey(*fault) for fault in found.faults)


def test_what_the_reader_knows_is_told_from_a_hole() -> None:
    """Without the look at the text, what is taken wrongly says what the language could have said as well."""
    faults = hunt(Random(6), 400, Language(_no_check(Reader))).faults
    taken = [_flat(text) for text, fault in faults if fault == "taken"]
    assert len(taken) > 5
    assert all(_is_harmless(ast.parse(text, mode="eval")) for text in taken)


def _is_harmless(tree: ast.AST) -> bool:
    foreign = (ast.JoinedStr, ast.ListComp, ast.Lambda, ast.NamedExpr, ast.Subscript, ast.Await, ast.Starred, ast.Pow)
    return not any(
        isinstance(node, foreign) or _is_of_a_call(node) or _is_attribute_of_a_value(node) or _is_call_of_anything(node)
        for node in ast.walk(tree)
    )


def _flat(text: str) -> str:
    return text.strip().replace("\n", " ")


def _finds(language: Language, seed: int = 1) -> bool:
    return hunt(Random(seed), MOST_TEXTS, language, lambda text, fault: True).faults != []


def _with(operations: Operations) -> Callable[[Condition], Condition]:
    def told(condition: Condition) -> Condition:
        wrong = Condition(condition.root)
        wrong._forms[operations.name] = condition.program.form(operations)
        return wrong

    return told


WRONG_ARRAYS = {
    "the sign of the dividend": replace(ARRAYS, remainder=np.fmod),
    "the least in spite of missing ones": replace(ARRAYS, least=np.fmin),
    "missing taken for false": replace(ARRAYS, truth=lambda true, false: true.astype(np.int8)),
}
WRONG_FLOATS = {
    "a division by 0": replace(FLOATS, quotient=lambda left, right: left / right),
    "the greatest in spite of missing ones": replace(FLOATS, greatest=max),
    "the quotient one bit off": replace(
        FLOATS, quotient=lambda left, right: math.nextafter(left / right, 0) if right else math.nan
    ),
}


@pytest.mark.parametrize("fault", WRONG_ARRAYS)
def test_arrays_that_calculate_otherwise_are_noticed(fault: str) -> None:
    wrong = _with(WRONG_ARRAYS[fault])

    def over(condition: Condition, history: History, instants_ns: Any) -> Any:
        return wrong(condition).over(history, instants_ns)

    assert _finds(Language(over=over))


@pytest.mark.parametrize("fault", WRONG_FLOATS)
def test_floats_that_calculate_otherwise_are_noticed(fault: str) -> None:
    wrong = _with(WRONG_FLOATS[fault])

    def at(condition: Condition, history: History, t_ns: int) -> bool | float | None:
        return wrong(condition).at(history, t_ns)

    assert _finds(Language(at=at))


def _swapped(node: Node) -> Node:
    return Joined("or" if node.word == "and" else "and", node.operands) if isinstance(node, Joined) else node


def _longer(node: Node) -> Node:
    return replace(node, ms=node.ms + 1) if isinstance(node, Window) else node


def _highest(node: Node) -> Node:
    return replace(node, function=Function.HIGH) if isinstance(node, Window) and node.function is Function.LOW else node


@pytest.mark.parametrize("spoil", [_swapped, _longer, _highest])
def test_a_text_that_is_misread_is_noticed(spoil: Callable[[Node], Node]) -> None:
    class _Misreading(Reader):
        def read(self, given: ast.expr, depth: int = 1) -> Node:
            return spoil(super().read(given, depth))

    def misread(text: str) -> Condition:
        parse(text)
        return Condition(_Misreading().read(parsed(checked(text))))

    assert _finds(Language(misread))


def test_another_error_than_a_refusal_is_noticed() -> None:
    def careless(text: str) -> Condition:
        float(re.sub(r"[^0-9]", "", text)[:1] or "none")
        return parse(text)

    assert any("raised" in fault for _, fault in hunt(Random(9), 200, Language(careless)).faults)


def test_a_program_that_reaches_out_is_noticed() -> None:
    def reaching(text: str) -> Condition:
        condition = Condition(read(text))
        honest = compiled(condition.root)
        source = honest.source.replace("    return", "    print\n    return")
        condition.__dict__["program"] = Program(honest.leaves, source, compile(source, "", "exec"))
        return condition

    assert any("names print" in fault for _, fault in hunt(Random(9), 100, Language(reaching)).faults)
