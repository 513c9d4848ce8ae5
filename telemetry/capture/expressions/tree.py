"""What an expression is made of. docs/formats/expressions.md says what each part means."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, assert_never


class Kind(StrEnum):
    """What an expression says: true or false, or a number. Either may be missing."""

    TRUTH = "truth"
    NUMBER = "number"


class Function(StrEnum):
    """What can be asked of a window, the samples of one path in the last so many milliseconds."""

    AVG = "avg"
    LOW = "low"
    HIGH = "high"
    RATE = "rate"
    COUNT = "count"
    CHANGED = "changed"


Sign = Literal["+", "-", "*", "/", "%"]
Relation = Literal["<", "<=", ">", ">=", "==", "!="]


@dataclass(frozen=True, slots=True)
class Number:
    """A literal: finite, not negative."""

    value: float


@dataclass(frozen=True, slots=True)
class Truth:
    """True or False."""

    value: bool


@dataclass(frozen=True, slots=True)
class Signal:
    """A path's value at the instant."""

    path: str


@dataclass(frozen=True, slots=True)
class Age:
    """Milliseconds since the path's last sample."""

    path: str


@dataclass(frozen=True, slots=True)
class Window:
    """What `function` says of the path's samples later than `ms` before the instant, up to it."""

    function: Function
    path: str
    ms: int


Leaf = Signal | Age | Window
"""Everything whose value comes from the vehicle."""


@dataclass(frozen=True, slots=True)
class Negative:
    operand: Node


@dataclass(frozen=True, slots=True)
class Arithmetic:
    sign: Sign
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Magnitude:
    """abs"""

    operand: Node


@dataclass(frozen=True, slots=True)
class Extreme:
    """The least or the greatest of two or more."""

    word: Literal["min", "max"]
    operands: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A chain: each operand to the next one by the relation between them, all of them joined by `and`."""

    operands: tuple[Node, ...]
    relations: tuple[Relation, ...]


@dataclass(frozen=True, slots=True)
class Joined:
    word: Literal["and", "or"]
    operands: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Denied:
    """not"""

    operand: Node


@dataclass(frozen=True, slots=True)
class IsNull:
    operand: Node


Node = (
    Number | Truth | Signal | Age | Window | Negative | Arithmetic | Magnitude | Extreme | Comparison | Joined
    | Denied | IsNull
)  # fmt: skip


def kind_of(node: Node) -> Kind:
    match node:
        case Truth() | Comparison() | Joined() | Denied() | IsNull() | Window(Function.CHANGED):
            return Kind.TRUTH
        case Number() | Signal() | Age() | Window() | Negative() | Arithmetic() | Magnitude() | Extreme():
            return Kind.NUMBER
        case _:
            assert_never(node)


def operands_of(node: Node) -> tuple[Node, ...]:
    """The parts of a node, from left to right; of a leaf and of a literal none."""
    match node:
        case Number() | Truth() | Signal() | Age() | Window():
            return ()
        case Negative() | Magnitude() | Denied() | IsNull():
            return (node.operand,)
        case Arithmetic():
            return (node.left, node.right)
        case Extreme() | Comparison() | Joined():
            return node.operands
        case _:
            assert_never(node)


def leaves_of(node: Node) -> Iterator[Leaf]:
    """Every mention of the vehicle, from left to right."""
    if isinstance(node, Signal | Age | Window):
        yield node
    for operand in operands_of(node):
        yield from leaves_of(operand)
