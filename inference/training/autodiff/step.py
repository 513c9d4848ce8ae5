"""From a graph that predicts to one that also learns: loss and gradients in one run, of standard operators alone.

What is frozen keeps its constants, and so its integer kernels; only what lies between a trained parameter and the loss
has a way back. ONNX Runtime's own wheel runs the result: there is no training runtime to install.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import onnx
from onnx import helper

import inference.training.autodiff.convolution
import inference.training.autodiff.linear
import inference.training.autodiff.pointwise
import inference.training.autodiff.shapes  # noqa: F401
from inference.training.autodiff.losses import Loss, write_loss
from inference.training.autodiff.rules import RULES, Visit
from inference.training.autodiff.tape import OPSET, Tape, Unsupported

LOSS: Final = "loss"
IR_VERSION: Final = 10


def gradient_name(parameter: str) -> str:
    return f"grad.{parameter}"


@dataclass(frozen=True, slots=True)
class Learning:
    """What is learned: the initializers `trained`, so that `loss` at the tensor `prediction` becomes small."""

    trained: tuple[str, ...]
    loss: Loss
    prediction: str


def training_step(model: onnx.ModelProto, learning: Learning) -> onnx.ModelProto:
    """The model with the trained initializers as inputs, and `labels` and `weights`; its outputs are `loss` and a
    `grad.<name>` for each trained one, in their order.

    Every shape must be fixed in the model. Raises Unsupported, naming the operator or tensor.
    """
    _demand_trainable(model, learning.trained)
    tape = Tape(model)
    forward = list(tape.graph.node)
    written = write_loss(tape, learning.loss, learning.prediction)
    tape.emit_as(LOSS, "Identity", written.loss)
    gradients = _backward(tape, forward, learning, written.gradient)
    for name in learning.trained:
        tape.emit_as(gradient_name(name), "Identity", gradients[name])
    return _assembled(tape, forward, learning.trained, written.inputs)


def _demand_trainable(model: onnx.ModelProto, trained: Sequence[str]) -> None:
    floats = {
        tensor.name
        for tensor in model.graph.initializer
        if tensor.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE)
    }
    strange = [name for name in trained if name not in floats]
    if strange or len(set(trained)) != len(trained) or not trained:
        raise Unsupported(f"what is trained must be floating-point initializers, each named once: {strange or trained}")


def _backward(tape: Tape, forward: Sequence[onnx.NodeProto], learning: Learning, seed: str) -> dict[str, str]:
    """One sweep from the prediction back to what is trained; the name of each one's gradient."""
    learned = _reached(forward, learning.trained)
    parts: defaultdict[str, list[str]] = defaultdict(list, {learning.prediction: [seed]})
    for node in reversed(forward):
        gradients = tuple(_sum(tape, parts.pop(name, [])) for name in node.output)
        if not learned.intersection(node.output) or all(gradient is None for gradient in gradients):
            continue
        if node.op_type not in RULES:
            raise Unsupported(f"there is no gradient for {node.op_type} ({node.name})")
        visit = Visit(node, gradients, tuple(name in learned for name in node.input))
        for name, gradient in zip(node.input, RULES[node.op_type](tape, visit), strict=False):
            if name in learned and gradient is not None:
                parts[name].append(gradient)
    found = {name: _sum(tape, parts[name]) for name in learning.trained}
    if missing := [name for name, gradient in found.items() if gradient is None]:
        raise Unsupported(f"{learning.prediction} doesn't depend on {', '.join(missing)}")
    return {name: gradient for name, gradient in found.items() if gradient is not None}


def _reached(forward: Sequence[onnx.NodeProto], trained: Sequence[str]) -> set[str]:
    """What changes when a trained parameter does."""
    reached = set(trained)
    for node in forward:
        if reached.intersection(node.input):
            reached.update(node.output)
    return reached


def _sum(tape: Tape, parts: Sequence[str]) -> str | None:
    """Whatever is used twice has two gradients."""
    total = parts[0] if parts else None
    for part in parts[1:]:
        assert total is not None
        total = tape.emit("Add", total, part)
    return total


def _assembled(
    tape: Tape, forward: Sequence[onnx.NodeProto], trained: Sequence[str], labels: Sequence[onnx.ValueInfoProto]
) -> onnx.ModelProto:
    def typed(name: str, shape: Sequence[int]) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, tape.float_type, shape)

    parameters = [typed(name, tape.shape(name)) for name in trained]
    outputs = [typed(LOSS, []), *(typed(gradient_name(name), tape.shape(name)) for name in trained)]
    nodes = _needed([*forward, *tape.nodes], [output.name for output in outputs])
    used = {name for node in nodes for name in node.input} - set(trained)
    constants = [tensor for tensor in (*tape.graph.initializer, *tape.initializers) if tensor.name in used]
    inputs = [value for value in tape.graph.input if value.name not in trained]
    graph = helper.make_graph(nodes, "training_step", [*inputs, *parameters, *labels], outputs, constants)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="outrider"
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def _needed(nodes: Sequence[onnx.NodeProto], outputs: Sequence[str]) -> list[onnx.NodeProto]:
    """Without those that nothing asked for comes from: what only the prediction of something else needs."""
    wanted, kept = set(outputs), []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            kept.append(node)
    return kept[::-1]
