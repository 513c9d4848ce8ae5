"""The driving graph at one input size, and its INT8 variants: QDQ, 8-bit activations, per-channel weights, MinMax.

U8S8 is what this runtime's kernels run fast; S8S8 runs slower than fp32 on x86. `reduce_range` keeps weights to 7 bits,
so that processors without VNNI, which add pairs of products in 16 bits, can't saturate.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from inference.build.normalization import PIXEL_QUANTIZATION, folded, pixels_as_they_are
from inference.build.quantizer import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quant_pre_process,
    quantize_static,
)
from inference.decode import STRIDES

INPUT_NAME = "frame"
# The head's tail stays in fp32: it costs nothing and holds what quantizing would blur.
_KEPT_FP32 = ("Reshape", "Split", "Sigmoid", "Sub", "Cast")
_KEPT_FP32_NODE = "pre_t"


class _Canvases(CalibrationDataReader):  # type: ignore[misc]
    """Feeds the calibration one canvas at a time."""

    def __init__(self, canvases: Sequence[NDArray[np.uint8]]) -> None:
        self._feeds: Iterator[dict[str, Any]] = iter([{INPUT_NAME: canvas[None]} for canvas in canvases])

    def get_next(self) -> dict[str, Any] | None:
        return next(self._feeds, None)


def at_input_size(fp32: bytes, canvas_hw: tuple[int, int]) -> bytes:
    """The same weights over another canvas; sides must be multiples of 32."""
    model = onnx.load_from_string(fp32)
    cells = [(canvas_hw[0] // stride) * (canvas_hw[1] // stride) for stride in STRIDES]
    _set_dims(model.graph.input[0], {1: canvas_hw[0], 2: canvas_hw[1]})
    for output in model.graph.output:
        _set_dims(output, {1: sum(cells)})
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    reshapes = [node for node in model.graph.node if node.op_type == "Reshape"]
    for node, count in zip(reshapes, cells, strict=True):
        shape = constants[node.input[1]]
        batch, channels, _ = numpy_helper.to_array(shape).tolist()
        shape.CopyFrom(numpy_helper.from_array(np.array([batch, channels, count], np.int64), shape.name))
    del model.graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    return _serialized(model)


def quantize(fp32: bytes, canvases: Sequence[NDArray[np.uint8]], reduce_range: bool) -> bytes:
    """The INT8 graph, plain enough for admission: one operator set, no metadata, no inferred shapes."""
    with tempfile.TemporaryDirectory() as folder:
        source, prepared, quantized = (Path(folder, name) for name in ("fp32.onnx", "prepared.onnx", "int8.onnx"))
        source.write_bytes(folded(fp32))
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(quantized),
            _Canvases(canvases),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=reduce_range,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            nodes_to_exclude=_kept_fp32(prepared),
            extra_options={"TensorQuantOverrides": PIXEL_QUANTIZATION},
        )
        return _plain(quantized)


def _kept_fp32(model: Path) -> list[str]:
    nodes = onnx.load(str(model)).graph.node
    return [node.name for node in nodes if node.op_type in _KEPT_FP32 or node.name == _KEPT_FP32_NODE]


def _plain(path: Path) -> bytes:
    model = onnx.load(str(path))
    pixels_as_they_are(model)
    foreign = [entry for entry in model.opset_import if entry.domain]
    for entry in foreign:
        model.opset_import.remove(entry)
    del model.metadata_props[:]
    del model.graph.value_info[:]
    model.producer_name, model.producer_version = "outrider", ""
    onnx.checker.check_model(model, full_check=True)
    return _serialized(model)


def _serialized(model: onnx.ModelProto) -> bytes:
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _set_dims(value: Any, sizes: dict[int, int]) -> None:
    for axis, size in sizes.items():
        value.type.tensor_type.shape.dim[axis].dim_value = size
