"""An expression that was read once, to be asked often."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from telemetry.capture.expressions.errors import BadExpression
from telemetry.capture.expressions.floats import FLOATS
from telemetry.capture.expressions.program import Form, Operations, Program, compiled
from telemetry.capture.expressions.reading import read
from telemetry.capture.expressions.tree import Kind, Leaf, Node, Window, kind_of
from telemetry.capture.expressions.writing import written

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from telemetry.capture.history import History


@dataclass(frozen=True)
class Condition:
    """What `parse` gives. Two are equal when they say the same in the same words; str() is its canonical text."""

    root: Node
    _forms: dict[str, Form] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __str__(self) -> str:
        return written(self.root)

    @cached_property
    def kind(self) -> Kind:
        return kind_of(self.root)

    @cached_property
    def program(self) -> Program:
        return compiled(self.root)

    @cached_property
    def leaves(self) -> tuple[Leaf, ...]:
        """What it asks of the vehicle, each once, in the order of the text: the arguments of its forms."""
        return self.program.leaves

    @cached_property
    def paths(self) -> tuple[str, ...]:
        """Every path that it names, each once, in the order of the text."""
        return tuple(dict.fromkeys(leaf.path for leaf in self.leaves))

    @cached_property
    def windows_ms(self) -> Mapping[str, int]:
        """For each of `paths` its longest window, 0 without one."""
        longest = dict.fromkeys(self.paths, 0)
        for leaf in self.leaves:
            if isinstance(leaf, Window):
                longest[leaf.path] = max(longest[leaf.path], leaf.ms)
        return MappingProxyType(longest)

    def scalar(self) -> Callable[..., bool | float | None]:
        """A function of the leaves' values, floats, NaN where missing (changed: 1.0 or 0.0); None when it is
        missing."""
        return self.form(FLOATS)

    def form(self, operations: Operations) -> Form:
        """The function over FLOATS (expressions/floats.py) or over ARRAYS (expressions/arrays.py)."""
        if operations.name not in self._forms:
            self._forms[operations.name] = self.program.form(operations)
        return self._forms[operations.name]

    def at(self, history: History, t_ns: int) -> bool | float | None:
        """What it says at boot time `t_ns`: True, False or a finite number; None when it is missing."""
        return history.at(self, t_ns)

    def over(self, history: History, instants_ns: NDArray[np.int64]) -> NDArray[Any]:
        """What it says at each instant, which don't descend: int8, 1 true, 0 false, -1 missing; of a number float64,
        NaN where missing. Bit for bit what `at` says."""
        return history.over(self, instants_ns)


def parse(text: str, known: Collection[str] | None = None, kind: Kind | None = None) -> Condition:
    """Reads an expression (docs/formats/expressions.md). With `known` every path must be one of these; with `kind` it
    must be of that kind. Raises BadExpression."""
    condition = Condition(read(text, known))
    if kind is not None and condition.kind is not kind:
        says = "it is a number: compare it with one" if kind is Kind.TRUTH else "it is true or false, and not a number"
        raise BadExpression(1, f"{says}.")
    if condition.kind is Kind.TRUTH and not condition.paths:
        raise BadExpression(1, "it names no signal, so that nothing ever asks it: name one, such as Vehicle.Speed.")
    return condition
