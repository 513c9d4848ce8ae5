"""Copies of blocks that can't be delivered, to be looked at: what lay on flash, still encrypted, and few of them.

    bad-00000012-0007.blk:  the segment's header page | the frame's pages, from page 7 of segment 12
    bad-00000012-0007-360.blk:  the same of a block that was to be kept until spool time 3,600 s, in units of 10 s

A purge makes them as unreadable as the block itself, and they get no older than it might have. Keeping one is worth no
room: where it fails, it is done without.
"""

from __future__ import annotations

import contextlib
import math
import re
from typing import Final

from ecu.disk import Disk, DiskError, DiskFault
from telemetry.spool.aging import UNIT_NS
from telemetry.spool.blocks import BlockRef
from telemetry.spool.format import frame_pages
from telemetry.spool.frames import patiently
from telemetry.spool.limits import PAGE_BYTES

MOST_COPIES: Final = 8
_PREFIX: Final = "bad-"
_NAME: Final = re.compile(r"bad-\d{8,}-\d{4,}(?:-(\d{1,12}))?\.blk")


def copy_name(ref: BlockRef, due_ns: float = math.inf) -> str:
    """`due_ns`: the spool time up to which the block was to be kept."""
    due = "" if due_ns == math.inf else f"-{math.ceil(due_ns / UNIT_NS)}"
    return f"{_PREFIX}{ref.serial:08d}-{ref.page:04d}{due}.blk"


def copies(disk: Disk) -> list[str]:
    """Their names, the oldest segment's first."""
    return [name for name in disk.names("") if name.startswith(_PREFIX)]


class Copies:
    """Those of one spool. One thread calls it; its length may be asked from any. It never raises DiskError: at most,
    there is no copy, or one for a little longer."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._due = {name: _due_ns(name) for name in copies(disk)}

    def __len__(self) -> int:
        return len(self._due)

    def keep(self, segment: str, ref: BlockRef, due_ns: float) -> None:
        name = copy_name(ref, due_ns)
        if name in self._due:
            return
        for oldest in sorted(self._due)[: max(0, len(self._due) + 1 - MOST_COPIES)]:
            self._remove(oldest)
        with contextlib.suppress(DiskError, FileNotFoundError):
            pages = [0, *range(ref.page, ref.page + frame_pages(ref.wire_bytes))]
            data = b"".join(_page(self._disk, segment, page) for page in pages)
            self._disk.create(name)
            self._due[name] = due_ns
            self._disk.write_at(name, 0, data)

    def expire(self, now_ns: int) -> None:
        """Removes what nobody may keep any longer, at that spool time."""
        for name in [name for name, due_ns in self._due.items() if due_ns <= now_ns]:
            self._remove(name)

    def next_due_ns(self) -> float:
        """The spool time at which the next one is due; infinity: never."""
        return min(self._due.values(), default=math.inf)

    def _remove(self, name: str) -> None:
        with contextlib.suppress(DiskError):
            with contextlib.suppress(FileNotFoundError):
                self._disk.remove(name)
            del self._due[name]


def _due_ns(name: str) -> float:
    found = _NAME.fullmatch(name)
    return int(found[1]) * UNIT_NS if found is not None and found[1] else math.inf


def _page(disk: Disk, name: str, page: int) -> bytes:
    """Zeros where it can't be read."""
    try:
        data = patiently(lambda: disk.read_at(name, page * PAGE_BYTES, PAGE_BYTES))
    except DiskFault:
        data = b""
    return data.ljust(PAGE_BYTES, b"\0")
