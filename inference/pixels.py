"""Frame memory as a camera or a worker sees it: slots as pictures, without a copy."""

from __future__ import annotations

import mmap
import os

import numpy as np
from numpy.typing import NDArray

from inference.frames import CHANNELS


class FrameMemory:
    """A child's side: the same memory, mapped writable for a camera and read-only for a worker."""

    def __init__(self, fd: int, slots: int, slot_bytes: int, writable: bool) -> None:
        self._slot_bytes = slot_bytes
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        self._map = mmap.mmap(fd, slots * slot_bytes, mmap.MAP_SHARED, protection)
        os.close(fd)

    def frame(self, slot: int, height: int, width: int) -> NDArray[np.uint8]:
        """The slot as (height, width, 3) uint8 BGR, without a copy."""
        size = height * width * CHANNELS
        if size > self._slot_bytes:
            raise ValueError(f"a frame of {width}x{height} needs {size} bytes, a slot has {self._slot_bytes}")
        flat = np.frombuffer(self._map, np.uint8, size, slot * self._slot_bytes)
        return flat.reshape(height, width, CHANNELS)
