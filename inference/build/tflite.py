"""A TensorFlow Lite model, read without TensorFlow.

The file is a FlatBuffer (flatbuffers.dev/internals): tables of numbered fields, every offset relative to where it
stands. The numbers below are those of tensorflow/lite/schema/schema.fbs, as many as a convolutional network in floats
needs; constants that were stored as half floats come out widened.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ecu.errors import UsageFault

_IDENTIFIER: Final = b"TFL3"
_TYPES: Final[dict[int, np.dtype[Any]]] = {0: np.dtype("<f4"), 1: np.dtype("<f2"), 2: np.dtype("<i4")}
_SAME_PADDING: Final = 0
_OPTIONS: Final = 4
"""The field of an operator that holds its own options."""


class Kind(IntEnum):
    """The operators read here."""

    ADD = 0
    CONV_2D = 3
    DEPTHWISE_CONV_2D = 4
    DEQUANTIZE = 6
    MAX_POOL_2D = 17
    RELU = 19
    RESHAPE = 22
    RESIZE_BILINEAR = 23
    PAD = 34


_WINDOWED: Final = (Kind.CONV_2D, Kind.DEPTHWISE_CONV_2D, Kind.MAX_POOL_2D)
# Where each kind's options hold a fused activation; none is read, so none may be there.
_FUSED_FIELD: Final = {Kind.ADD: 0, Kind.CONV_2D: 3, Kind.DEPTHWISE_CONV_2D: 4, Kind.MAX_POOL_2D: 5}


@dataclass(frozen=True, slots=True)
class Tensor:
    """A value: its shape, NHWC as TensorFlow has it, and its numbers when it is a constant."""

    name: str
    shape: tuple[int, ...]
    numbers: NDArray[Any] | None


@dataclass(frozen=True, slots=True)
class Operator:
    """One operation; `inputs` and `output` count tensors. A convolution or pooling walks by `strides` (down, across),
    and `is_same` says whether it pads as TensorFlow's SAME does."""

    kind: Kind
    inputs: tuple[int, ...]
    output: int
    strides: tuple[int, int] = (1, 1)
    is_same: bool = False


@dataclass(frozen=True, slots=True)
class LiteModel:
    """The operators in an order in which they can be computed."""

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def read_lite_model(data: bytes) -> LiteModel:
    """The file's only subgraph. Raises UsageFault for an operator or an option that isn't read here."""
    if data[4:8] != _IDENTIFIER:
        raise UsageFault("These bytes are no TensorFlow Lite model. Fetch the package again.")
    model = _Table(data, _unsigned(data, 0))
    (graph,) = model.tables(2)
    codes = [max(code.number(0, "<b"), code.number(3)) for code in model.tables(1)]
    buffers = [buffer.run(0) for buffer in model.tables(4)]
    tensors = [_tensor(table, buffers) for table in graph.tables(0)]
    operators = [_operator(table, codes) for table in graph.tables(3)]
    for operator in operators:
        if operator.kind is Kind.DEQUANTIZE:
            tensors[operator.output] = _widened(tensors[operator.inputs[0]])
    computed = tuple(operator for operator in operators if operator.kind is not Kind.DEQUANTIZE)
    return LiteModel(tuple(tensors), computed, graph.ints(1), graph.ints(2))


class _Table:
    """A table at `at`: its first four bytes lead back to the offsets of its fields."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self._at = at
        self._offsets = at - int(struct.unpack_from("<i", data, at)[0])
        self._fields = (self._short(self._offsets) - 4) // 2

    def number(self, field: int, form: str = "<i", default: int = 0) -> int:
        at = self._place(field)
        return default if at is None else int(struct.unpack_from(form, self._data, at)[0])

    def table(self, field: int) -> _Table:
        at = self._place(field)
        if at is None:
            raise UsageFault(f"The TensorFlow Lite model lacks field {field} of a table. Fetch the package again.")
        return _Table(self._data, at + _unsigned(self._data, at))

    def tables(self, field: int) -> list[_Table]:
        start, count = self._vector(field)
        return [_Table(self._data, at + _unsigned(self._data, at)) for at in range(start, start + 4 * count, 4)]

    def ints(self, field: int) -> tuple[int, ...]:
        start, count = self._vector(field)
        return struct.unpack_from(f"<{count}i", self._data, start)

    def run(self, field: int) -> bytes:
        start, count = self._vector(field)
        return self._data[start : start + count]

    def _vector(self, field: int) -> tuple[int, int]:
        """(where it starts, how many)."""
        at = self._place(field)
        if at is None:
            return 0, 0
        at += _unsigned(self._data, at)
        return at + 4, _unsigned(self._data, at)

    def _place(self, field: int) -> int | None:
        offset = self._short(self._offsets + 4 + 2 * field) if field < self._fields else 0
        return self._at + offset if offset else None

    def _short(self, at: int) -> int:
        return int(struct.unpack_from("<H", self._data, at)[0])


def _unsigned(data: bytes, at: int) -> int:
    return int(struct.unpack_from("<I", data, at)[0])


def _tensor(table: _Table, buffers: list[bytes]) -> Tensor:
    shape, data = table.ints(0), buffers[table.number(2, "<I")]
    numbers = np.frombuffer(data, _TYPES[table.number(1, "<b")]).reshape(shape) if data else None
    return Tensor(table.run(3).decode(), shape, numbers)


def _widened(tensor: Tensor) -> Tensor:
    if tensor.numbers is None:
        raise UsageFault(f"The tensor {tensor.name!r} is dequantized at run time, which isn't read. Use a float model.")
    return Tensor(tensor.name, tensor.shape, tensor.numbers.astype(np.float32))


def _operator(table: _Table, codes: list[int]) -> Operator:
    code = codes[table.number(0, "<I")]
    if code not in list(Kind):
        raise UsageFault(f"The TensorFlow Lite operator {code} isn't read here. Add it to inference/build/tflite.py.")
    kind, inputs, (output,) = Kind(code), table.ints(1), table.ints(2)
    if kind in _FUSED_FIELD and table.table(_OPTIONS).number(_FUSED_FIELD[kind], "<b"):
        raise UsageFault(f"A fused activation of {kind.name} isn't read here. Add it to inference/build/tflite.py.")
    if kind not in _WINDOWED:
        return Operator(kind, inputs, output)
    options = table.table(_OPTIONS)
    return Operator(
        kind, inputs, output, (options.number(2), options.number(1)), options.number(0, "<b") == _SAME_PADDING
    )
