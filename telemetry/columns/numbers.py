"""The numbers that are told beside the heads: into byte planes for zstd and loose bits beside it, and back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from telemetry.columns.bits import fixed_bytes, pack_fixed, pack_unary, unpack_fixed, unpack_unary
from telemetry.columns.choice import MAX_UNARY, Packing
from telemetry.columns.errors import BadColumns
from telemetry.columns.flat import Bits, Ints
from telemetry.columns.sections import Section, planes_of

MAX_SIZES: Final = np.array([8, 64, 40])
"""By packing."""


class Layout:
    """Which number is packed how: `packings`, `sizes` and `counts` (c,) of the columns, in their order."""

    def __init__(self, packings: Ints, sizes: Ints, counts: Ints) -> None:
        self.total = int(counts.sum())
        self.size_of: Ints = np.repeat(sizes, counts)
        packing_of = np.repeat(packings, counts)
        self.in_planes: NDArray[np.bool_] = packing_of == Packing.PLANES
        self.is_fixed: NDArray[np.bool_] = packing_of == Packing.FIXED
        self.is_rice: NDArray[np.bool_] = packing_of == Packing.RICE

    def planes(self) -> Iterator[tuple[int, NDArray[np.bool_]]]:
        """Each byte's place, and which numbers have it in a plane."""
        most = int(self.size_of[self.in_planes].max(initial=0))
        for place in range(most):
            yield place, self.in_planes & (self.size_of > place)

    def fixed(self) -> Iterator[tuple[int, NDArray[np.bool_]]]:
        """Each count of low bits, rising, and which numbers have so many."""
        loose = ~self.in_planes
        for bits in np.flatnonzero(np.bincount(self.size_of[loose], minlength=1)):
            if bits:
                yield int(bits), loose & (self.size_of == bits)


def write(numbers: Bits, layout: Layout) -> tuple[bytes, bytes]:
    """What of them goes through zstd, and what lies beside it."""
    above = numbers >> layout.size_of.astype(np.uint64)
    far = np.flatnonzero((layout.is_rice & (above > MAX_UNARY)) | (layout.is_fixed & (above > 0)))
    near = numbers.copy()
    near[far] = above[far] = 0
    unary = pack_unary(above[layout.is_rice])
    planes = [
        ((near[mask] >> np.uint64(8 * place)) & np.uint64(255)).astype(np.uint8) for place, mask in layout.planes()
    ]
    loose = [pack_fixed(near[mask] & np.uint64((1 << bits) - 1), bits) for bits, mask in layout.fixed()]
    gaps = np.diff(far, prepend=-1) - 1
    plain = [
        len(unary).to_bytes(4, "little"),
        len(far).to_bytes(4, "little"),
        planes_of(gaps, 4),
        planes_of(numbers[far], 8),
        *(plane.tobytes() for plane in planes),
    ]
    return b"".join(plain), b"".join([unary, *loose])


def read(plain: Section, loose: Section, layout: Layout) -> Bits:
    """(n,) uint64. Raises BadColumns."""
    unary_bytes, exceptions = plain.one(), plain.one()
    if exceptions > layout.total:
        raise BadColumns(f"{exceptions} exceptions are more than the {layout.total} numbers they are among")
    far = np.cumsum(plain.numbers(exceptions, 4).astype(np.int64) + 1) - 1
    if exceptions and far[-1] >= layout.total:
        raise BadColumns(f"an exception is number {far[-1]} of {layout.total}")
    values = plain.numbers(exceptions, 8)
    numbers = np.zeros(layout.total, np.uint64)
    for place, mask in layout.planes():
        plane = np.frombuffer(plain.take(int(mask.sum())), np.uint8).astype(np.uint64)
        numbers[mask] |= plane << np.uint64(8 * place)
    _read_loose(loose, unary_bytes, layout, numbers)
    numbers[far] = values
    return numbers


def _read_loose(loose: Section, unary_bytes: int, layout: Layout, numbers: Bits) -> None:
    above = unpack_unary(loose.take(unary_bytes), int(layout.is_rice.sum()))
    numbers[layout.is_rice] = above << layout.size_of[layout.is_rice].astype(np.uint64)
    for bits, mask in layout.fixed():
        count = int(mask.sum())
        numbers[mask] |= unpack_fixed(loose.take(fixed_bytes(count, bits)), count, bits)
