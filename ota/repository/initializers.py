"""Where an ONNX file's weights lie in it, read from its protobuf alone: ModelProto.graph.initializer[].raw_data.

Field numbers: onnx/onnx.proto of the ONNX specification; wire format: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

_GRAPH: Final = 7  # of a ModelProto
_INITIALIZER: Final = 5  # of a GraphProto
_NAME, _RAW_DATA = 8, 9  # of a TensorProto
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MOST_VARINT: Final = 10
_MAX_NAME: Final = 4096
_MAX_TENSORS: Final = 100_000

Read = Callable[[int, int], bytes]
"""(offset, length) -> these bytes of a file."""


class NotOnnx(Exception):
    """It isn't an ONNX file, or none whose weights lie in it by name."""


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes of a file."""

    offset: int
    length: int

    @property
    def end(self) -> int:
        return self.offset + self.length


def initializers(file: Read, size: int) -> dict[str, Span]:
    """Name -> where its raw data lies; in the file's order. Raises NotOnnx."""
    found = dict[str, Span]()
    for graph in _fields(file, Span(0, size), _GRAPH):
        for tensor in _fields(file, graph, _INITIALIZER):
            name, data = _named(file, tensor)
            if data is not None and name:
                found[name] = data
            if len(found) > _MAX_TENSORS:
                raise NotOnnx(f"it has more than {_MAX_TENSORS} weights")
    if not found:
        raise NotOnnx("no weights lie in it")
    return found


def _named(file: Read, tensor: Span) -> tuple[str, Span | None]:
    name, data = "", None
    for number, span in _all_fields(file, tensor):
        if number == _NAME and span.length <= _MAX_NAME:
            name = file(span.offset, span.length).decode(errors="replace")
        elif number == _RAW_DATA:
            data = span
    return name, data


def _fields(file: Read, within: Span, number: int) -> Iterator[Span]:
    return (span for found, span in _all_fields(file, within) if found == number)


def _all_fields(file: Read, within: Span) -> Iterator[tuple[int, Span]]:
    """(number, where) of each length-delimited field of a message; others are passed over."""
    at = within.offset
    while at < within.end:
        key, at = _varint(file, at)
        number, wire = key >> 3, key & 7
        if not number:
            raise NotOnnx("it has a field without a number")
        if wire == _BYTES:
            length, at = _varint(file, at)
        elif wire == _VARINT:
            length = _varint(file, at)[1] - at
        elif wire in (_FIXED64, _FIXED32):
            length = 8 if wire == _FIXED64 else 4
        else:
            raise NotOnnx(f"it has a field of wire type {wire}")
        if at + length > within.end:
            raise NotOnnx("a field goes beyond its message")
        if wire == _BYTES:
            yield number, Span(at, length)
        at += length


def _varint(file: Read, at: int) -> tuple[int, int]:
    """The number at that offset, and the offset after it."""
    value = 0
    for shift, byte in enumerate(file(at, _MOST_VARINT)):
        value |= (byte & 0x7F) << (7 * shift)
        if not byte & 0x80:
            return value, at + shift + 1
    raise NotOnnx("a number in it doesn't end")
