"""The network of light-state in eight bits: QDQ, unsigned activations, weights per channel.

The scales of the activations are pinned: measured once, on the first model of a line. A model that is learned from it
keeps them, so that it is quantized without seeing a single picture, and its integers mean the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from inference.build.lightnet import CLASSES, DEVIATION, INPUT, LAYOUT, LOGITS, MEAN, SIZE, network
from inference.manifest import PinnedScale
from inference.runtime import ort
from inference.session import session_options
from inference.training.autodiff.step import IR_VERSION
from inference.training.autodiff.tape import OPSET

LAYERS: Final = (1, 2, 3)
HEADROOM: Final = 1.5
"""How far beyond what was seen an activation may go before it is cut off: models to come are pinned to it, too."""

Vector = NDArray[np.float32]


def measured_scales(parameters: Vector, pictures: NDArray[np.uint8]) -> tuple[PinnedScale, ...]:
    """Of the first model, over pictures (N, 32, 32, 3)."""
    model = network(parameters, len(pictures))
    model.graph.output.extend(helper.make_empty_tensor_value_info(f"relu{layer}") for layer in LAYERS)
    session = ort.InferenceSession(model.SerializeToString(), session_options(), providers=["CPUExecutionProvider"])
    largest = [float(seen.max()) for seen in session.run([f"relu{layer}" for layer in LAYERS], {INPUT: pictures})]
    return tuple(
        PinnedScale(tensor=f"relu{layer}", scale=round(HEADROOM * most / 255, 8), zero_point=0)
        for layer, most in zip(LAYERS, largest, strict=True)
    )


def quantized(parameters: Vector, pinned: tuple[PinnedScale, ...], bits: int) -> bytes:
    """The graph for one crop, its weights in `bits` bits: 8, or 7 for processors that saturate sums of two products."""
    scales = {one.tensor: np.float32(one.scale) for one in pinned}
    graph = _Graph(LAYOUT.split(parameters), 2 ** (bits - 1) - 1)
    graph.node("Transpose", [INPUT], "planes", perm=[0, 3, 1, 2])
    # Pixels are as they are: what is subtracted and divided by is their zero point and scale.
    pixel = graph.constant("pixel.scale", np.float32(1 / DEVIATION)), graph.constant("pixel.zero", np.uint8(MEAN))
    graph.node("DequantizeLinear", ["planes", *pixel], "relu0")
    before = np.float32(1 / DEVIATION)
    for layer in LAYERS:
        name = f"conv{layer}"
        inputs = [f"relu{layer - 1}", graph.weight(name), graph.bias(name, before)]
        graph.node("Conv", inputs, name, strides=[2, 2], pads=[1, 1, 1, 1])
        graph.node("Relu", [name], f"{name}.relu")
        before = scales[f"relu{layer}"]
        steps = graph.constant(f"relu{layer}.scale", before), graph.constant(f"relu{layer}.zero", np.uint8(0))
        graph.node("QuantizeLinear", [f"{name}.relu", *steps], f"relu{layer}.q")
        graph.node("DequantizeLinear", [f"relu{layer}.q", *steps], f"relu{layer}")
    graph.node("AveragePool", ["relu3"], "rows", kernel_shape=[1, 4])
    graph.node("Flatten", ["rows"], "features")
    lamp = graph.weight("lamp"), graph.constant("lamp.bias", graph.values["lamp.bias"])
    graph.node("Gemm", ["features", *lamp], LOGITS, transB=1)
    return graph.serialized()


class _Graph:
    """`most` is the largest integer that a weight becomes."""

    def __init__(self, values: Mapping[str, Vector], most: int) -> None:
        self.values = values
        self._most = most
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._weight_scales: dict[str, Vector] = {}

    def node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self._nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def constant(self, name: str, value: Any) -> str:
        self._constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def weight(self, layer: str) -> str:
        """Symmetric, a scale for each output channel; a channel of zeros has the scale 1."""
        values = self.values[f"{layer}.weight"]
        rows = np.abs(values.reshape(len(values), -1)).max(1)
        scales = np.where(rows > 0, rows / self._most, 1).astype(np.float32)
        self._weight_scales[layer] = scales
        steps = np.rint(values / scales.reshape(-1, *[1] * (values.ndim - 1))).astype(np.int8)
        inputs = [self.constant(f"{layer}.weight.q", steps), self.constant(f"{layer}.weight.scale", scales)]
        inputs.append(self.constant(f"{layer}.weight.zero", np.zeros(len(values), np.int8)))
        return self.node("DequantizeLinear", inputs, f"{layer}.weight", axis=0)

    def bias(self, layer: str, input_scale: np.float32) -> str:
        """In 32 bits, in the unit of the products that it is added to; after its weight."""
        scales = (self._weight_scales[layer] * input_scale).astype(np.float32)
        most = np.iinfo(np.int32).max // 2
        steps = np.clip(np.rint(self.values[f"{layer}.bias"] / scales.astype(np.float64)), -most, most)
        inputs = [self.constant(f"{layer}.bias.q", steps.astype(np.int32))]
        inputs.append(self.constant(f"{layer}.bias.scale", scales))
        return self.node("DequantizeLinear", inputs, f"{layer}.bias", axis=0)

    def serialized(self) -> bytes:
        graph = helper.make_graph(
            self._nodes, "light_state",
            [helper.make_tensor_value_info(INPUT, onnx.TensorProto.UINT8, [1, SIZE, SIZE, 3])],
            [helper.make_tensor_value_info(LOGITS, onnx.TensorProto.FLOAT, [1, len(CLASSES)])], self._constants,
        )  # fmt: skip
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION, producer_name="outrider")
        onnx.checker.check_model(model, full_check=True)
        data: bytes = model.SerializeToString(deterministic=True)
        return data
