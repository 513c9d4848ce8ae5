"""Laws of the conversion: the graph computes what the TensorFlow Lite model does, from BGR, in plain operators."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import flatbuffers  # type: ignore[import-untyped]
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from ecu.errors import UsageFault
from inference.admission import admit
from inference.build import pins
from inference.build.blazeface import INPUT_NAME, convert, read_wheel
from inference.build.packing import OPSET
from inference.build.tflite import Kind, LiteModel, Operator, Tensor, read_lite_model
from inference.manifest import FaceOutputs
from inference.package import find_package, load_package
from inference.runtime import ort
from inference.session import contract_for

Array = NDArray[np.float32]


@dataclass(slots=True)
class Net:
    """Builds a model operator by operator and computes it beside, NHWC, as TensorFlow does."""

    tensors: list[Tensor] = field(default_factory=list)
    values: list[Array] = field(default_factory=list)
    operators: list[Operator] = field(default_factory=list)
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(4))

    def tensor(self, value: Array, constant: bool = False) -> int:
        self.tensors.append(Tensor(f"t{len(self.tensors)}", value.shape, value if constant else None))
        self.values.append(value)
        return len(self.tensors) - 1

    def weights(self, *shape: int) -> int:
        return self.tensor(self.rng.normal(0, 0.3, shape).astype(np.float16).astype(np.float32), constant=True)

    def operate(self, kind: Kind, inputs: tuple[int, ...], value: Array, strides: tuple[int, int] = (1, 1)) -> int:
        output = self.tensor(value)
        self.operators.append(Operator(kind, inputs, output, strides, is_same=True))
        return output

    def conv(self, source: int, channels: int, size: int = 1, stride: int = 1) -> int:
        kernel, bias = self.weights(channels, size, size, self.values[source].shape[3]), self.weights(channels)
        seen = windows(self.values[source], size, stride)
        value = np.einsum("hwijc,oijc->hwo", seen, self.values[kernel]) + self.values[bias]
        return self.operate(Kind.CONV_2D, (source, kernel, bias), value[None], (stride, stride))

    def depthwise(self, source: int, stride: int = 1) -> int:
        channels = self.values[source].shape[3]
        kernel, bias = self.weights(1, 3, 3, channels), self.weights(channels)
        seen = windows(self.values[source], 3, stride)
        value = np.einsum("hwijc,ijc->hwc", seen, self.values[kernel][0]) + self.values[bias]
        return self.operate(Kind.DEPTHWISE_CONV_2D, (source, kernel, bias), value[None], (stride, stride))

    def pool(self, source: int) -> int:
        value = windows(self.values[source], 2, 2).max(axis=(2, 3))
        return self.operate(Kind.MAX_POOL_2D, (source,), value[None], (2, 2))

    def relu(self, source: int) -> int:
        return self.operate(Kind.RELU, (source,), np.maximum(self.values[source], 0))

    def widen(self, source: int, channels: int) -> int:
        missing = channels - self.values[source].shape[3]
        wide = np.pad(self.values[source], ((0, 0), (0, 0), (0, 0), (0, missing)))
        return self.operate(Kind.PAD, (source,), wide)

    def add(self, left: int, right: int) -> int:
        return self.operate(Kind.ADD, (left, right), self.values[left] + self.values[right])

    def double(self, source: int) -> int:
        value = cv2.resize(self.values[source][0], None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)
        return self.operate(Kind.RESIZE_BILINEAR, (source,), np.asarray(value, np.float32)[None])

    def head(self, source: int) -> int:
        value = self.values[source]
        return self.operate(Kind.RESHAPE, (source,), value.reshape(1, -1, value.shape[3]))


def windows(value: Array, size: int, stride: int) -> Array:
    """(H, W, size, size, C): TensorFlow's SAME, as its documentation defines it."""
    pads = []
    for length in value.shape[1:3]:
        over = max((-(-length // stride) - 1) * stride + size - length, 0)
        pads.append((over // 2, over - over // 2))
    padded = np.pad(value[0], (*pads, (0, 0)))
    seen = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(0, 1))[::stride, ::stride]
    return np.asarray(seen.transpose(0, 1, 3, 4, 2), np.float32)


def small_net(rgb: Array, pad_first: bool) -> tuple[Net, LiteModel]:
    net = Net()
    image = net.tensor(rgb)
    first = net.relu(net.conv(image, 6, size=3, stride=2))
    narrow = net.pool(first)
    wide = net.conv(net.depthwise(first, stride=2), 10)
    shortcut = net.widen(narrow, 10)
    joined = net.relu(net.add(shortcut, wide) if pad_first else net.add(wide, shortcut))
    deeper = net.relu(net.conv(net.depthwise(joined, stride=2), 10))
    body = net.relu(net.add(net.double(deeper), joined))
    outputs = net.head(net.conv(body, 16)), net.head(net.conv(body, 1))
    return net, LiteModel(tuple(net.tensors), tuple(net.operators), (image,), outputs)


def run(graph: bytes, bgr: NDArray[np.uint8]) -> tuple[Array, Array]:
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    scores, boxes = session.run(["scores", "boxes"], {INPUT_NAME: bgr[None]})
    return scores, boxes


@pytest.mark.parametrize("pad_first", [True, False])
def test_the_graph_computes_what_the_model_does_from_bgr_pixels(pad_first: bool) -> None:
    bgr = np.random.default_rng(1).integers(0, 256, (192, 192, 3), np.uint8)
    net, model = small_net((bgr[None, :, :, ::-1].astype(np.float32) - 127.5) / 127.5, pad_first)
    regressed, logits = (net.values[output] for output in model.outputs)
    scores, boxes = run(convert(model), bgr)
    np.testing.assert_allclose(boxes, regressed[:, :, :4], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-logits)), rtol=1e-4, atol=1e-5)


def test_the_graph_is_admitted_every_node_is_named_and_its_bytes_are_always_the_same() -> None:
    shipped = load_package(find_package("face-blur@1.0")).manifest
    outputs = FaceOutputs(scores="scores", boxes="boxes", stride=4)
    _, model = small_net(np.zeros((1, 192, 192, 3), np.float32), True)
    graph = convert(model)
    admit(graph, contract_for(shipped.input, outputs, 1, OPSET))
    names = [node.name for node in onnx.load_from_string(graph).graph.node]
    assert all(names)
    assert len(set(names)) == len(names)
    assert graph == convert(model)


def test_weights_that_are_no_half_floats_are_never_rounded_to_them() -> None:
    _, model = small_net(np.zeros((1, 192, 192, 3), np.float32), True)
    kernel = model.operators[0].inputs[1]
    numbers = model.tensors[kernel].numbers
    assert numbers is not None
    tensors = list(model.tensors)
    tensors[kernel] = replace(tensors[kernel], numbers=np.nextafter(numbers, np.float32(9)))
    with pytest.raises(UsageFault, match="aren't half floats"):
        convert(replace(model, tensors=tuple(tensors)))


def test_a_wheel_that_isnt_the_pinned_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / pins.FACES_WHEEL).write_bytes(b"PK")
    with pytest.raises(UsageFault, match="isn't the pinned file"):
        read_wheel(tmp_path / pins.FACES_WHEEL)


class Flat:
    """Writes tables with FlatBuffers' own library: the other end of the reader."""

    def __init__(self) -> None:
        self.builder: Any = flatbuffers.Builder(256)

    def table(self, **slots: Any) -> Any:
        """Fields as f<number>=(kind, value); an offset is written before, by the caller."""
        self.builder.StartObject(8)
        for name, (kind, value) in slots.items():
            number = int(name[1:])
            if kind == "offset":
                self.builder.PrependUOffsetTRelativeSlot(number, value, 0)
            else:
                getattr(self.builder, f"Prepend{kind}Slot")(number, value, 0)
        return self.builder.EndObject()

    def ints(self, *values: int) -> Any:
        return self.builder.CreateNumpyVector(np.array(values, np.int32))

    def vector(self, *tables: Any) -> Any:
        self.builder.StartVector(4, len(tables), 4)
        for table in reversed(tables):
            self.builder.PrependUOffsetTRelative(table)
        return self.builder.EndVector()


def lite_file(padding: int = 0, fused: int = 0, code: int = 3) -> bytes:
    """One convolution, stride (down 2, across 3), whose kernel is stored in half floats and dequantized."""
    flat = Flat()
    halves = flat.builder.CreateNumpyVector(np.array([0.5, -2, 1, 3], np.float16).view(np.uint8))
    shapes = [flat.ints(*shape) for shape in ((1, 4, 4, 4), (1, 1, 1, 4), (1, 1, 1, 4), (1, 2, 2, 1))]
    names = [flat.builder.CreateString(name) for name in ("image", "stored", "kernel", "out")]
    rows = zip(shapes, names, (0, 1, 0, 0), (0, 1, 0, 0), strict=True)
    tensors = [
        flat.table(f0=("offset", shape), f1=("Int8", kind), f2=("Uint32", buffer), f3=("offset", name))
        for shape, name, kind, buffer in rows
    ]
    options = flat.table(f0=("Int8", padding), f1=("Int32", 3), f2=("Int32", 2), f3=("Int8", fused))
    ends = [(flat.ints(1), flat.ints(2)), (flat.ints(0, 2), flat.ints(3))]
    dequantize = flat.table(f0=("Uint32", 1), f1=("offset", ends[0][0]), f2=("offset", ends[0][1]))
    conv = flat.table(f1=("offset", ends[1][0]), f2=("offset", ends[1][1]), f4=("offset", options))
    first, last = flat.ints(0), flat.ints(3)
    tensor_list, operator_list = flat.vector(*tensors), flat.vector(dequantize, conv)
    graph = flat.table(
        f0=("offset", tensor_list), f1=("offset", first), f2=("offset", last), f3=("offset", operator_list)
    )
    codes = flat.vector(flat.table(f0=("Int8", min(code, 127)), f3=("Int32", code)), flat.table(f0=("Int8", 6)))
    buffers = flat.vector(flat.table(), flat.table(f0=("offset", halves)))
    graphs = flat.vector(graph)
    model = flat.table(f1=("offset", codes), f2=("offset", graphs), f4=("offset", buffers))
    flat.builder.Finish(model, file_identifier=b"TFL3")
    return bytes(flat.builder.Output())


@pytest.mark.parametrize(("padding", "is_same"), [(0, True), (1, False)])
def test_a_lite_file_is_read_as_it_was_written(padding: int, is_same: bool) -> None:
    model = read_lite_model(lite_file(padding))
    assert (model.inputs, model.outputs) == ((0,), (3,))
    assert model.operators == (Operator(Kind.CONV_2D, (0, 2), 3, (2, 3), is_same),)
    assert [tensor.shape for tensor in model.tensors] == [(1, 4, 4, 4), (1, 1, 1, 4), (1, 1, 1, 4), (1, 2, 2, 1)]
    kernel = model.tensors[2].numbers
    assert kernel is not None
    assert kernel.dtype == np.float32
    assert kernel.ravel().tolist() == [0.5, -2, 1, 3]
    assert model.tensors[0].numbers is None


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (lambda: b"\0" * 64, "no TensorFlow Lite model"),
        (lambda: lite_file(code=99), "operator 99 isn't read here"),
        (lambda: lite_file(fused=1), "fused activation of CONV_2D"),
    ],
)
def test_what_isnt_read_is_refused_by_name(data: Callable[[], bytes], said: str) -> None:
    with pytest.raises(UsageFault, match=said):
        read_lite_model(data())
