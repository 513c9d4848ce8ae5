"""A block's plain section: arrays of numbers behind one another, whose lengths those before them tell."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from telemetry.columns.bits import from_planes, to_planes
from telemetry.columns.errors import BadColumns
from telemetry.columns.flat import Bits


def planes_of(numbers: NDArray[np.int64] | Bits, width: int) -> bytes:
    """Byte planes of the low `width` bytes of each."""
    return to_planes(numbers.astype(f"<u{width}"))


class Section:
    """Reads bytes from their beginning; raises BadColumns where they end too early."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        if count > len(self._data) - self._at:
            raise BadColumns(f"a section of {len(self._data)} bytes ends before the {count} bytes from {self._at} on")
        self._at += count
        return self._data[self._at - count : self._at]

    def numbers(self, count: int, width: int) -> Bits:
        """(count,) uint64 from byte planes."""
        return from_planes(self.take(count * width), width) if count else np.zeros(0, np.uint64)

    def small(self, count: int) -> NDArray[np.int64]:
        """(count,) int64, one byte each."""
        return np.frombuffer(self.take(count), np.uint8).astype(np.int64)

    def one(self) -> int:
        """Four bytes, little-endian."""
        return int.from_bytes(self.take(4), "little")

    def rest(self) -> bytes:
        return self.take(len(self._data) - self._at)

    def end(self) -> None:
        if self._at != len(self._data):
            raise BadColumns(f"{len(self._data) - self._at} bytes follow the end of a section")
