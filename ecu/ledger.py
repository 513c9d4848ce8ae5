"""Counts that outlive their process: named counters in a small mapped file, one writer, any readers.

They survive a kill at any instant, since the page cache does, but not a power cut: nothing here is ever synced, so an
update costs microseconds. Two halves alternate; an update fills the half that isn't current and then names it current
with one aligned 8-byte store, so several counters change together or not at all.

    words of 8 bytes, native order:
        0 magic | 1 current: its parity names the half | 2-5 SHA-256 of the identity | 6 count n | 7 bytes of names |
        names (JSON), padded | half 0 | half 1;     half: its number, n counters, CRC-32
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

import msgspec

from ecu.disk import explained
from ecu.errors import EnvironmentFault

_MAGIC: Final = int.from_bytes(b"ORLEDGR1", "big")
_WORD: Final = 8
_HEAD: Final = struct.Struct("=QQ32sQQ")
_CURRENT_AT: Final = 1
_MOST: Final = 2**64 - 1
# A copy taken while the writer writes may mix two updates; its checksum tells, and the next look succeeds.
_LOOKS: Final = 100


class LedgerTaken(EnvironmentFault):
    """Another process writes these counts."""


class _Layout:
    """Where things lie for one set of names."""

    def __init__(self, names: Sequence[str]) -> None:
        if len(set(names)) != len(names):
            raise ValueError(f"a counter is named twice in {list(names)}")
        self.names = tuple(names)
        self.encoded = msgspec.json.encode(self.names)
        self.first_half = -(-(_HEAD.size + len(self.encoded)) // _WORD)
        self.half = struct.Struct(f"={len(names) + 2}Q")
        self.size = self.first_half * _WORD + 2 * self.half.size

    def at(self, number: int) -> int:
        return self.first_half * _WORD + number % 2 * self.half.size

    def pack(self, number: int, counts: Sequence[int]) -> bytes:
        return self.half.pack(number, *counts, zlib.crc32(struct.pack(f"={len(counts) + 1}Q", number, *counts)))

    def unpack(self, data: bytes, number: int) -> list[int] | None:
        """None when the half of that number isn't whole."""
        _, *counts, _ = self.half.unpack_from(data, self.at(number))
        whole = data[self.at(number) : self.at(number) + self.half.size] == self.pack(number, counts)
        return counts if whole else None


class Ledger:
    """The writer's end. Made by `open`."""

    def __init__(self, fd: int, layout: _Layout, number: int, counts: list[int], was_lost: bool) -> None:
        self.was_lost = was_lost
        self._fd = fd
        self._layout = layout
        self._number = number
        self._counts = counts
        self._index = {name: i for i, name in enumerate(layout.names)}
        self._map = mmap.mmap(fd, layout.size)
        self._words = memoryview(self._map).cast("Q")

    @classmethod
    def open(cls, path: Path, names: Sequence[str], identity: bytes) -> Ledger:
        """Goes on counting where the last writer of the same `identity` stopped.

        Otherwise starts at zero; `was_lost` says that there had been a file whose counts can't be kept: of another
        identity or set of names, or unfinished. Put the boot id into `identity` where a power cut must show. Raises
        LedgerTaken or DiskError.
        """
        with explained("open", path):
            return cls._opened(path, _Layout(names), identity)

    @classmethod
    def _opened(cls, path: Path, layout: _Layout, identity: bytes) -> Ledger:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _claim(fd, path)
            there = os.pread(fd, layout.size + 1, 0)
            kept = _kept(there, layout, identity)
            if kept is None:
                _start(fd, layout, identity)
            number, counts = kept or (0, [0] * len(layout.names))
            return cls(fd, layout, number, counts, was_lost=kept is None and bool(there))
        except (OSError, LedgerTaken):
            os.close(fd)
            raise

    @staticmethod
    def peek(path: Path) -> Mapping[str, int] | None:
        """The counts as they were at one instant, from any process; None while there are none."""
        for _ in range(_LOOKS):
            if path.exists() and (counts := _peeked(path.read_bytes())) is not None:
                return counts
        return None

    def add(self, **deltas: int) -> None:
        """All of them at once. Raises KeyError for an unknown name, ValueError for a count outside 0..2^64-1."""
        counts = self._counts.copy()
        for name, delta in deltas.items():
            counts[self._index[name]] += delta
        self._put(counts)

    def set(self, **values: int) -> None:
        """As `add`, but the new counts themselves."""
        counts = self._counts.copy()
        for name, value in values.items():
            counts[self._index[name]] = value
        self._put(counts)

    def values(self) -> Mapping[str, int]:
        return MappingProxyType(dict(zip(self._layout.names, self._counts, strict=True)))

    def close(self) -> None:
        """The counts stay in the file."""
        self._words.release()
        self._map.close()
        os.close(self._fd)

    def _put(self, counts: list[int]) -> None:
        if min(counts, default=0) < 0 or max(counts, default=0) > _MOST:
            raise ValueError(f"a count left 0..2^64-1: {dict(zip(self._layout.names, counts, strict=True))}")
        number = self._number + 1
        at = self._layout.at(number)
        self._map[at : at + self._layout.half.size] = self._layout.pack(number, counts)
        # Until here a kill leaves the other half current; a memoryview of words makes this one store.
        self._words[_CURRENT_AT] = number
        self._number, self._counts = number, counts


def _claim(fd: int, path: Path) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise LedgerTaken(
            f"Another process already writes {path}. Stop that one first, or use another --state folder."
        ) from error


def _kept(there: bytes, layout: _Layout, identity: bytes) -> tuple[int, list[int]] | None:
    if len(there) != layout.size:
        return None
    magic, number, owner, count, length = _HEAD.unpack_from(there)
    names = there[_HEAD.size : _HEAD.size + length]
    if (magic, owner, count, names) != (_MAGIC, _digest(identity), len(layout.names), layout.encoded):
        return None
    counts = layout.unpack(there, number)
    return (number, counts) if counts is not None else None


def _start(fd: int, layout: _Layout, identity: bytes) -> None:
    # The magic goes first and comes back last: a kill in between leaves a file that nobody takes for counts.
    os.pwrite(fd, bytes(_WORD), 0)
    head = _HEAD.pack(0, 0, _digest(identity), len(layout.names), len(layout.encoded)) + layout.encoded
    body = head.ljust(layout.first_half * _WORD, b"\0") + layout.pack(0, [0] * len(layout.names))
    os.pwrite(fd, body.ljust(layout.size, b"\0"), 0)
    os.ftruncate(fd, layout.size)
    os.pwrite(fd, struct.pack("=Q", _MAGIC), 0)


def _digest(identity: bytes) -> bytes:
    return hashlib.sha256(identity).digest()


def _peeked(data: bytes) -> Mapping[str, int] | None:
    if len(data) < _HEAD.size:
        return None
    magic, number, _, _, length = _HEAD.unpack_from(data)
    if magic != _MAGIC:
        return None
    try:
        layout = _Layout(msgspec.json.decode(data[_HEAD.size : _HEAD.size + length], type=tuple[str, ...]))
    except (ValueError, RecursionError):  # no JSON, or no UTF-8: it is being started anew
        return None
    counts = layout.unpack(data, number) if layout.size == len(data) else None
    return None if counts is None else MappingProxyType(dict(zip(layout.names, counts, strict=True)))
