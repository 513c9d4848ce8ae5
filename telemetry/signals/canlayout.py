"""Frames as Linux has them in memory: struct can_frame and struct canfd_frame (linux/can.h), one after another."""

from __future__ import annotations

import sys
from typing import Final

import numpy as np
from numpy.typing import NDArray

from telemetry.signals.frames import CLASSIC_BYTES, ERROR, EXTENDED, FD_BYTES, REMOTE, STANDARD_IDS, Frames

CAN_MTU: Final = 16
CANFD_MTU: Final = 72
_ORDER: Final = "<" if sys.byteorder == "little" else ">"  # a bus is read on the computer that has it

CANFD_FRAME: Final = np.dtype(
    [
        ("can_id", f"{_ORDER}u4"),
        ("length", "u1"),
        ("flags", "u1"),
        ("reserved", "u1", (2,)),
        ("data", "u1", (FD_BYTES,)),
    ]
)
CAN_FRAME: Final = np.dtype(
    [
        ("can_id", f"{_ORDER}u4"),
        ("length", "u1"),
        ("flags", "u1"),
        ("reserved", "u1", (2,)),
        ("data", "u1", (CLASSIC_BYTES,)),
    ]
)
assert CAN_FRAME.itemsize == CAN_MTU
assert CANFD_FRAME.itemsize == CANFD_MTU

_STANDARD_MASK: Final = np.uint32((STANDARD_IDS - 1) | REMOTE | ERROR)  # flagged, they are no id of any plan
_EXTENDED: Final = np.uint32(EXTENDED)


def frames_of(rows: NDArray[np.void], t_ns: NDArray[np.int64], bus: NDArray[np.uint8]) -> Frames:
    """Frames of (n,) rows of either struct, copied: the buffer may be used again. What has no data keeps its flag.

    What the structs leave open is settled here: a length beyond the room counts as all of it, and what lies behind
    the length is zeros.
    """
    data = np.array(rows["data"], np.uint8, order="C")
    length = np.minimum(rows["length"], np.uint8(data.shape[1]))
    behind = np.arange(data.shape[1], dtype=np.uint8) >= length[:, None]
    data[behind] = 0
    ids = rows["can_id"].astype(np.uint32)
    short_ids = (ids & _EXTENDED) == 0
    ids[short_ids] &= _STANDARD_MASK
    return Frames(t_ns, bus, ids, length, data)


def rows_of(frames: Frames) -> NDArray[np.void]:
    """The frames as structs, of the kind that their width asks for."""
    rows = np.zeros(len(frames), CAN_FRAME if frames.width == CLASSIC_BYTES else CANFD_FRAME)
    rows["can_id"] = frames.can_id
    rows["length"] = frames.length
    rows["data"] = frames.data
    return rows
