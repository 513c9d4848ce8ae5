"""What is made small, and its gradient at the prediction, both written down in closed form.

Each element counts by its weight, and the loss is the weighted mean: a weight of 0 takes padding or an unknown label
out. With weights that are all 0 the loss and its gradient are 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, assert_never

import onnx
from onnx import helper

from inference.training.autodiff.tape import Tape

LABELS: Final = "labels"
WEIGHTS: Final = "weights"
_TINY: Final = 1e-12


class Loss(StrEnum):
    """`SOFTMAX`: cross-entropy of logits (N, classes) to labels (N,) int64. `SIGMOID`: binary cross-entropy of logits
    of any shape to labels and weights of the same, from 0 to 1."""

    SOFTMAX = "softmax_cross_entropy"
    SIGMOID = "sigmoid_cross_entropy"


@dataclass(frozen=True, slots=True)
class Written:
    """The names of the loss (a scalar) and of its gradient at the prediction; the inputs that it adds to the graph."""

    loss: str
    gradient: str
    inputs: tuple[onnx.ValueInfoProto, ...]


def write_loss(tape: Tape, kind: Loss, prediction: str) -> Written:
    """Raises Unsupported where the prediction's shape isn't known."""
    match kind:
        case Loss.SOFTMAX:
            return _softmax(tape, prediction)
        case Loss.SIGMOID:
            return _sigmoid(tape, prediction)
        case _:
            assert_never(kind)


def _softmax(tape: Tape, logits: str) -> Written:
    count, classes = tape.shape(logits)
    inputs = (
        helper.make_tensor_value_info(LABELS, onnx.TensorProto.INT64, [count]),
        helper.make_tensor_value_info(WEIGHTS, tape.float_type, [count]),
    )
    share = _share(tape)
    column = tape.emit("Unsqueeze", LABELS, tape.integers([1]))
    hot = tape.emit("Cast", tape.emit("Equal", column, tape.integers(range(classes))), to=tape.float_type)
    surprise = tape.emit("Neg", tape.sum_over(tape.emit("Mul", tape.emit("LogSoftmax", logits, axis=-1), hot), [1]))
    loss = tape.emit("ReduceSum", tape.emit("Mul", surprise, share), keepdims=0)
    error = tape.emit("Sub", tape.emit("Softmax", logits, axis=-1), hot)
    return Written(loss, tape.emit("Mul", error, tape.emit("Unsqueeze", share, tape.integers([1]))), inputs)


def _sigmoid(tape: Tape, logits: str) -> Written:
    """max(z, 0) - z t + log(1 + exp(-|z|)), which no z overflows."""
    shape = tape.shape(logits)
    inputs = tuple(helper.make_tensor_value_info(name, tape.float_type, shape) for name in (LABELS, WEIGHTS))
    share = _share(tape)
    above = tape.emit("Max", logits, tape.number(0))
    fallen = tape.emit("Exp", tape.emit("Neg", tape.emit("Abs", logits)))
    near = tape.emit("Log", tape.emit("Add", tape.number(1), fallen))
    surprise = tape.emit("Add", tape.emit("Sub", above, tape.emit("Mul", logits, LABELS)), near)
    loss = tape.emit("ReduceSum", tape.emit("Mul", surprise, share), keepdims=0)
    error = tape.emit("Sub", tape.emit("Sigmoid", logits), LABELS)
    return Written(loss, tape.emit("Mul", error, share), inputs)


def _share(tape: Tape) -> str:
    """What each element counts for, of one in all."""
    total = tape.emit("ReduceSum", WEIGHTS, keepdims=0)
    return tape.emit("Div", WEIGHTS, tape.emit("Max", total, tape.number(_TINY)))
