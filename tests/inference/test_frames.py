"""Frame memory: a slot is in one hand only, and a reader can't write."""

from __future__ import annotations

import fcntl
import mmap
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.frames import FrameRing
from inference.pixels import FrameMemory


@given(st.lists(st.integers(-1, 5), max_size=60))
def test_a_slot_is_never_in_two_hands(moves: list[int]) -> None:
    ring, out = FrameRing(4, 1000), set[int]()
    try:
        for move in moves:
            if move < 0:
                slot = ring.lease()
                assert (slot is None) == (len(out) == 4)
                if slot is not None:
                    assert slot not in out
                    out.add(slot)
            elif move in out:
                ring.release(move)
                out.remove(move)
            else:
                with pytest.raises(ValueError, match="isn't leased"):
                    ring.release(move)
            assert ring.free == 4 - len(out)
    finally:
        ring.close()


def test_what_a_camera_writes_a_worker_reads_and_cannot_change() -> None:
    ring = FrameRing(2, 4 * 6 * 3)
    writer = FrameMemory(os.dup(ring.writer_fd()), ring.slots, ring.slot_bytes, writable=True)
    reader = FrameMemory(ring.reader_fd(), ring.slots, ring.slot_bytes, writable=False)
    writer.frame(1, 4, 6)[:] = 7
    seen = reader.frame(1, 4, 6)
    assert (seen == 7).all()
    assert not seen.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        seen[0, 0, 0] = 1
    del seen
    ring.close()


def test_a_readers_descriptor_cannot_be_mapped_writable() -> None:
    ring = FrameRing(2, 5000)
    fd = ring.reader_fd()
    with pytest.raises(PermissionError):
        mmap.mmap(fd, ring.slot_bytes, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
    os.close(fd)
    ring.close()


def test_no_child_can_change_the_memorys_size() -> None:
    ring = FrameRing(2, 5000)
    seals = fcntl.fcntl(ring.writer_fd(), fcntl.F_GET_SEALS)
    assert seals & (fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    for size in (0, 1 << 20):
        with pytest.raises(PermissionError):
            os.ftruncate(ring.writer_fd(), size)
    ring.close()


def test_a_frame_too_large_for_its_slot_is_refused() -> None:
    ring = FrameRing(1, 100)
    memory = FrameMemory(os.dup(ring.writer_fd()), ring.slots, ring.slot_bytes, writable=True)
    with pytest.raises(ValueError, match="needs"):
        memory.frame(0, 100, 100)
    assert memory.frame(0, 5, 5).dtype == np.uint8
    ring.close()
