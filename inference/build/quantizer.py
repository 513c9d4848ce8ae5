"""ONNX Runtime's own quantization tools, loaded behind inference.runtime's silence."""
# ruff: noqa: I001, TID251

from __future__ import annotations

import inference.runtime  # noqa: F401
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

__all__ = [
    "CalibrationDataReader",
    "CalibrationMethod",
    "QuantFormat",
    "QuantType",
    "quant_pre_process",
    "quantize_static",
]
