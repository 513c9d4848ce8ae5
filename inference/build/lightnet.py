"""The network of light-state: which lamp of a traffic light is lit, from a crop of 32x32 pixels.

Three strided convolutions, a mean over each row (a lamp is told by its height) and one product: 10,283 parameters. It
has no normalization with statistics of its own, so that all of it can be learned on a vehicle.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from inference.admission import ElementType, Surface
from inference.training.autodiff.losses import LABELS, Loss
from inference.training.autodiff.step import IR_VERSION, Learning, training_step
from inference.training.autodiff.tape import OPSET
from inference.training.layout import Layout, Parameter
from inference.training.trainer import LearningSurface

INPUT: Final = "frame"
LOGITS: Final = "logits"
SIZE: Final = 32
CLASSES: Final = ("red", "yellow", "green")
LAYOUT: Final = Layout(
    (
        Parameter("conv1.weight", (12, 3, 3, 3)), Parameter("conv1.bias", (12,)),
        Parameter("conv2.weight", (24, 12, 3, 3)), Parameter("conv2.bias", (24,)),
        Parameter("conv3.weight", (32, 24, 3, 3)), Parameter("conv3.bias", (32,)),
        Parameter("lamp.weight", (3, 128)), Parameter("lamp.bias", (3,)),
    )
)  # fmt: skip
MEAN: Final = 110.0
DEVIATION: Final = 64.0
"""Of all crops' pixels, rounded."""


def initial_parameters(rng: np.random.Generator) -> NDArray[np.float32]:
    """Random, so that signals keep their size through ReLUs (He et al., arXiv:1502.01852); biases are 0."""
    return LAYOUT.joined(
        {
            one.name: rng.normal(0, math.sqrt(2 / math.prod(one.shape[1:])), one.shape).astype(np.float32)
            if len(one.shape) > 1
            else np.zeros(one.shape, np.float32)
            for one in LAYOUT.parameters
        }
    )


def network(parameters: NDArray[np.float32], batch: int) -> onnx.ModelProto:
    """frame (batch, 32, 32, 3) uint8 BGR -> logits (batch, 3)."""
    nodes = [
        helper.make_node("Transpose", [INPUT], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["planes"], ["pixels"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Sub", ["pixels", "mean"], ["centred"]),
        helper.make_node("Mul", ["centred", "scale"], ["relu0"]),
    ]
    for layer in (1, 2, 3):
        inputs = [f"relu{layer - 1}", f"conv{layer}.weight", f"conv{layer}.bias"]
        nodes += [
            helper.make_node("Conv", inputs, [f"conv{layer}"], strides=[2, 2], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", [f"conv{layer}"], [f"relu{layer}"]),
        ]
    nodes += [
        helper.make_node("AveragePool", ["relu3"], ["rows"], kernel_shape=[1, 4]),
        helper.make_node("Flatten", ["rows"], ["features"]),
        helper.make_node("Gemm", ["features", "lamp.weight", "lamp.bias"], [LOGITS], transB=1),
    ]
    constants = [numpy_helper.from_array(values, name) for name, values in LAYOUT.split(parameters).items()]
    constants += [
        numpy_helper.from_array(np.float32(MEAN), "mean"),
        numpy_helper.from_array(np.float32(1 / DEVIATION), "scale"),
    ]
    graph = helper.make_graph(
        nodes, "light_state",
        [helper.make_tensor_value_info(INPUT, onnx.TensorProto.UINT8, [batch, SIZE, SIZE, 3])],
        [helper.make_tensor_value_info(LOGITS, onnx.TensorProto.FLOAT, [batch, len(CLASSES)])], constants,
    )  # fmt: skip
    opset = [helper.make_opsetid("", OPSET)]
    return helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION, producer_name="outrider")


def learning_surface(batch: int) -> LearningSurface:
    frames = Surface(INPUT, (batch, SIZE, SIZE, 3), ElementType.UINT8)
    return LearningSurface(frames, Surface(LABELS, (batch,), ElementType.INT64), LAYOUT)


def training_graph(batch: int) -> bytes:
    """The step that learns all of it; the parameters are inputs, so that no values are in it."""
    names = tuple(one.name for one in LAYOUT.parameters)
    start = np.zeros(LAYOUT.size, np.float32)
    step = training_step(network(start, batch), Learning(names, Loss.SOFTMAX, LOGITS))
    data: bytes = step.SerializeToString(deterministic=True)
    return data
