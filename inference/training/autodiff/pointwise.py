"""Gradients of what is done to each element by itself, and of the four arithmetic operators."""

from __future__ import annotations

from collections.abc import Sequence

from inference.training.autodiff.rules import Visit, rule
from inference.training.autodiff.tape import Tape

Gradients = Sequence[str | None]

# --- one input ----------------------------------------------------------------------------------------


@rule("Relu")
def relu(tape: Tape, visit: Visit) -> Gradients:
    return [_where_between(tape, visit.inputs[0], 0.0, None, visit.gradient)]


@rule("LeakyRelu")
def leaky_relu(tape: Tape, visit: Visit) -> Gradients:
    sloped = tape.emit("Mul", visit.gradient, tape.number(visit.attribute("alpha", 0.01)))
    return [tape.emit("Where", tape.emit("Greater", visit.inputs[0], tape.number(0)), visit.gradient, sloped)]


@rule("Clip")
def clip(tape: Tape, visit: Visit) -> Gradients:
    low, high = (float(tape.constant(name)) if name else None for name in (*visit.inputs[1:], "", "")[:2])
    return [_where_between(tape, visit.inputs[0], low, high, visit.gradient)]


@rule("HardSigmoid")
def hard_sigmoid(tape: Tape, visit: Visit) -> Gradients:
    sloped = tape.emit("Mul", visit.gradient, tape.number(visit.attribute("alpha", 0.2)))
    return [_where_between(tape, visit.output, 0.0, 1.0, sloped)]


@rule("HardSwish")
def hard_swish(tape: Tape, visit: Visit) -> Gradients:
    """x times HardSigmoid(x), both of which have a slope."""
    x = visit.inputs[0]
    sixth = tape.emit("Mul", x, tape.number(1 / 6))
    slope = tape.emit(
        "Add",
        tape.emit("Clip", tape.emit("Add", sixth, tape.number(0.5)), tape.number(0), tape.number(1)),
        _where_between(tape, x, -3.0, 3.0, sixth),
    )
    return [tape.emit("Mul", visit.gradient, slope)]


@rule("Sigmoid")
def sigmoid(tape: Tape, visit: Visit) -> Gradients:
    slope = tape.emit("Mul", visit.output, tape.emit("Sub", tape.number(1), visit.output))
    return [tape.emit("Mul", visit.gradient, slope)]


@rule("Tanh")
def tanh(tape: Tape, visit: Visit) -> Gradients:
    slope = tape.emit("Sub", tape.number(1), tape.emit("Mul", visit.output, visit.output))
    return [tape.emit("Mul", visit.gradient, slope)]


@rule("Identity")
def identity(tape: Tape, visit: Visit) -> Gradients:
    return [visit.gradient]


# --- two inputs, broadcast ----------------------------------------------------------------------------


@rule("Add")
def add(tape: Tape, visit: Visit) -> Gradients:
    return [_summed(tape, visit, index, visit.gradient) for index in (0, 1)]


@rule("Sub")
def sub(tape: Tape, visit: Visit) -> Gradients:
    return [
        _summed(tape, visit, 0, visit.gradient),
        _summed(tape, visit, 1, tape.emit("Neg", visit.gradient)) if visit.needed[1] else None,
    ]


@rule("Mul")
def mul(tape: Tape, visit: Visit) -> Gradients:
    return [
        _summed(tape, visit, index, tape.emit("Mul", visit.gradient, visit.inputs[1 - index]))
        if visit.needed[index]
        else None
        for index in (0, 1)
    ]


@rule("Div")
def div(tape: Tape, visit: Visit) -> Gradients:
    """Of the divisor: minus the quotient over the divisor."""
    by = tape.emit("Div", visit.gradient, visit.inputs[1])
    return [
        _summed(tape, visit, 0, by),
        _summed(tape, visit, 1, tape.emit("Neg", tape.emit("Mul", by, visit.output))) if visit.needed[1] else None,
    ]


def _summed(tape: Tape, visit: Visit, index: int, gradient: str) -> str | None:
    return tape.summed_to(gradient, visit.output, visit.inputs[index]) if visit.needed[index] else None


def _where_between(tape: Tape, name: str, low: float | None, high: float | None, gradient: str) -> str:
    """The gradient where low < value < high, 0 elsewhere."""
    bounds = [("Greater", low)] if low is not None else []
    bounds += [("Less", high)] if high is not None else []
    for operator, bound in bounds:
        inside = tape.emit(operator, name, tape.number(bound))
        gradient = tape.emit("Where", inside, gradient, tape.number(0))
    return gradient
