"""Moves the normalization of the input into the first convolution, so that pixels are its quantized input as they are.

In fp32, (pixel - mean) / deviation costs two passes over a float canvas before anything is seen: a fifth of the INT8
graph's time. A convolution over it is one over (pixel - FILL) with other weights and biases:

    w * (pixel - mean) / deviation + b = (w / deviation) * (pixel - FILL) + b + w * (FILL - mean) / deviation

and uint8 pixels are (pixel - FILL) quantized with scale 1 and zero point FILL, exactly. What changes is the border: its
padding was the mean and is now FILL, a grey within 11 steps of it.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from inference.letterbox import FILL

CENTRED: Final = "pre_s"
"""The tensor of (pixel - FILL) in the folded fp32 graph."""
PIXEL_QUANTIZATION: Final = {CENTRED: [{"scale": np.array(1.0, np.float32), "zero_point": np.array(FILL, np.uint8)}]}
"""What quantization must take for `CENTRED` instead of a measured range (ONNX Runtime's TensorQuantOverrides)."""

_PIXELS, _SCALED = "pre_t", "image"


def folded(fp32: bytes) -> bytes:
    """The graph of inference.build.nanodet with its normalization in the first convolution; only `CENTRED` is left."""
    model = onnx.load_from_string(fp32)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    mean, per_deviation = (numpy_helper.to_array(constants[name]).reshape(-1) for name in ("mean", "istd"))
    conv = _only(node for node in model.graph.node if _SCALED in node.input)
    weights, biases = (constants[name] for name in conv.input[1:3])
    scaled: NDArray[np.float32] = numpy_helper.to_array(weights) * per_deviation[None, :, None, None]
    moved = numpy_helper.to_array(biases) + (scaled * (FILL - mean)[None, :, None, None]).sum(axis=(1, 2, 3))
    weights.CopyFrom(numpy_helper.from_array(scaled.astype(np.float32), weights.name))
    biases.CopyFrom(numpy_helper.from_array(moved.astype(np.float32), biases.name))
    constants["mean"].CopyFrom(numpy_helper.from_array(np.float32(FILL).reshape(1, 1, 1, 1), "mean"))
    conv.input[0] = CENTRED
    _drop(model, _only(node for node in model.graph.node if _SCALED in node.output))
    model.graph.initializer.remove(constants["istd"])
    return _serialized(model)


def pixels_as_they_are(model: onnx.ModelProto) -> None:
    """In the quantized graph, in place: casting, centring and quantizing again give the very pixels that came in."""
    quantize = _only(node for node in model.graph.node if node.op_type == "QuantizeLinear" and CENTRED in node.input)
    dequantize = _only(node for node in model.graph.node if node.input[0] == quantize.output[0])
    dequantize.input[0] = _PIXELS
    before = [node for node in model.graph.node if node.op_type in ("Cast", "Sub")]
    for node in (*before, quantize):
        _drop(model, node)
    model.graph.initializer.remove(_only(tensor for tensor in model.graph.initializer if tensor.name == "mean"))


def _drop(model: onnx.ModelProto, node: onnx.NodeProto) -> None:
    model.graph.node.remove(node)


def _only(candidates: Any) -> Any:
    (found,) = candidates
    return found


def _serialized(model: onnx.ModelProto) -> bytes:
    data: bytes = model.SerializeToString(deterministic=True)
    return data
