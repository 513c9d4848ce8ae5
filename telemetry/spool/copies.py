"""Copies of blocks that can't be delivered, to be looked at: what lay on flash, still encrypted, and few of them.

    bad-00000012-0007.blk:  the segment's header page | the frame's pages, from page 7 of segment 12

A purge makes them as unreadable as the block itself. Keeping one is worth no room: where it fails, it is done without.
"""

from __future__ import annotations

import contextlib
from typing import Final

from ecu.disk import Disk, DiskError, DiskFault
from telemetry.spool.blocks import BlockRef
from telemetry.spool.format import frame_pages
from telemetry.spool.frames import patiently
from telemetry.spool.limits import PAGE_BYTES

MOST_COPIES: Final = 8
_PREFIX: Final = "bad-"


def copy_name(ref: BlockRef) -> str:
    return f"{_PREFIX}{ref.serial:08d}-{ref.page:04d}.blk"


def copies(disk: Disk) -> list[str]:
    """Their names, the oldest segment's first."""
    return [name for name in disk.names("") if name.startswith(_PREFIX)]


def keep_copy(disk: Disk, segment: str, ref: BlockRef) -> None:
    """Never raises DiskError: at most, there is no copy."""
    with contextlib.suppress(DiskError, FileNotFoundError):
        there = copies(disk)
        if copy_name(ref) in there:
            return
        for name in there[: max(0, len(there) + 1 - MOST_COPIES)]:
            disk.remove(name)
        pages = [0, *range(ref.page, ref.page + frame_pages(ref.wire_bytes))]
        data = b"".join(_page(disk, segment, page) for page in pages)
        disk.create(copy_name(ref))
        disk.write_at(copy_name(ref), 0, data)


def _page(disk: Disk, name: str, page: int) -> bytes:
    """Zeros where it can't be read."""
    try:
        data = patiently(lambda: disk.read_at(name, page * PAGE_BYTES, PAGE_BYTES))
    except DiskFault:
        data = b""
    return data.ljust(PAGE_BYTES, b"\0")
