"""docs/formats/expressions.md read once more, as plainly as it goes: a descent over tokens, a walk over tuples, samples
in lists. It shares no code with what it judges, and is slow."""

from __future__ import annotations

import keyword
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Number = float | None
Truth = bool | None
Tree = tuple[object, ...]

_TOKEN = re.compile(r"[ \t\r\n]+|[0-9A-Za-z_.]+|<=|>=|==|!=|[-+*/%<>(),]")
_EXPONENT = re.compile(r"[0-9.]+[eE][+-][0-9]+(?![0-9A-Za-z_.])")
_NUMBER = re.compile(r"(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_PATH = re.compile(r"[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z][A-Za-z0-9_]*)*")
_RELATIONS = ("<", "<=", ">", ">=", "==", "!=")
_WINDOWS = ("avg", "low", "high", "rate", "count", "changed")
_FUNCTIONS = ("abs", "min", "max", "isnull", "age", *_WINDOWS)
_NO_PARTS = (*keyword.kwlist, "true", "false", "null", "none")


class Refused(Exception):
    """The document doesn't know such a text."""


def _need(held: bool) -> None:
    if not held:
        raise Refused


def reads(text: str) -> Tree:
    """The tree of an expression, or of a condition that names a path. Raises Refused."""
    _need(len(text) <= 1024)
    parser = _Parser(_words(text))
    tree = parser.expression(1)
    _need(parser.word() == "")
    _need(kind(tree) == "number" or parser.paths > 0)
    return tree


def _words(text: str) -> list[str]:
    words, at = [], 0
    while at < len(text):
        found = _EXPONENT.match(text, at) or _TOKEN.match(text, at)
        _need(found is not None)
        assert found is not None
        at = found.end()
        if found.group().strip(" \t\r\n"):
            words.append(found.group())
    return words


class _Parser:
    def __init__(self, words: list[str]) -> None:
        self.paths = 0
        self._words = words
        self._at = 0
        self._open = 0

    def word(self) -> str:
        return self._words[self._at] if self._at < len(self._words) else ""

    def take(self, *expected: str) -> str:
        word = self.word()
        _need(word in expected if expected else word != "")
        self._at += 1
        return word

    def expression(self, depth: int) -> Tree:
        return self._joined("or", self.both, depth)

    def both(self, depth: int) -> Tree:
        return self._joined("and", self.negation, depth)

    def _joined(self, word: str, part: Callable[[int], Tree], depth: int) -> Tree:
        parts = [part(depth)]
        while self.word() == word:
            self.take()
            parts.append(part(depth))
        if len(parts) == 1:
            return parts[0]
        _need(all(kind(each) == "truth" for each in parts))
        return self._deep((word, *parts))

    def negation(self, depth: int) -> Tree:
        _need(depth <= 17)
        if self.word() != "not":
            return self.comparison(depth)
        self.take()
        inner = self.negation(depth + 1)
        _need(kind(inner) == "truth")
        return self._deep(("not", inner))

    def comparison(self, depth: int) -> Tree:
        parts, relations = [self.sum(depth)], []
        while self.word() in _RELATIONS:
            relations.append(self.take())
            parts.append(self.sum(depth))
        if not relations:
            return parts[0]
        _need(all(kind(each) == "number" for each in parts))
        return self._deep(("compare", tuple(relations), *parts))

    def sum(self, depth: int) -> Tree:
        return self._grouped(("+", "-"), self.product, depth)

    def product(self, depth: int) -> Tree:
        return self._grouped(("*", "/", "%"), self.signed, depth)

    def _grouped(self, signs: tuple[str, ...], part: Callable[[int], Tree], depth: int) -> Tree:
        left = part(depth)
        while self.word() in signs:
            sign, right = self.take(), part(depth)
            _need(kind(left) == kind(right) == "number")
            left = self._deep((sign, left, right))
        return left

    def signed(self, depth: int) -> Tree:
        _need(depth <= 17)
        if self.word() != "-":
            return self.operand(depth)
        self.take()
        inner = self.signed(depth + 1)
        _need(kind(inner) == "number")
        return self._deep(("negative", inner))

    def operand(self, depth: int) -> Tree:
        word = self.take()
        if word == "(":
            return self._bracketed(depth)
        if word in ("True", "False"):
            return ("truth", word == "True")
        if word[0].isdigit():
            _need(_NUMBER.fullmatch(word) is not None and math.isfinite(float(word)))
            return ("number", float(word), word)
        if self.word() == "(":
            return self._call(word, depth)
        return ("path", self._path(word))

    def _bracketed(self, depth: int) -> Tree:
        self._open += 1
        _need(self._open <= 32)
        inner = self.expression(depth)
        self.take(")")
        self._open -= 1
        return inner

    def _path(self, word: str) -> str:
        _need(_PATH.fullmatch(word) is not None and len(word) <= 200)
        _need(not any(part in _NO_PARTS for part in word.split(".")) and word not in _FUNCTIONS)
        self.paths += 1
        _need(self.paths <= 64)
        return word

    def _call(self, name: str, depth: int) -> Tree:
        _need(name in _FUNCTIONS)
        self._open += 1
        _need(self._open <= 32)
        self.take("(")
        operands = [self.expression(depth)]
        while self.take(",", ")") == ",":
            operands.append(self.expression(depth))
        self._open -= 1
        return self._deep(_applied(name, operands))

    def _deep(self, tree: Tree) -> Tree:
        _need(deep(tree) <= 16)
        return tree


def _applied(name: str, operands: list[Tree]) -> Tree:
    kinds = [kind(operand) for operand in operands]
    if name == "abs":
        _need(kinds == ["number"])
    elif name == "isnull":
        _need(len(kinds) == 1)
    elif name in ("min", "max"):
        _need(len(kinds) >= 2 and set(kinds) == {"number"})
    elif name == "age":
        _need(len(operands) == 1 and operands[0][0] == "path")
        return ("age", operands[0][1])
    else:
        _need(len(operands) == 2 and operands[0][0] == "path" and operands[1][0] == "number")
        written = str(operands[1][2])
        _need(written.isdigit() and 1 <= int(written) <= 120_000)
        return ("window", name, operands[0][1], int(written))
    return (name, *operands)


def kind(tree: Tree) -> str:
    if tree[0] == "window":
        return "truth" if tree[1] == "changed" else "number"
    return "truth" if tree[0] in ("truth", "or", "and", "not", "compare", "isnull") else "number"


def deep(tree: Tree) -> int:
    return 1 + max((deep(part) for part in tree[1:] if isinstance(part, tuple) and part and part[0] not in _RELATIONS),
                   default=0)  # fmt: skip


@dataclass
class Past:
    """All samples of a path: stamp and value, None without one. `holds` of them are still known."""

    holds: int
    limit_ns: int
    samples: list[tuple[int, Number]] = field(default_factory=list)
    dropped: int = 0

    def put(self, t_ns: int, value: float) -> bool:
        if self.samples and t_ns <= self.samples[-1][0]:
            self.dropped += 1
            return False
        self.samples.append((t_ns, value if math.isfinite(value) else None))
        return True

    def forgotten_ns(self) -> int | None:
        gone = len(self.samples) - self.holds
        return self.samples[gone - 1][0] if gone > 0 else None

    def last(self, t_ns: int) -> tuple[int, Number] | None:
        """The sample that holds at the instant, if it is still known."""
        held = self.samples[-self.holds :]
        return next((sample for sample in reversed(held) if sample[0] <= t_ns), None)


def says(tree: Tree, pasts: Mapping[str, Past], t_ns: int) -> float | bool | None:
    """What it says at an instant."""
    return truth(tree, pasts, t_ns) if kind(tree) == "truth" else number(tree, pasts, t_ns)


def number(tree: Tree, pasts: Mapping[str, Past], t_ns: int) -> Number:
    answer = _number(tree, pasts, t_ns)
    return answer if answer is not None and math.isfinite(answer) else None


def _number(tree: Tree, pasts: Mapping[str, Past], t_ns: int) -> Number:
    match tree:
        case ("number", float(value), _):
            return value
        case ("path", str(path)):
            last = pasts[path].last(t_ns)
            return None if last is None or t_ns - last[0] > pasts[path].limit_ns else last[1]
        case ("age", str(path)):
            last = pasts[path].last(t_ns)
            return None if last is None or last[1] is None else float(t_ns - last[0]) / 1e6
        case ("window", str(function), str(path), int(ms)):
            return _window(function, pasts[path], t_ns - ms * 1_000_000, t_ns)
    operands = [number(part, pasts, t_ns) for part in tree[1:] if isinstance(part, tuple)]
    given = [operand for operand in operands if operand is not None]
    return None if len(given) < len(operands) else _calculated(str(tree[0]), given)


def _calculated(sign: str, given: list[float]) -> Number:
    match sign:
        case "negative":
            return -given[0]
        case "abs":
            return abs(given[0])
        case "min":
            return sorted(given)[0]
        case "max":
            return sorted(given)[-1]
        case "+":
            return given[0] + given[1]
        case "-":
            return given[0] - given[1]
        case "*":
            return given[0] * given[1]
        case "/":
            return given[0] / given[1] if given[1] != 0 else None
        case "%":
            return given[0] % given[1] if given[1] != 0 else None
        case _:
            raise AssertionError(sign)


def _window(function: str, past: Past, from_ns: int, to_ns: int) -> Number:
    forgotten_ns = past.forgotten_ns()
    if forgotten_ns is not None and forgotten_ns > from_ns:
        return None
    inside = [index for index, (t_ns, _) in enumerate(past.samples) if from_ns < t_ns <= to_ns]
    told = [(t_ns, value) for t_ns, value in (past.samples[index] for index in inside) if value is not None]
    if function == "count":
        return float(len(told))
    if not told:
        return None
    values = [value for _, value in told]
    match function:
        case "avg":
            return _sum(past, inside) / len(values)
        case "low":
            return sorted(values)[0]
        case "high":
            return sorted(values)[-1]
        case "rate":
            if len(told) < 2:
                return None
            return (values[-1] - values[0]) / (float(told[-1][0] - told[0][0]) / 1e9)
        case "changed":
            return float(any(_is_change(past, index) for index in inside))
        case _:
            raise AssertionError(function)


def _sum(past: Past, inside: list[int]) -> float:
    sums = {index: past.samples[index][1] or 0.0 for index in inside}
    while len(sums) > 1:
        pieces: dict[int, float] = {}
        for number in sorted(sums):
            pieces[number // 32] = pieces.get(number // 32, 0.0) + sums[number]
        sums = pieces
    return next(iter(sums.values()))


def _is_change(past: Past, index: int) -> bool:
    before = [value for _, value in past.samples[:index] if value is not None]
    value = past.samples[index][1]
    return value is not None and bool(before) and value != before[-1]


def truth(tree: Tree, pasts: Mapping[str, Past], t_ns: int) -> Truth:
    match tree:
        case ("truth", bool(value)):
            return value
        case ("window", _, _, _):
            changed = number(tree, pasts, t_ns)
            return None if changed is None else changed == 1.0
        case ("isnull", tuple(operand)):
            return says(operand, pasts, t_ns) is None
        case ("not", tuple(operand)):
            inner = truth(operand, pasts, t_ns)
            return None if inner is None else not inner
        case ("compare", tuple(relations), *parts):
            numbers = [number(part, pasts, t_ns) for part in parts if isinstance(part, tuple)]
            links = zip(numbers, relations, numbers[1:], strict=False)
            return _all([_compared(left, str(relation), right) for left, relation, right in links])
        case ("and", *parts):
            return _all([truth(part, pasts, t_ns) for part in parts if isinstance(part, tuple)])
        case ("or", *parts):
            return _any([truth(part, pasts, t_ns) for part in parts if isinstance(part, tuple)])
        case _:
            raise AssertionError(tree)


def _all(parts: list[Truth]) -> Truth:
    if any(part is False for part in parts):
        return False
    return None if any(part is None for part in parts) else True


def _any(parts: list[Truth]) -> Truth:
    if any(part is True for part in parts):
        return True
    return None if any(part is None for part in parts) else False


def _compared(left: Number, relation: str, right: Number) -> Truth:
    if left is None or right is None:
        return None
    return {
        "<": left < right,
        "<=": left <= right,
        ">": left > right,
        ">=": left >= right,
        "==": left == right,
        "!=": left != right,
    }[relation]
