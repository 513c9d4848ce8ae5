"""Numbers into bits and back: a fixed count of bits each, Rice codes, and byte planes.

Rice codes: R. F. Rice, "Some practical universal noiseless coding techniques", JPL 79-22, 1979: a value's low k bits as
they are, what is above them in unary.
"""

from __future__ import annotations

import sys
from typing import Final

import numpy as np
from numpy.typing import NDArray

from telemetry.columns.errors import BadColumns
from telemetry.columns.flat import Bits

assert sys.byteorder == "little", "byte planes are taken from little-endian numbers"

_WIDTHS: Final = (8, 16, 32, 64)


def fixed_bytes(count: int, k: int) -> int:
    """How many bytes `count` numbers of `k` bits take."""
    return -(-count * k // 8)


def pack_fixed(values: Bits, k: int) -> bytes:
    """The low `k` bits of each, highest first, behind one another."""
    width = _width(k)
    whole = values.astype(f">u{width // 8}").view(np.uint8).reshape(-1, width // 8)
    if k % 8 == 0:
        return whole[:, (width - k) // 8 :].tobytes()
    return np.packbits(np.unpackbits(whole, axis=1)[:, width - k :]).tobytes()


def unpack_fixed(data: bytes, count: int, k: int) -> Bits:
    """`data` has `fixed_bytes(count, k)` bytes."""
    width = _width(k)
    if k % 8 == 0:
        whole = np.zeros((count, width // 8), np.uint8)
        whole[:, (width - k) // 8 :] = np.frombuffer(data, np.uint8).reshape(count, k // 8)
    else:
        bits = np.zeros((count, width), np.uint8)
        bits[:, width - k :] = np.unpackbits(np.frombuffer(data, np.uint8), count=count * k).reshape(count, k)
        whole = np.packbits(bits, axis=1)
    return whole.view(f">u{width // 8}").ravel().astype(np.uint64)


def _width(k: int) -> int:
    return next(width for width in _WIDTHS if k <= width)


def pack_unary(values: Bits) -> bytes:
    """Each as that many zeros and a one."""
    ends = np.cumsum(values.astype(np.int64) + 1) - 1
    bits = np.zeros(int(ends[-1]) + 1 if len(ends) else 0, np.uint8)
    bits[ends] = 1
    return np.packbits(bits).tobytes()


def unpack_unary(data: bytes, count: int) -> Bits:
    """Raises BadColumns when it isn't `count` numbers."""
    ones = np.flatnonzero(np.unpackbits(np.frombuffer(data, np.uint8)))
    if len(ones) != count:
        raise BadColumns(f"{count} numbers in unary have as many ones, these bytes have {len(ones)}")
    return (np.diff(ones, prepend=-1) - 1).astype(np.uint64)


def to_planes(values: NDArray[np.uint64] | NDArray[np.uint32] | NDArray[np.uint16]) -> bytes:
    """The lowest byte of each, then the next byte of each, and so on."""
    return np.ascontiguousarray(values.view(np.uint8).reshape(len(values), values.itemsize).T).tobytes()


def from_planes(data: bytes, width: int) -> Bits:
    """Numbers of `width` bytes each."""
    count = len(data) // width
    whole = np.zeros((count, 8), np.uint8)
    whole[:, :width] = np.frombuffer(data, np.uint8).reshape(width, count).T
    return whole.view(np.uint64).ravel()
