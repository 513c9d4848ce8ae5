"""Gradients of what only moves elements or takes their mean."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from inference.training.autodiff.rules import Visit, rule
from inference.training.autodiff.tape import Tape

Gradients = Sequence[str | None]


@rule("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def reshape(tape: Tape, visit: Visit) -> Gradients:
    return [_as_input(tape, visit, visit.gradient)]


@rule("Transpose")
def transpose(tape: Tape, visit: Visit) -> Gradients:
    order = visit.attribute("perm", list(reversed(range(tape.rank(visit.inputs[0])))))
    return [tape.emit("Transpose", visit.gradient, perm=np.argsort(order).tolist())]


@rule("Concat")
def concat(tape: Tape, visit: Visit) -> Gradients:
    axis = visit.attribute("axis", 0)
    sizes = [tape.shape(name)[axis] for name in visit.inputs]
    return tape.emit_many("Split", len(sizes), visit.gradient, tape.integers(sizes), axis=axis)


@rule("Split")
def split(tape: Tape, visit: Visit) -> Gradients:
    """A part that nothing depends on has a gradient of zeros."""
    parts = [
        gradient if gradient is not None else tape.array(np.zeros(tape.shape(name)))
        for gradient, name in zip(visit.gradients, visit.node.output, strict=True)
    ]
    return [tape.emit("Concat", *parts, axis=visit.attribute("axis", 0))]


@rule("ReduceMean", "ReduceSum")
def reduce(tape: Tape, visit: Visit) -> Gradients:
    shape = tape.shape(visit.inputs[0])
    axes = _axes(tape, visit, len(shape))
    gradient = visit.gradient
    if not visit.attribute("keepdims", 1):
        gradient = tape.emit("Unsqueeze", gradient, tape.integers(axes))
    gradient = tape.emit("Expand", gradient, tape.integers(shape))
    if visit.node.op_type == "ReduceMean":
        gradient = tape.emit("Div", gradient, tape.number(math.prod(shape[axis] for axis in axes)))
    return [gradient]


def _axes(tape: Tape, visit: Visit, rank: int) -> list[int]:
    """None, or an empty list of them, are all (ONNX's ReduceMean and ReduceSum)."""
    given = tape.constant(visit.inputs[1]) if len(visit.inputs) > 1 and visit.inputs[1] else ()
    if len(given) == 0 and visit.attribute("noop_with_empty_axes", 0):
        raise visit.refuse("has no axes and reduces nothing: leave it out")
    return [int(axis) % rank for axis in given] or list(range(rank))


def _as_input(tape: Tape, visit: Visit, gradient: str) -> str:
    return tape.emit("Reshape", gradient, tape.integers(tape.shape(visit.inputs[0])))
