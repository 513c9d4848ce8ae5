"""The table of gradient rules: one an operator, found by its name.

A rule is the vector-Jacobian product of its operator: from the gradient of what came out to the gradients of what went
in (Griewank and Walther, Evaluating Derivatives, chapter 3). It writes nodes onto the tape and names them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import onnx
from onnx import helper

from inference.training.autodiff.tape import Tape, Unsupported


@dataclass(frozen=True, slots=True)
class Visit:
    """One node, met on the way back. `gradients` are those of its outputs, None where nothing depends on one;
    `needed` says of each input whether its gradient is asked for."""

    node: onnx.NodeProto
    gradients: tuple[str | None, ...]
    needed: tuple[bool, ...]

    @property
    def gradient(self) -> str:
        """That of the first output, of an operator that has no other."""
        gradient = self.gradients[0]
        if gradient is None or any(other is not None for other in self.gradients[1:]):
            raise Unsupported(f"a second output of {self.node.op_type} ({self.node.name}) is used")
        return gradient

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(self.node.input)

    @property
    def output(self) -> str:
        name: str = self.node.output[0]
        return name

    def attribute(self, name: str, default: Any) -> Any:
        found = [attribute for attribute in self.node.attribute if attribute.name == name]
        return helper.get_attribute_value(found[0]) if found else default

    def refuse(self, why: str) -> Unsupported:
        return Unsupported(f"{self.node.op_type} ({self.node.name}) {why}")


Rule = Callable[[Tape, Visit], Sequence[str | None]]
"""The gradients of the inputs, in their order; None for those that have none or aren't needed. May be shorter."""

RULES: Final[dict[str, Rule]] = {}


def rule(*operators: str) -> Callable[[Rule], Rule]:
    """Enters a function as the rule of these operators."""

    def enter(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(operators, function))
        return function

    return enter
