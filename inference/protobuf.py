"""A closed, bounded reader of protobuf's wire format (protobuf.dev/programming-guides/encoding).

It reads only the fields a table names, merges nothing, and counts its steps: what a permissive reader would skip or
join, and two readers might see differently, is malformed here. Nested messages come out as bytes for the caller.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto

Value = int | memoryview

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BYTES = 10


class Malformed(ValueError):
    """The bytes aren't a message of that table. The text says what and in which message."""


class Kind(Enum):
    """How a field lies on the wire, and whether it may come again."""

    INT = auto()
    FLOAT = auto()
    BYTES = auto()
    INTS = auto()
    FLOATS = auto()
    DOUBLES = auto()
    MANY_BYTES = auto()


_SINGLE = frozenset({Kind.INT, Kind.FLOAT, Kind.BYTES})
_WIDTH = {Kind.FLOAT: 4, Kind.FLOATS: 4, Kind.DOUBLES: 8}


@dataclass(frozen=True, slots=True)
class Table:
    """A message's name and its fields: number -> (name, kind)."""

    message: str
    fields: Mapping[int, tuple[str, Kind]]


class Message:
    """The fields that were present: lists of integers (INT, INTS) or of byte runs (all other kinds)."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self._values: dict[str, list[Value]] = {}

    def has(self, name: str) -> bool:
        return name in self._values

    def ints(self, name: str) -> list[int]:
        return [value for value in self._values.get(name, []) if isinstance(value, int)]

    def runs(self, name: str) -> list[memoryview]:
        return [value for value in self._values.get(name, []) if isinstance(value, memoryview)]

    def int(self, name: str, default: int = 0) -> int:
        return next(iter(self.ints(name)), default)

    def text(self, name: str) -> str:
        """The field's text, empty when absent. Raises Malformed when it isn't UTF-8."""
        return next(self.texts(name), "")

    def texts(self, name: str) -> Iterator[str]:
        for run in self.runs(name):
            try:
                yield str(run, "utf-8")
            except UnicodeDecodeError as error:
                raise Malformed(f"{name} of a {self.table.message} isn't UTF-8") from error

    def add(self, name: str, values: list[Value]) -> None:
        self._values.setdefault(name, []).extend(values)


class Reader:
    """Reads messages until its steps are used up, over all of them."""

    def __init__(self, max_steps: int) -> None:
        self._steps_left = max_steps

    def read(self, data: memoryview, table: Table) -> Message:
        """All of `data` as one message. Raises Malformed."""
        message, at = Message(table), 0
        while at < len(data):
            key, at = self._varint(data, at)
            name, kind = self._field(key >> 3, table)
            if kind in _SINGLE and message.has(name):
                raise Malformed(f"{name} comes twice in a {table.message}")
            values, at = self._values(data, at, key & 7, kind, f"{name} of a {table.message}")
            message.add(name, values)
        return message

    def _field(self, number: int, table: Table) -> tuple[str, Kind]:
        if number not in table.fields:
            raise Malformed(f"field {number} isn't known in a {table.message}")
        return table.fields[number]

    def _values(self, data: memoryview, at: int, wire: int, kind: Kind, what: str) -> tuple[list[Value], int]:
        if wire == _VARINT and kind in (Kind.INT, Kind.INTS):
            value, at = self._varint(data, at)
            return [_signed(value)], at
        if wire == _BYTES and kind not in (Kind.INT, Kind.FLOAT):
            run, at = self._run(data, at, what)
            return self._unpacked(run, kind, what), at
        if (wire, _WIDTH.get(kind)) in ((_FIXED32, 4), (_FIXED64, 8)):
            return [_slice(data, at, _WIDTH[kind], what)], at + _WIDTH[kind]
        raise Malformed(f"{what} has wire type {wire}")

    def _run(self, data: memoryview, at: int, what: str) -> tuple[memoryview, int]:
        length, at = self._varint(data, at)
        return _slice(data, at, length, what), at + length

    def _unpacked(self, run: memoryview, kind: Kind, what: str) -> list[Value]:
        if kind is Kind.INTS:
            return self._packed_ints(run)
        if len(run) % _WIDTH.get(kind, 1):
            raise Malformed(f"{what} ends within a number")
        return [run]

    def _packed_ints(self, run: memoryview) -> list[Value]:
        values: list[Value] = []
        at = 0
        while at < len(run):
            value, at = self._varint(run, at)
            values.append(_signed(value))
        return values

    def _varint(self, data: memoryview, at: int) -> tuple[int, int]:
        self._steps_left -= 1
        if self._steps_left < 0:
            raise Malformed("it has more parts than a model needs")
        value = 0
        for index, byte in enumerate(data[at : at + _MAX_VARINT_BYTES]):
            value |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                return _demand_64_bits(value), at + index + 1
        raise Malformed("it ends within a number, or a number is too long")


def _demand_64_bits(value: int) -> int:
    if value >> 64:
        raise Malformed("a number has more than 64 bits")
    return value


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _slice(data: memoryview, at: int, length: int, what: str) -> memoryview:
    if length > len(data) - at:
        raise Malformed(f"{what} is longer than what holds it")
    return data[at : at + length]
