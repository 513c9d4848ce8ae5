"""Small networks in ONNX's own text, and what a test asks of them in double precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper, parser
from onnx.reference import ReferenceEvaluator

from inference.training.autodiff.step import Learning, training_step

Shape = tuple[int, ...]
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Network:
    """`body` computes y from x, the parameters and the constants; every parameter is trained."""

    body: str
    x: Shape
    y: Shape
    parameters: Mapping[str, Shape]
    constants: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def parameter_values(self, seed: int = 0) -> Arrays:
        draw = np.random.default_rng(seed)
        return {name: draw.normal(0, 0.6, shape) for name, shape in self.parameters.items()}

    def model(self, float_type: str = "double", seed: int = 0) -> onnx.ModelProto:
        """Its parameters are initializers, as an inference model has them."""
        dtype = np.float64 if float_type == "double" else np.float32
        signature = f"agraph ({_typed(float_type, self.x)} x) => ({_typed(float_type, self.y)} y)"
        graph = parser.parse_graph(f"{signature} {{ {self.body} }}")
        constants = {**self.parameter_values(seed), **self.constants}
        cast = {name: v if v.dtype == np.int64 else v.astype(dtype) for name, v in constants.items()}
        graph.initializer.extend(numpy_helper.from_array(values, name) for name, values in cast.items())
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)

    def step(self, learning: Learning, float_type: str = "double") -> onnx.ModelProto:
        return training_step(self.model(float_type), learning)


def evaluate(step: onnx.ModelProto, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
    """The step's outputs by name, computed by ONNX's own reference in the feeds' precision."""
    names = [output.name for output in step.graph.output]
    return dict(zip(names, ReferenceEvaluator(step).run(None, dict(feeds)), strict=True))


def _typed(float_type: str, shape: Sequence[int]) -> str:
    return f"{float_type}[{', '.join(map(str, shape))}]"
