"""The canonical text of a tree: single spaces, no bracket that isn't needed. Read again it is the same tree."""

from __future__ import annotations

from typing import Final, assert_never

from telemetry.capture.expressions.tree import (
    Age,
    Arithmetic,
    Comparison,
    Denied,
    Extreme,
    IsNull,
    Joined,
    Magnitude,
    Negative,
    Node,
    Number,
    Signal,
    Truth,
    Window,
)

_OR, _AND, _NOT, _COMPARISON, _SUM, _PRODUCT, _MINUS, _ATOM = range(8)
_WHOLE_UP_TO: Final = 1e15


def written(node: Node) -> str:
    match node:
        case Number():
            whole = node.value.is_integer() and node.value < _WHOLE_UP_TO
            return str(int(node.value)) if whole else repr(node.value)
        case Truth():
            return str(node.value)
        case Signal():
            return node.path
        case Age():
            return f"age({node.path})"
        case Window():
            return f"{node.function}({node.path}, {node.ms})"
        case Magnitude():
            return f"abs({written(node.operand)})"
        case IsNull():
            return f"isnull({written(node.operand)})"
        case Extreme():
            return f"{node.word}({', '.join(map(written, node.operands))})"
        case Negative():
            return f"-{_inside(node.operand, _MINUS)}"
        case Denied():
            return f"not {_inside(node.operand, _NOT)}"
        case Arithmetic():
            return _arithmetic(node)
        case Comparison():
            return _chain(node)
        case Joined():
            return f" {node.word} ".join(_inside(part, _strength(node) + 1) for part in node.operands)
        case _:
            assert_never(node)


def _arithmetic(node: Arithmetic) -> str:
    strength = _strength(node)
    return f"{_inside(node.left, strength)} {node.sign} {_inside(node.right, strength + 1)}"


def _chain(node: Comparison) -> str:
    first, *others = (_inside(operand, _COMPARISON + 1) for operand in node.operands)
    return " ".join((first, *(f"{word} {part}" for word, part in zip(node.relations, others, strict=True))))


def _inside(node: Node, at_least: int) -> str:
    text = written(node)
    return text if _strength(node) >= at_least else f"({text})"


def _strength(node: Node) -> int:
    """How tightly it holds together; what is looser than its place needs brackets."""
    match node:
        case Joined():
            return _OR if node.word == "or" else _AND
        case Denied():
            return _NOT
        case Comparison():
            return _COMPARISON
        case Arithmetic():
            return _SUM if node.sign in "+-" else _PRODUCT
        case Negative():
            return _MINUS
        case _:
            return _ATOM
