"""The books of an object store: what left it and why, in a twin record; layout in docs/formats/objects.md.

A page is written before a file is removed, and names it: until the removal is durable a start finishes it, so that no
object leaves twice or comes back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from ecu.disk import Disk, DiskError, replace_file
from ecu.twin import OVERHEAD_BYTES, TwinLost, TwinRecord
from telemetry.objects.counts import Totals
from telemetry.objects.errors import ObjectsTooNew
from telemetry.records import Purpose

NAME: Final = "books"
ASIDE: Final = f"{NAME}.aside"
"""What another release wrote, for whoever wants to know."""
VERSION: Final = 1
_TWINS: Final = (f"{NAME}.0", f"{NAME}.1")
_PAGE_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Page:
    """One state of the books. `next_serial` was never given to an object; `leaving` have left, whether their files are
    gone or not; `erasing` tells of purposes whose erasure has begun how many objects it takes."""

    next_serial: int = 1
    totals: Totals = field(default_factory=Totals)
    leaving: frozenset[int] = frozenset()
    erasing: Mapping[Purpose, int] = field(default_factory=dict)


class _Page(msgspec.Struct, frozen=True, array_like=True):
    version: int
    next_serial: int
    stored: int
    refused: int
    evicted: int
    erased: int
    damaged: dict[str, int]
    dropped: dict[str, int]
    leaving: list[int]
    erasing: list[tuple[int, int]]  # purpose, objects


_decoder = msgspec.msgpack.Decoder(_Page)


def encode(page: Page) -> bytes:
    totals = page.totals
    return msgspec.msgpack.encode(
        _Page(
            VERSION,
            page.next_serial,
            totals.stored,
            totals.refused,
            totals.evicted,
            totals.erased,
            dict(totals.damaged),
            dict(totals.dropped),
            sorted(page.leaving),
            [(int(purpose), objects) for purpose, objects in page.erasing.items()],
        )
    )


def decode(data: bytes) -> Page:
    """Raises ObjectsTooNew; its checksum was right, so anything else about it is ours."""
    try:
        page = _decoder.decode(data)
        erasing = {Purpose(purpose): objects for purpose, objects in page.erasing}
    except (msgspec.ValidationError, ValueError) as error:
        raise _too_new(str(error)) from error
    if page.version != VERSION:
        raise _too_new(f"version {page.version}, this release knows {VERSION}")
    totals = Totals(page.stored, page.refused, page.evicted, page.erased, page.damaged, page.dropped)
    return Page(page.next_serial, totals, frozenset(page.leaving), erasing)


def _too_new(why: str) -> ObjectsTooNew:
    return ObjectsTooNew(
        f"The objects' books are another release's ({why}). Start the release that wrote them, or move the objects"
        " folder away to begin a new one."
    )


class Books:
    """The page on disk. `lost` says that there had been one and neither twin of it was whole, or could be understood:
    what another release wrote is set aside as it is, and stops nobody (law 10)."""

    def __init__(self, disk: Disk) -> None:
        # A file that once had to grow stays as it is: making it smaller would take space.
        capacity = max([_PAGE_BYTES, *(disk.size(twin) for twin in _TWINS if disk.exists(twin))])
        self._disk = disk
        self._record = TwinRecord(disk, NAME, capacity)
        self._anew = False
        self.lost = False

    def read(self) -> Page:
        """The newest page, durable; an empty one when there is none, or none is whole."""
        try:
            data = self._record.read()
        except TwinLost:
            self.lost = self._anew = True
            return Page()
        try:
            return decode(data) if data is not None else Page()
        except ObjectsTooNew:
            self.lost = self._anew = True
            with contextlib.suppress(DiskError):
                replace_file(self._disk, ASIDE, data or b"")
            return Page()

    def write(self, page: Page, both: bool = False) -> None:
        """Durable in one twin, or in `both`: before keys are destroyed that the page names. Raises DiskError."""
        data = encode(page)
        before = self._record.capacity
        self._record.capacity = max(before, -(-(len(data) + OVERHEAD_BYTES) // _PAGE_BYTES) * _PAGE_BYTES)
        put = self._record.write_both if both else self._record.write
        try:
            (self._record.start_anew if self._anew else put)(data)
        except DiskError:
            # A smaller page may still fit where the last one lay.
            self._record.capacity = before
            raise
        self._anew = False
