"""What happened to updates on this vehicle, as a chain in a file: the one thing that a refused update writes.

One JSON line an entry. A full file becomes `audit.old`, over the one before, and the chain goes on in a new one.
"""

from __future__ import annotations

from typing import Final

import msgspec

from ecu.audit import Entry, first_break, link
from ecu.clock import Clock
from ecu.disk import Disk, DiskError

_FILE: Final = "audit"
_OLD: Final = "audit.old"
_MOST_BYTES: Final = 1 << 20


class Audit:
    """Raises DiskError. A line that a power cut tore off is dropped at the next start: its act will be said again."""

    def __init__(self, disk: Disk, clock: Clock, subject: str) -> None:
        self._disk = disk
        self._clock = clock
        self._subject = subject
        self._entries, whole = _parse(disk.read(_FILE)) if disk.exists(_FILE) else ([], 0)
        self._last = self._entries[-1] if self._entries else self._last_of_old()
        if disk.exists(_FILE) and disk.size(_FILE) > whole:
            disk.truncate(_FILE, whole)

    def add(self, event: str, detail: str) -> Entry:
        """Durable when it returns."""
        entry = link(self._last, self._clock.wall_ns(), event, self._subject, detail)
        line = msgspec.json.encode(entry) + b"\n"
        if self._disk.exists(_FILE) and self._disk.size(_FILE) + len(line) > _MOST_BYTES:
            self._disk.rename(_FILE, _OLD)
            self._entries.clear()
        if not self._disk.exists(_FILE):
            self._disk.create(_FILE)
            self._disk.sync_folder("")
        self._disk.write_at(_FILE, self._disk.size(_FILE), line)
        self._disk.sync(_FILE)
        self._entries.append(entry)
        self._last = entry
        return entry

    def entries(self) -> tuple[Entry, ...]:
        """Those of the newest file, oldest first."""
        return tuple(self._entries)

    def first_break(self) -> int | None:
        """The number of the first entry that doesn't follow from the one before; None when the chain is whole."""
        return first_break(self._entries, self._last_of_old())

    def _last_of_old(self) -> Entry | None:
        try:
            entries, _ = _parse(self._disk.read(_OLD)) if self._disk.exists(_OLD) else ([], 0)
        except DiskError:
            return None
        return entries[-1] if entries else None


def _parse(data: bytes) -> tuple[list[Entry], int]:
    """The entries up to the first line that isn't one, and how many bytes they take."""
    entries, taken = list[Entry](), 0
    for line in data.splitlines(keepends=True):
        if not line.endswith(b"\n"):
            break
        try:
            entries.append(msgspec.json.decode(line, type=Entry))
        except msgspec.DecodeError:
            break
        taken += len(line)
    return entries, taken
