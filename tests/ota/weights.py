"""Weights as a quantized network has them, what a fine-tune makes of them, and files that hold them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def weights(size: int, seed: int) -> bytes:
    """Normal weights in eight bits, largest at four deviations."""
    return _quantized(np.random.default_rng(seed).standard_normal(size))


def fine_tuned(size: int, seed: int, sigma: float) -> bytes:
    """The same weights, each moved by `sigma` deviations."""
    before = np.random.default_rng(seed).standard_normal(size)
    return _quantized(before + np.random.default_rng(seed + 1_000).standard_normal(size) * sigma)


def _quantized(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> bytes:
    return np.clip(np.rint(values * 127 / 4), -127, 127).astype(np.int8).tobytes()


def onnx_like(tensors: Mapping[str, bytes], doc: bytes = b"") -> bytes:
    """ModelProto{ir_version, doc_string, graph{initializer{dims, data_type, name, raw_data}}}."""
    initializers = (
        _field(5, b"\x08" + _varint(len(data)) + b"\x10\x03" + _field(8, name.encode()) + _field(9, data))
        for name, data in tensors.items()
    )
    return b"\x08\x08" + _field(6, doc) + _field(7, b"".join(initializers))


def _field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
