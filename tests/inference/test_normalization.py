"""Laws of the folded normalization: the same network, with pixels as they are for its input."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from inference.build.normalization import folded
from inference.build.quantize import quantize
from inference.letterbox import FILL
from inference.package import find_package, load_package
from inference.runtime import ort

MEAN, DEVIATION = np.array([103.53, 116.28, 123.675], np.float32), np.array([57.375, 57.12, 58.395], np.float32)
SIDE = 12


def network(pads: list[int]) -> bytes:
    """What inference.build.nanodet makes, with one convolution behind it."""
    rng = np.random.default_rng(7)
    nodes = [
        helper.make_node("Transpose", ["frame"], ["pre_t"], perm=[0, 3, 1, 2], name="pre_t"),
        helper.make_node("Cast", ["pre_t"], ["pre_c"], to=TensorProto.FLOAT, name="pre_c"),
        helper.make_node("Sub", ["pre_c", "mean"], ["pre_s"], name="pre_s"),
        helper.make_node("Mul", ["pre_s", "istd"], ["image"], name="pre_m"),
        helper.make_node("Conv", ["image", "w", "b"], ["out"], pads=pads, name="conv"),
    ]
    constants = [
        numpy_helper.from_array(MEAN.reshape(1, 3, 1, 1), "mean"),
        numpy_helper.from_array((1 / DEVIATION).reshape(1, 3, 1, 1), "istd"),
        numpy_helper.from_array(rng.normal(size=(4, 3, 3, 3)).astype(np.float32), "w"),
        numpy_helper.from_array(rng.normal(size=4).astype(np.float32), "b"),
    ]
    frame = helper.make_tensor_value_info("frame", TensorProto.UINT8, [1, SIDE, SIDE, 3])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", [frame], [out], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    data: bytes = model.SerializeToString()
    return data


def run(model: bytes, frame: NDArray[np.uint8]) -> NDArray[np.float32]:
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"frame": frame[None]})[0], np.float32)


@pytest.mark.parametrize("seed", range(3))
def test_inside_the_border_the_folded_network_computes_the_same(seed: int) -> None:
    frame = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    for pads, inside in (([0, 0, 0, 0], np.s_[:]), ([1, 1, 1, 1], np.s_[:, :, 1:-1, 1:-1])):
        before, after = run(network(pads), frame), run(folded(network(pads)), frame)
        np.testing.assert_allclose(after[inside], before[inside], rtol=1e-4, atol=1e-3)


def test_the_border_is_padded_with_the_fill() -> None:
    """As a frame that goes on in the fill colour beyond its edge."""
    frame = np.random.default_rng(5).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    inner = np.ascontiguousarray(frame[1:-1, 1:-1])
    surrounded = np.full_like(frame, FILL)
    surrounded[1:-1, 1:-1] = inner
    without = run(folded(network([0, 0, 0, 0])), surrounded)
    # The same picture, padded by the convolution itself.
    model = onnx.load_from_string(folded(network([1, 1, 1, 1])))
    for axis in (1, 2):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = SIDE - 2
    padded = run(model.SerializeToString(), inner)
    np.testing.assert_allclose(padded, without, rtol=1e-4, atol=1e-3)


def test_quantizing_takes_pixels_as_they_are_whatever_it_was_calibrated_on() -> None:
    """A range measured on dark canvases would cut off what is bright."""
    dark = [np.full((SIDE, SIDE, 3), value, np.uint8) for value in (0, 20)]
    assert entry_of(onnx.load_from_string(quantize(network([1, 1, 1, 1]), dark, reduce_range=True))) == (1, FILL)


def entry_of(model: onnx.ModelProto) -> tuple[float, int]:
    """Scale and zero point with which pixels enter the graph."""
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    (entry,) = [node for node in model.graph.node if node.op_type == "DequantizeLinear" and "pre_t" in node.input]
    return float(constants[entry.input[1]]), int(constants[entry.input[2]])


@pytest.mark.parametrize("title", ["drive-detect@1.0", "drive-detect@2.0"])
def test_the_shipped_graphs_take_pixels_as_they_are(title: str) -> None:
    package = load_package(find_package(title))
    for variant in package.manifest.variants:
        model = onnx.load_from_string(package.read(variant))
        kinds = {node.op_type for node in model.graph.node}
        assert kinds.isdisjoint({"Cast", "Sub", "Mul", "Div"})
        assert entry_of(model) == (1, FILL)
