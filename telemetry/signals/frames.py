"""Raw CAN frames in batches: one array for each thing that a frame has, rows in order of time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

CLASSIC_BYTES: Final = 8
FD_BYTES: Final = 64

# As in Linux's can.h: an id of 29 bits, one that asks for data, one that tells of the bus itself.
EXTENDED: Final = 0x8000_0000
REMOTE: Final = 0x4000_0000
ERROR: Final = 0x2000_0000
STANDARD_IDS: Final = 0x800
EXTENDED_IDS: Final = 0x2000_0000


@dataclass(frozen=True, slots=True)
class Frames:
    """`t_ns` (n,) int64, not descending; `bus` (n,) uint8; `can_id` (n,) uint32, with EXTENDED where it has 29 bits;
    `length` (n,) uint8, bytes of data; `data` (n, 8) or (n, 64) uint8, contiguous, zeros behind `length`."""

    t_ns: NDArray[np.int64]
    bus: NDArray[np.uint8]
    can_id: NDArray[np.uint32]
    length: NDArray[np.uint8]
    data: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.t_ns)

    @property
    def width(self) -> int:
        """Bytes that each row has room for: 8 or 64."""
        return int(self.data.shape[1])

    def rows(self, which: slice | NDArray[Any]) -> Frames:
        """These rows, which must be in order."""
        return Frames(self.t_ns[which], self.bus[which], self.can_id[which], self.length[which], self.data[which])


def no_frames(width: int = CLASSIC_BYTES) -> Frames:
    return Frames(
        np.empty(0, np.int64),
        np.empty(0, np.uint8),
        np.empty(0, np.uint32),
        np.empty(0, np.uint8),
        np.empty((0, width), np.uint8),
    )


def concat(parts: Sequence[Frames]) -> Frames:
    """All of them in order of time; at equal times the earlier part comes first. As wide as the widest."""
    parts = [part for part in parts if len(part)]
    if not parts:
        return no_frames()
    if len(parts) == 1:
        return parts[0]
    width = max(part.width for part in parts)
    whole = Frames(
        np.concatenate([part.t_ns for part in parts]),
        np.concatenate([part.bus for part in parts]),
        np.concatenate([part.can_id for part in parts]),
        np.concatenate([part.length for part in parts]),
        np.concatenate([widened(part.data, width) for part in parts]),
    )
    return in_order(whole)


def in_order(frames: Frames) -> Frames:
    """The same frames by time; equal times keep their order."""
    if len(frames) < 2 or bool((frames.t_ns[1:] >= frames.t_ns[:-1]).all()):
        return frames
    return frames.rows(np.argsort(frames.t_ns, kind="stable"))


def widened(data: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    """(n, width), zeros behind what there was."""
    if data.shape[1] == width:
        return data
    wide = np.zeros((len(data), width), np.uint8)
    wide[:, : data.shape[1]] = data
    return wide


def keys(frames: Frames) -> NDArray[np.int64]:
    """(n,): one number for each bus and id."""
    return frames.bus.astype(np.int64) << 32 | frames.can_id


def key_of(bus: int, can_id: int) -> int:
    return bus << 32 | can_id


def by_id(frames: Frames) -> Iterator[tuple[int, int, NDArray[np.intp]]]:
    """(bus, id, rows) of each message, rows in order of time; by one sort."""
    if not len(frames):
        return
    all_keys = keys(frames)
    order = np.argsort(all_keys, kind="stable")
    sorted_keys = all_keys[order]
    cuts = [0, *(np.flatnonzero(sorted_keys[1:] != sorted_keys[:-1]) + 1).tolist(), len(order)]
    for begin, end in itertools.pairwise(cuts):
        key = int(sorted_keys[begin])
        yield key >> 32, key & 0xFFFF_FFFF, order[begin:end]
