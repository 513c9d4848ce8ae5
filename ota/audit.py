"""What happened on this vehicle, as a chain in a file: to updates (the one thing that a refused one writes), and which
purposes were purged.

One JSON line an entry. A full file becomes `audit.old`, over the one before, and the chain goes on in a new one.
"""

from __future__ import annotations

import contextlib
from collections import deque
from typing import Final

import msgspec

from ecu.audit import Entry, first_break, link
from ecu.clock import Clock
from ecu.disk import Disk, DiskError, DiskFault

_FILE: Final = "audit"
_OLD: Final = "audit.old"
_MOST_BYTES: Final = 1 << 20
_MOST_WAITING: Final = 64


class Audit:
    """Raises DiskError. The next entry goes over a line that a power cut tore off: its act will be said again. A
    line that was damaged later stays, and `first_break` says where."""

    def __init__(self, disk: Disk, clock: Clock, subject: str) -> None:
        self._disk = disk
        self._clock = clock
        self._subject = subject
        self._entries, self._end = self._read()
        self._last = self._entries[-1] if self._entries else self._last_of_old()
        self._is_named = False
        self._waiting = deque[tuple[int, str, str]]()
        self._dropped = 0

    def note(self, event: str, detail: str) -> None:
        """As `add`, but as soon as the disk lets it: for what has happened already, which a full disk must hold up no
        more than a start of the agent. Of too many that wait the oldest are dropped, and how many is said."""
        self._waiting.append((self._clock.wall_ns(), event, detail))
        if len(self._waiting) > _MOST_WAITING:
            self._waiting.popleft()
            self._dropped += 1
        with contextlib.suppress(DiskError):
            if self._dropped:
                self.add("audit_gap", f"{self._dropped} entries that belong here couldn't be written")
                self._dropped = 0
            while self._waiting:
                self._add(*self._waiting[0])
                self._waiting.popleft()

    def add(self, event: str, detail: str) -> Entry:
        """Durable when it returns."""
        return self._add(self._clock.wall_ns(), event, detail)

    def _add(self, wall_ns: int, event: str, detail: str) -> Entry:
        entry = link(self._last, wall_ns, event, self._subject, detail)
        line = msgspec.json.encode(entry) + b"\n"
        if self._end + len(line) > _MOST_BYTES and self._disk.exists(_FILE):
            self._disk.rename(_FILE, _OLD)
            # Before a new file may take the name: the rename alone could be lost, and the old file with it.
            self._disk.sync_folder("")
        self._demand_file()
        # Not at the file's end: half a line of an entry that failed may stand there.
        self._disk.write_at(_FILE, self._end, line)
        self._disk.sync(_FILE)
        self._end += len(line)
        self._entries.append(entry)
        self._last = entry
        return entry

    def sync(self) -> None:
        """What a start found is durable from here on: a process that was killed may have left it in memory only."""
        if self._disk.exists(_FILE):
            self._disk.sync(_FILE)
            self._disk.sync_folder("")

    def entries(self) -> tuple[Entry, ...]:
        """Those of the newest file, oldest first."""
        return tuple(self._entries)

    def kept(self) -> tuple[Entry, ...]:
        """Those of the older file, and of the newest."""
        return (*self._old(), *self._entries)

    def lacks_older(self) -> bool:
        """Whether entries before the oldest are gone that no full file took with it: then somebody took them out."""
        kept = self.kept()
        if not kept or kept[0].seq == 1:
            return False
        first = msgspec.json.encode(self._entries[0]) + b"\n" if self._entries else b""
        is_full = self._disk.exists(_OLD) and self._disk.size(_OLD) + len(first) > _MOST_BYTES
        return bool(first) and not is_full

    def first_break(self) -> int | None:
        """The number of the first entry that doesn't follow from the one before; None when the chain is whole."""
        return first_break(self._entries, self._last_of_old())

    def _read(self) -> tuple[list[Entry], int]:
        """The entries, and where the next one goes. A file that can't be read is put aside as a full one is."""
        try:
            return _parse(self._disk.read(_FILE)) if self._disk.exists(_FILE) else ([], 0)
        except DiskFault:
            return [], _MOST_BYTES

    def _demand_file(self) -> None:
        """There is one, and its name is durable, which a start can't know of a file that it finds."""
        if not self._disk.exists(_FILE):
            self._disk.create(_FILE)
            self._entries.clear()
            self._end, self._is_named = 0, False
        if not self._is_named:
            self._disk.sync_folder("")
            self._is_named = True

    def _last_of_old(self) -> Entry | None:
        entries = self._old()
        return entries[-1] if entries else None

    def _old(self) -> list[Entry]:
        try:
            return _parse(self._disk.read(_OLD))[0] if self._disk.exists(_OLD) else []
        except DiskError:
            return []


def _parse(data: bytes) -> tuple[list[Entry], int]:
    """The entries of all lines that are one, and where the last of them ends: what stands behind it was torn off."""
    entries, end, at = list[Entry](), 0, 0
    for line in data.split(b"\n")[:-1]:
        at += len(line) + 1
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
            entries.append(msgspec.json.decode(line, type=Entry))
            end = at
    return entries, end
