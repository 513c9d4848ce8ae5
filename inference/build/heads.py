"""The last convolutions of a quantized graph, in floating point, so that they can be learned.

What comes before them stays as it is: they are trained on the very 8-bit features that the car infers with, and there
is no second backbone and no skew between the two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper, version_converter

from inference.training.autodiff.tape import OPSET, Unsupported


@dataclass(frozen=True, slots=True)
class FloatHeads:
    """`model` is of opset 18; `trained` are the initializers `head<n>.weight` and `head<n>.bias`, in order."""

    model: onnx.ModelProto
    trained: tuple[str, ...]


def with_float_heads(model: onnx.ModelProto, convolutions: Sequence[str]) -> FloatHeads:
    """`convolutions` are names of nodes with a weight and a bias that are quantized constants, and behind which nothing
    else has weights. Their values are what the integers mean. Raises Unsupported, naming the node."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    graph = copy.graph
    makers = {output: node for node in graph.node for output in node.output}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    heads = [_convolution(graph, name) for name in convolutions]
    trained = []
    for index, head in enumerate(heads):
        for at, part in ((1, "weight"), (2, "bias")):
            values = _meaning(makers, constants, head, at)
            head.input[at] = f"head{index}.{part}"
            trained.append(head.input[at])
            graph.initializer.append(numpy_helper.from_array(values, head.input[at]))
    _unquantize_behind(graph, {output for head in heads for output in head.output})
    return FloatHeads(version_converter.convert_version(copy, OPSET), tuple(trained))


def _convolution(graph: onnx.GraphProto, name: str) -> onnx.NodeProto:
    found = [node for node in graph.node if node.name == name]
    if not found or found[0].op_type != "Conv" or len(found[0].input) != 3:
        raise Unsupported(f"{name} is no convolution with a bias")
    return found[0]


def _meaning(
    makers: Mapping[str, onnx.NodeProto], constants: Mapping[str, onnx.TensorProto], head: onnx.NodeProto, at: int
) -> NDArray[np.float32]:
    """What an integer constant stands for, dequantized along its axis."""
    maker = makers.get(head.input[at])
    if maker is None or maker.op_type != "DequantizeLinear" or any(name not in constants for name in maker.input):
        raise Unsupported(f"input {at} of {head.name} is no quantized constant")
    integers, scale, zero = (numpy_helper.to_array(constants[name]).astype(np.float32) for name in maker.input)
    axis = next((attribute.i for attribute in maker.attribute if attribute.name == "axis"), 1)
    along = [-1 if dimension == axis else 1 for dimension in range(integers.ndim)] if scale.ndim else []
    values: NDArray[np.float32] = (integers - zero.reshape(along)) * scale.reshape(along)
    return values


def _unquantize_behind(graph: onnx.GraphProto, behind: set[str]) -> None:
    """Nothing is rounded on the way from the heads to the outputs, or the gradient would have to guess."""
    instead: dict[str, str] = {}
    kept: list[Any] = []
    for node in graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = instead.get(name, name)
        if not behind.intersection(node.input):
            kept.append(node)
            continue
        behind.update(node.output)
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            instead[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)
