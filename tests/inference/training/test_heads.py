"""The heads of the shipped detector learn on the car's own 8-bit features."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from inference.build.heads import FloatHeads, with_float_heads
from inference.package import find_package, load_package
from inference.runtime import ort
from inference.session import session_options
from inference.training.autodiff.losses import Loss
from inference.training.autodiff.step import Learning, training_step
from inference.training.autodiff.tape import Unsupported

HEADS = ("conv_77", "conv_80", "conv_82")
FEATURES = tuple(f"leakyrelu_{number}_DequantizeLinear_Output" for number in (73, 78, 81))
Arrays = dict[str, NDArray[Any]]


@cache
def shipped() -> onnx.ModelProto:
    package = load_package(find_package("drive-detect@1.0"))
    (variant,) = (variant for variant in package.manifest.variants if variant.id == "u8s8")
    return onnx.load_from_string(package.read(variant))


@cache
def heads() -> FloatHeads:
    return with_float_heads(shipped(), HEADS)


def run(model: onnx.ModelProto, feeds: Arrays, names: tuple[str, ...]) -> list[NDArray[Any]]:
    session = ort.InferenceSession(model.SerializeToString(), session_options(), providers=["CPUExecutionProvider"])
    return list(session.run(list(names), feeds))


def tapped(model: onnx.ModelProto, names: tuple[str, ...]) -> onnx.ModelProto:
    """The model with some of its inner tensors given out."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    copy.graph.output.extend(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names)
    return copy


@pytest.fixture(scope="module")
def frame() -> NDArray[np.uint8]:
    return np.random.default_rng(4).integers(0, 256, (1, 192, 320, 3), dtype=np.uint8)


def parameters() -> Arrays:
    constants = {tensor.name: tensor for tensor in heads().model.graph.initializer}
    return {name: numpy_helper.to_array(constants[name]) for name in heads().trained}


def test_all_that_is_trained_are_the_three_last_convolutions() -> None:
    assert sum(values.size for values in parameters().values()) == 21_672


def test_with_what_its_integers_mean_the_graph_sees_what_the_shipped_one_sees(frame: NDArray[np.uint8]) -> None:
    """Up to one rounding of the outputs, which the shipped graph does and this one doesn't."""
    (integer,) = run(tapped(shipped(), ("logits",)), {"frame": frame}, ("logits",))
    (floating,) = run(tapped(heads().model, ("logits",)), {"frame": frame}, ("logits",))
    step = float(numpy_helper.to_array(next(t for t in shipped().graph.initializer if t.name == "concat_86_scale")))
    assert np.abs(integer - floating).max() <= 2.5 * step


def test_the_gradient_is_the_features_times_the_error(frame: NDArray[np.uint8]) -> None:
    learning = Learning(heads().trained, Loss.SIGMOID, "logits")
    step = training_step(heads().model, learning)
    draw = np.random.default_rng(9)
    labels = (draw.uniform(0, 1, (1, 1260, 12)) > 0.9).astype(np.float32)
    weights = draw.uniform(0, 1, labels.shape).astype(np.float32)
    feeds: Arrays = {"frame": frame, "labels": labels, "weights": weights, **parameters()}
    names = tuple(f"grad.{name}" for name in heads().trained)
    found = dict(zip(heads().trained, run(step, feeds, names), strict=True))
    *features, logits = run(tapped(heads().model, (*FEATURES, "logits")), {"frame": frame}, (*FEATURES, "logits"))
    error = (1 / (1 + np.exp(-logits.astype(np.float64))) - labels) * weights / weights.sum()
    at = 0
    for index, feature in enumerate(features):
        cells = feature.shape[2] * feature.shape[3]
        own = error[0, at : at + cells]
        at += cells
        expected = np.zeros((56, 128))
        expected[:12] = own.T @ feature.reshape(128, cells).T.astype(np.float64)
        weight, bias = found[f"head{index}.weight"][:, :, 0, 0], found[f"head{index}.bias"]
        assert np.abs(weight - expected).max() <= 1e-5 * np.abs(expected).max()
        assert np.abs(bias[:12] - own.sum(0)).max() <= 1e-5 * np.abs(own.sum(0)).max()
        assert not bias[12:].any(), "nothing was said of where things are"


def test_the_backbone_keeps_its_integers() -> None:
    learning = Learning(heads().trained, Loss.SIGMOID, "logits")
    step = training_step(heads().model, learning)
    integers = [t for t in step.graph.initializer if t.data_type == onnx.TensorProto.INT8 and len(t.dims) == 4]
    before = [t for t in shipped().graph.initializer if t.data_type == onnx.TensorProto.INT8 and len(t.dims) == 4]
    assert len(integers) == len(before) - len(HEADS)


@pytest.mark.parametrize("name", ["nothing", "leakyrelu_73"])
def test_what_is_no_convolution_has_no_head(name: str) -> None:
    with pytest.raises(Unsupported, match=f"{name} is no convolution"):
        with_float_heads(shipped(), [name])


def test_weights_that_are_no_quantized_constant_are_refused() -> None:
    with pytest.raises(Unsupported, match="input 1 of conv_77 is no quantized constant"):
        with_float_heads(heads().model, ["conv_77"])
