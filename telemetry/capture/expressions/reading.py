"""From a text to a tree, by an allow-list: what isn't named here isn't part of the language."""

from __future__ import annotations

import ast
import math
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Final, Literal

from ecu.errors import shown
from ecu.toml import nearest
from telemetry.capture.expressions.errors import BadExpression
from telemetry.capture.expressions.text import MAX_DEPTH, checked
from telemetry.capture.expressions.tree import (
    Age,
    Arithmetic,
    Comparison,
    Denied,
    Extreme,
    Function,
    IsNull,
    Joined,
    Kind,
    Magnitude,
    Negative,
    Node,
    Number,
    Relation,
    Sign,
    Signal,
    Truth,
    Window,
    kind_of,
)

MAX_LEAVES: Final = 64
MAX_WINDOW_MS: Final = 120_000

_SIGNS: Final[Mapping[type[ast.operator], Sign]] = MappingProxyType(
    {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Mod: "%"}
)
_RELATIONS: Final[Mapping[type[ast.cmpop], Relation]] = MappingProxyType(
    {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!="}
)
_WINDOWS: Final = frozenset(Function)
FUNCTIONS: Final = ("abs", "min", "max", "isnull", "age", *Function)
_HOW: Final = MappingProxyType(
    {
        Kind.NUMBER: "a number belongs here, and this is true or false.",
        Kind.TRUTH: "true or false belongs here, and this is a number: compare it, such as Vehicle.Speed > 80.",
    }
)


def read(text: str, known: Collection[str] | None = None) -> Node:
    """The tree of a text. With `known` every path must be one of these. Raises BadExpression."""
    return Reader(known).read(parsed(checked(text)))


def parsed(text: str) -> ast.expr:
    """Python's own tree of the text. Raises BadExpression."""
    bare = text.lstrip(" ")
    try:
        tree = ast.parse(bare, "<expression>", mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise BadExpression(
            1, "Python's parser doesn't take it: put brackets around its parts, or make it shorter."
        ) from None
    skipped = len(text) - len(bare)
    for node in ast.walk(tree) if skipped else ():
        if isinstance(node, ast.expr):
            node.col_offset += skipped
    return tree


class Reader:
    """Reads one tree. The depth is bounded on the way down, so that no tree is too deep to be refused."""

    def __init__(self, known: Collection[str] | None = None) -> None:
        self._known = known
        self._leaves = 0

    def read(self, given: ast.expr, depth: int = 1) -> Node:
        if depth > MAX_DEPTH:
            raise refused(given, f"it is deeper than {MAX_DEPTH}.")
        match given:
            case ast.Constant():
                return self.constant(given)
            case ast.Name() | ast.Attribute():
                return Signal(self.path(given))
            case ast.Call():
                return self.call(given, depth)
            case ast.UnaryOp(op=ast.USub()):
                return Negative(self.number(given.operand, depth))
            case ast.UnaryOp(op=ast.Not()):
                return Denied(self.truth(given.operand, depth))
            case ast.BinOp():
                return self.arithmetic(given, depth)
            case ast.BoolOp():
                word: Literal["and", "or"] = "and" if isinstance(given.op, ast.And) else "or"
                return Joined(word, tuple(self.truth(value, depth) for value in given.values))
            case ast.Compare():
                return self.comparison(given, depth)
            case _:
                return self.foreign(given)

    def foreign(self, given: ast.expr) -> Node:
        raise refused(given, "this isn't part of the language.")

    def number(self, given: ast.expr, depth: int) -> Node:
        return self._of_kind(Kind.NUMBER, given, depth)

    def truth(self, given: ast.expr, depth: int) -> Node:
        return self._of_kind(Kind.TRUTH, given, depth)

    def _of_kind(self, kind: Kind, given: ast.expr, depth: int) -> Node:
        node = self.read(given, depth + 1)
        if kind_of(node) is not kind:
            raise refused(given, _HOW[kind])
        return node

    def constant(self, given: ast.Constant) -> Node:
        if isinstance(given.value, bool):
            return Truth(given.value)
        if not isinstance(given.value, int | float):
            raise refused(given, "only numbers, True and False may be written out.")
        try:
            value = float(given.value)
        except OverflowError:
            value = math.inf
        if not math.isfinite(value):
            raise refused(given, "the number is too large: 1.7e308 is about the largest.")
        return Number(value)

    def arithmetic(self, given: ast.BinOp, depth: int) -> Node:
        sign = _SIGNS.get(type(given.op))
        if sign is None:
            raise refused(given, "this isn't part of the language: numbers have + - * / and %.")
        return Arithmetic(sign, self.number(given.left, depth), self.number(given.right, depth))

    def comparison(self, given: ast.Compare, depth: int) -> Node:
        relations = tuple(_RELATIONS.get(type(op)) for op in given.ops)
        if None in relations:
            raise refused(given, "this isn't part of the language: numbers are compared by < <= > >= == and !=.")
        operands = tuple(self.number(operand, depth) for operand in (given.left, *given.comparators))
        return Comparison(operands, tuple(relation for relation in relations if relation is not None))

    def path(self, given: ast.expr) -> str:
        """The dotted name of a path. Raises BadExpression for anything else with a dot behind it."""
        parts: list[str] = []
        inner = given
        while isinstance(inner, ast.Attribute):
            parts.append(inner.attr)
            inner = inner.value
        if not isinstance(inner, ast.Name):
            raise refused(given, "a path belongs here, such as Vehicle.Speed.")
        name = ".".join((inner.id, *reversed(parts)))
        self._check_path(given, name)
        return name

    def _check_path(self, given: ast.expr, name: str) -> None:
        if name in FUNCTIONS:
            raise refused(given, f"{name} is a function: write {name}(...).")
        if self._known is not None and name not in self._known:
            like = nearest(name, sorted(self._known))
            raise refused(given, f"the vehicle has no signal {shown(name)}.", like)
        self._leaves += 1
        if self._leaves > MAX_LEAVES:
            raise refused(given, f"it names paths more than {MAX_LEAVES} times.")

    def call(self, given: ast.Call, depth: int) -> Node:
        name = given.func.id if isinstance(given.func, ast.Name) else None
        if name is None or name not in FUNCTIONS:
            called = "this" if name is None else shown(name)
            like = None if name is None else nearest(name.lower(), FUNCTIONS)
            raise refused(given, f"{called} is no function: there are {', '.join(FUNCTIONS)}.", like)
        if given.keywords or any(isinstance(argument, ast.Starred) for argument in given.args):
            raise refused(given, f"what {name} is of is written one after the other.")
        return self._applied(name, given, depth)

    def _applied(self, name: str, given: ast.Call, depth: int) -> Node:
        match name, given.args:
            case "abs", [operand]:
                return Magnitude(self.number(operand, depth))
            case "isnull", [operand]:
                return IsNull(self.read(operand, depth + 1))
            case "age", [path]:
                return Age(self.path(path))
            case ("min" | "max") as word, [_, _, *_]:
                return Extreme(word, tuple(self.number(operand, depth) for operand in given.args))
            case _, [path, span] if name in _WINDOWS:
                return Window(Function(name), self.path(path), self.milliseconds(span))
            case _:
                raise refused(given, f"write {usage(name)}.")

    def milliseconds(self, given: ast.expr) -> int:
        value = given.value if isinstance(given, ast.Constant) else None
        if type(value) is not int or not 1 <= value <= MAX_WINDOW_MS:
            raise refused(given, f"a window is a whole number of milliseconds from 1 to {MAX_WINDOW_MS}.")
        return value


def usage(name: str) -> str:
    """How a function is written."""
    match name:
        case "abs" | "isnull":
            return f"{name}(x)"
        case "age":
            return "age(path)"
        case "min" | "max":
            return f"{name}(x, y, ...)"
        case _:
            return f"{name}(path, milliseconds)"


def refused(given: ast.expr, reason: str, like: str | None = None) -> BadExpression:
    return BadExpression(given.col_offset + 1, reason, like)
