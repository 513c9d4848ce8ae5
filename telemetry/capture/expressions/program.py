"""From a tree to straight-line code, which runs on floats and on arrays alike.

A number is a float or an array of them, and missing is one that isn't finite. A truth is two booleans, or two arrays of
them: surely true, and surely false. A comparison with NaN is neither, which is what missing means; `and`, `or` and
`not` are `&` and `|` of these, which is Kleene's logic (S. C. Kleene, Introduction to Metamathematics, 1952, section
64).

No character of an expression reaches the compiler: numbers are written anew, and the names are made here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import CodeType
from typing import Any, Final, assert_never

from telemetry.capture.expressions.tree import (
    Age,
    Arithmetic,
    Comparison,
    Denied,
    Extreme,
    IsNull,
    Joined,
    Kind,
    Leaf,
    Magnitude,
    Negative,
    Node,
    Number,
    Relation,
    Signal,
    Truth,
    Window,
    kind_of,
    leaves_of,
)

Form = Callable[..., Any]
"""Takes the values of a program's leaves, in their order."""

_NAME: Final = "evaluate"
_FALSE_WHEN: Final[Mapping[Relation, Relation]] = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "==": "!=", "!=": "=="}


@dataclass(frozen=True, slots=True)
class Operations:
    """What differs between floats and arrays. None of it may raise, whatever the numbers are.

    `truth` and `number` make the answer of the last line; `wrap` is put around the whole.
    """

    name: str
    magnitude: Form
    quotient: Form
    remainder: Form
    least: Form
    greatest: Form
    truth: Form
    number: Form
    wrap: Callable[[Form], Form]


@dataclass(frozen=True, slots=True)
class Program:
    """`leaves` are its arguments, each once; `source` is the function's text."""

    leaves: tuple[Leaf, ...]
    source: str
    code: CodeType

    def form(self, operations: Operations) -> Form:
        """The function. It sees the operations and nothing else."""
        space: dict[str, Any] = {
            "__builtins__": {},
            "magnitude": operations.magnitude,
            "quotient": operations.quotient,
            "remainder": operations.remainder,
            "least": operations.least,
            "greatest": operations.greatest,
            "truth": operations.truth,
            "number": operations.number,
        }
        exec(self.code, space)
        return operations.wrap(space[_NAME])


def compiled(root: Node) -> Program:
    leaves = tuple(dict.fromkeys(leaves_of(root)))
    writer = _Writer(leaves)
    if kind_of(root) is Kind.TRUTH:
        answer = f"truth({', '.join(writer.truth(root))})"
    else:
        answer = f"number({writer.settled(root)})"
    arguments = ", ".join(f"x{index}" for index in range(len(leaves)))
    body = "\n    ".join((*writer.lines, f"return {answer}"))
    source = f"def {_NAME}({arguments}):\n    {body}\n"
    return Program(leaves, source, compile(source, "<expression>", "exec"))


class _Writer:
    """Writes one line for each step. What its methods return can be used in the lines after it."""

    def __init__(self, leaves: tuple[Leaf, ...]) -> None:
        self.lines: list[str] = []
        self._arguments = {leaf: f"x{index}" for index, leaf in enumerate(leaves)}

    def number(self, node: Node) -> str:
        match node:
            case Number():
                return repr(node.value)
            case Signal() | Age() | Window():
                return self._arguments[node]
            case Negative():
                return self._line(f"-{self.number(node.operand)}")
            case Magnitude():
                return self._line(f"magnitude({self.number(node.operand)})")
            case Extreme():
                return self._extreme(node)
            case Arithmetic():
                return self._arithmetic(node)
            case Truth() | Comparison() | Joined() | Denied() | IsNull():
                raise AssertionError(f"{node} is no number")
            case _:
                assert_never(node)

    def settled(self, node: Node) -> str:
        """As `number`, and NaN where that is infinite: the difference of a finite number to itself is 0, of another
        NaN."""
        name = self.number(node)
        return self._line(f"{name} + ({name} - {name})") if _may_overflow(node) else name

    def truth(self, node: Node) -> tuple[str, str]:
        match node:
            case Truth():
                return str(node.value), str(not node.value)
            case Window():
                name = self._arguments[node]
                return self._line(f"{name} == 1.0"), self._line(f"{name} == 0.0")
            case Comparison():
                return self._comparison(node)
            case Joined():
                return self._joined(node.word == "and", [self.truth(operand) for operand in node.operands])
            case Denied():
                true, false = self.truth(node.operand)
                return false, true
            case IsNull():
                return self._is_null(node)
            case Number() | Signal() | Age() | Negative() | Arithmetic() | Magnitude() | Extreme():
                raise AssertionError(f"{node} is not true or false")
            case _:
                assert_never(node)

    def _line(self, step: str) -> str:
        name = f"v{len(self.lines)}"
        self.lines.append(f"{name} = {step}")
        return name

    def _arithmetic(self, node: Arithmetic) -> str:
        # An infinite divisor would give 0: what is missing must stay missing.
        left = self.number(node.left)
        if node.sign in ("/", "%"):
            name = "quotient" if node.sign == "/" else "remainder"
            return self._line(f"{name}({left}, {self.settled(node.right)})")
        return self._line(f"{left} {node.sign} {self.number(node.right)}")

    def _extreme(self, node: Extreme) -> str:
        name = "least" if node.word == "min" else "greatest"
        first, *others = (self.settled(operand) for operand in node.operands)
        for other in others:
            first = self._line(f"{name}({first}, {other})")
        return first

    def _comparison(self, node: Comparison) -> tuple[str, str]:
        names = [self.settled(operand) for operand in node.operands]
        links = zip(names, node.relations, names[1:], strict=False)
        return self._joined(True, [self._link(*link) for link in links])

    def _link(self, left: str, relation: Relation, right: str) -> tuple[str, str]:
        return self._compared(left, relation, right), self._compared(left, _FALSE_WHEN[relation], right)

    def _compared(self, left: str, relation: Relation, right: str) -> str:
        # NaN is unlike everything, itself included; less and more it is than nothing.
        if relation == "!=":
            return self._line(f"({left} < {right}) | ({left} > {right})")
        return self._line(f"{left} {relation} {right}")

    def _joined(self, all_of: bool, parts: list[tuple[str, str]]) -> tuple[str, str]:
        if len(parts) == 1:
            return parts[0]
        trues, falses = zip(*parts, strict=True)
        both, either = ("&", "|") if all_of else ("|", "&")
        return self._line(f" {both} ".join(trues)), self._line(f" {either} ".join(falses))

    def _is_null(self, node: IsNull) -> tuple[str, str]:
        if kind_of(node.operand) is Kind.TRUTH:
            known = self._line(" | ".join(self.truth(node.operand)))
        else:
            name = self.settled(node.operand)
            known = self._line(f"{name} == {name}")
        return self._line(f"{known} ^ True"), known


def _may_overflow(node: Node) -> bool:
    match node:
        case Arithmetic():
            return True
        case Negative() | Magnitude():
            return _may_overflow(node.operand)
        case _:
            return False
