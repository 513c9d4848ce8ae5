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


LIGHTS = Network(
    """a = Conv<strides=[2, 2], pads=[1, 1, 1, 1]>(x, w1, b1) ar = Relu(a)
       b = Conv<strides=[2, 2], pads=[1, 1, 1, 1]>(ar, w2, b2) br = Relu(b)
       c = Conv<strides=[2, 2], pads=[1, 1, 1, 1]>(br, w3, b3) cr = Relu(c)
       p = AveragePool<kernel_shape=[1, 4]>(cr) f = Flatten(p) y = Gemm<transB=1>(f, w4, b4)""",
    (8, 3, 32, 32), (8, 3),
    {"w1": (12, 3, 3, 3), "b1": (12,), "w2": (24, 12, 3, 3), "b2": (24,), "w3": (32, 24, 3, 3), "b3": (32,),
     "w4": (3, 128), "b4": (3,)},
)  # fmt: skip
"""As light-state is."""

MOBILE = Network(
    """a = Conv<strides=[2, 2], pads=[1, 1, 1, 1]>(x, w1) an = BatchNormalization(a, g1, h1, m, v) ar = HardSwish(an)
       d = Conv<group=8, pads=[1, 1, 1, 1]>(ar, w2) dn = BatchNormalization(d, g2, h2, m, v) dr = Clip(dn, zero, six)
       e = Conv(dr, w3, b3) r = Add(e, ar) p = GlobalAveragePool(r) f = Flatten(p) y = Gemm<transB=1>(f, w4, b4)""",
    (4, 3, 16, 16), (4, 5),
    {"w1": (8, 3, 3, 3), "g1": (8,), "h1": (8,), "w2": (8, 1, 3, 3), "g2": (8,), "h2": (8,), "w3": (8, 8, 1, 1),
     "b3": (8,), "w4": (5, 8), "b4": (5,)},
    {"m": np.linspace(-0.5, 0.5, 8), "v": np.linspace(0.5, 2.0, 8), "zero": np.array(0.0), "six": np.array(6.0)},
)  # fmt: skip
"""A mobile network's block: normalized, depthwise, with a shortcut."""

MIXER = Network(
    """a = MatMul(x, w1) ab = Add(a, b1) t = Tanh(ab) s = Transpose<perm=[0, 2, 1]>(t) c = MatMul(s, w2)
       g = Sigmoid(c) h = Mul(g, s) m = ReduceMean<keepdims=0>(h, last) y = Gemm(m, w3, b3)""",
    (4, 6, 8), (4, 3),
    {"w1": (8, 10), "b1": (10,), "w2": (6, 6), "w3": (10, 3), "b3": (3,)}, {"last": np.array([2])},
)  # fmt: skip
"""Products over both axes of a sequence, one gating the other."""

NETWORKS = {"lights": LIGHTS, "mobile": MOBILE, "mixer": MIXER}
