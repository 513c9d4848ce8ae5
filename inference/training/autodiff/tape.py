"""A graph whose every shape is known, and what is written behind it on the way back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper, shape_inference

OPSET: Final = 18
"""From here on axes are inputs everywhere, so that one rule holds for every reduction."""


class Unsupported(ValueError):
    """No gradient is known for what the graph does there. It is never guessed at: change the network, or train less
    of it."""


class Tape:
    """`float_type` is the type of everything that is learned: FLOAT, or DOUBLE for a test that compares."""

    def __init__(self, model: onnx.ModelProto) -> None:
        """Raises Unsupported for a model of an opset before 18."""
        versions = {entry.domain: entry.version for entry in model.opset_import}
        if versions.get("", 0) < OPSET:
            raise Unsupported(f"the model is of opset {versions.get('', 0)}: convert it to {OPSET} or later")
        self.graph = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._constants = {tensor.name: tensor for tensor in self.graph.initializer}
        self._shapes = {tensor.name: tuple(tensor.dims) for tensor in self.graph.initializer}
        values = (*self.graph.input, *self.graph.value_info, *self.graph.output)
        self._shapes |= {value.name: _static(value) for value in values if value.name not in self._shapes}
        types = {tensor.data_type for tensor in self.graph.initializer}
        self.float_type: int = onnx.TensorProto.DOUBLE if onnx.TensorProto.DOUBLE in types else onnx.TensorProto.FLOAT

    # --- what is known ----------------------------------------------------------------------------

    def shape(self, name: str) -> tuple[int, ...]:
        """Raises Unsupported where an axis isn't known: fix the batch first."""
        shape = self._shapes.get(name)
        if shape is None or any(size <= 0 for size in shape):
            raise Unsupported(f"the shape of {name} isn't known when the graph is built")
        return shape

    def rank(self, name: str) -> int:
        return len(self.shape(name))

    def constant(self, name: str) -> NDArray[Any]:
        """Raises Unsupported for what is computed."""
        if name not in self._constants:
            raise Unsupported(f"{name} must be a constant")
        values: NDArray[Any] = numpy_helper.to_array(self._constants[name])
        return values

    # --- what is written --------------------------------------------------------------------------

    def emit(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """A node of one output; its name."""
        return self.emit_many(operator, 1, *inputs, **attributes)[0]

    def emit_many(self, operator: str, outputs: int, *inputs: str, **attributes: Any) -> list[str]:
        name = f"back/{operator.lower()}_{len(self.nodes)}"
        names = [name] if outputs == 1 else [f"{name}_{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, name=name, **attributes))
        return names

    def emit_as(self, name: str, operator: str, *inputs: str, **attributes: Any) -> str:
        """Under a name of its own: an output of the graph."""
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name=f"{name}/node", **attributes))
        return name

    def number(self, value: float) -> str:
        """A scalar of the type that is learned."""
        return self.array(np.asarray(value))

    def array(self, values: NDArray[Any]) -> str:
        """A constant of the type that is learned."""
        return self._keep(values.astype(helper.tensor_dtype_to_np_dtype(self.float_type)))

    def integers(self, values: Sequence[int]) -> str:
        return self._keep(np.asarray(values, np.int64))

    def sum_over(self, name: str, axes: Sequence[int], keep: bool = False) -> str:
        return self.emit("ReduceSum", name, self.integers(axes), keepdims=int(keep))

    def summed_to(self, gradient: str, of: str, to: str) -> str:
        """The gradient of `to`, which was broadcast to the shape of `of` (numpy's rules): summed over what was."""
        wide, narrow = self.shape(of), self.shape(to)
        lead = len(wide) - len(narrow)
        axes = [axis for axis, size in enumerate(wide) if axis < lead or (narrow[axis - lead] == 1 and size != 1)]
        if not axes:
            return gradient
        return self.emit("Reshape", self.sum_over(gradient, axes, keep=True), self.integers(narrow))

    def _keep(self, values: NDArray[Any]) -> str:
        name = f"back/c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(values, name))
        return name


def _static(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    """The value's shape, 0 for an axis of no known size."""
    return tuple(axis.dim_value for axis in value.type.tensor_type.shape.dim)
