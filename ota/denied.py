"""Releases that were found worse and are never tried again: one line each in a file that only grows.

line: SHA-256 of the manifest in hex, a space, CRC-32 of those 64 characters in hex, a newline
The last line may be all zeros: room for the next.
"""

from __future__ import annotations

import zlib
from functools import cached_property
from typing import Final

from ecu.disk import Disk

_FILE: Final = "denied"
_LINE_BYTES: Final = 64 + 1 + 8 + 1
_MOST_DAMAGE: Final = 8
"""Characters of a line that may be wrong: a release that was found worse isn't tried again for a flipped bit."""


class Denied:
    """The file is read when it is first asked for: one that can't be read refuses releases, but no start of the agent.
    Raises DiskError."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def __contains__(self, digest: str) -> bool:
        return digest in self._digests or any(_is_nearly(line, _line(digest)) for line in self._damaged)

    def __len__(self) -> int:
        return len(self._digests)

    @cached_property
    def _lines(self) -> list[bytes]:
        data = self._disk.read(_FILE) if self._disk.exists(_FILE) else b""
        return [data[at : at + _LINE_BYTES] for at in range(0, len(data), _LINE_BYTES)]

    @cached_property
    def _digests(self) -> set[str]:
        return {digest for line in self._lines if line == _line(digest := _digest_of(line))}

    @cached_property
    def _damaged(self) -> list[bytes]:
        return [line for line in self._lines if line != _line(_digest_of(line))]

    def make_room(self) -> None:
        """Once it returns the next `add` needs no space: what is found worse on a full disk is denied all the same."""
        self._put(bytes(_LINE_BYTES))

    def add(self, digest: str) -> None:
        """Durable when it returns."""
        if digest not in self._digests:
            self._put(_line(digest))
            self._digests.add(digest)

    def _put(self, line: bytes) -> None:
        if not self._disk.exists(_FILE):
            self._disk.create(_FILE)
        # Behind a line that a power cut tore off, too: every line stands at a multiple of its length.
        end = -(-self._disk.size(_FILE) // _LINE_BYTES) * _LINE_BYTES
        is_room = end > 0 and not any(self._disk.read_at(_FILE, end - _LINE_BYTES, _LINE_BYTES))
        self._disk.write_at(_FILE, end - _LINE_BYTES if is_room else end, line)
        self._disk.sync(_FILE)
        self._disk.sync_folder("")


def _line(digest: str) -> bytes:
    return f"{digest} {zlib.crc32(digest.encode()):08x}\n".encode()


def _digest_of(line: bytes) -> str:
    return line[:64].decode("ascii", "replace")


def _is_nearly(damaged: bytes, line: bytes) -> bool:
    """Whether flash may have turned `line` into `damaged`; two digests are never that alike by chance."""
    changed = sum(was != now for was, now in zip(damaged, line, strict=False))
    return len(damaged) == len(line) and changed <= _MOST_DAMAGE
