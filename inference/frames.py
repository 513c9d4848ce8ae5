"""Frame memory: one memfd, cut into slots that the agent leases to a camera and then shows to a worker.

No slot is ever written and read at once, because only its lease holder writes and the agent passes it on after that:
ordering comes from the messages (a socket is a barrier on every CPU), not from a seqlock, which Python can't fence.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections import deque

CHANNELS = 3


class FrameRing:
    """The agent's side: owns the memory and knows which slots are free. A child's side is inference/pixels.py."""

    def __init__(self, slots: int, slot_bytes: int) -> None:
        page = mmap.PAGESIZE
        self.slots = slots
        self.slot_bytes = -(-slot_bytes // page) * page
        self._fd = os.memfd_create("outrider-frames", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self._fd, self.slots * self.slot_bytes)
        # Without the seals a child could shrink the memory under its neighbours and kill them with SIGBUS.
        fcntl.fcntl(self._fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        self._free: deque[int] = deque(range(slots))

    def writer_fd(self) -> int:
        return self._fd

    def reader_fd(self) -> int:
        """A new read-only descriptor; the caller closes it."""
        return os.open(f"/proc/self/fd/{self._fd}", os.O_RDONLY | os.O_CLOEXEC)

    @property
    def free(self) -> int:
        return len(self._free)

    def lease(self) -> int | None:
        """A slot for a writer, or None when all are out."""
        return self._free.popleft() if self._free else None

    def release(self, slot: int) -> None:
        """Raises ValueError for a slot that isn't out: releasing twice would give one slot to two writers."""
        if slot in self._free or not 0 <= slot < self.slots:
            raise ValueError(f"slot {slot} isn't leased")
        self._free.append(slot)

    def close(self) -> None:
        os.close(self._fd)
