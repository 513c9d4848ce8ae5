"""A small record that survives a power cut at any instant and a flipped bit anywhere: two blocks in two files.

Each block says its own number and carries its own checksum; the newest whole one is the truth. A write goes over the
older one, so the newest stays untouched until the next is durable.

    block, little-endian: magic "OTWN" | version u32 | CRC-32 of seq to payload u32 | seq u64 | length u32 | payload |
                          zeros up to the capacity

Block `seq` lives in file `seq` % 2, so that a block that strayed into the other file is not believed.
"""

from __future__ import annotations

import contextlib
import struct
import zlib
from dataclasses import dataclass

from ecu.disk import Disk, DiskError, DiskFault, DiskFull, beside, move_in, remove_beside, write_beside

_MAGIC = b"OTWN"
_VERSION = 1
_HEAD = struct.Struct("<4sII")
_BODY = struct.Struct("<QI")
OVERHEAD_BYTES = _HEAD.size + _BODY.size


class TwinLost(DiskError):
    """The record was written once and neither twin is whole now. Never read it as "never written"."""


@dataclass(frozen=True, slots=True)
class _Block:
    seq: int
    payload: bytes


def _encode(block: _Block, capacity: int) -> bytes:
    body = _BODY.pack(block.seq, len(block.payload)) + block.payload
    return (_HEAD.pack(_MAGIC, _VERSION, zlib.crc32(body)) + body).ljust(capacity, b"\0")


def _decode(data: bytes, twin: int) -> _Block | None:
    """None when these bytes aren't a whole block of this twin."""
    if len(data) < OVERHEAD_BYTES:
        return None
    seq, length = _BODY.unpack_from(data, _HEAD.size)
    body = data[_HEAD.size : OVERHEAD_BYTES + length]
    if _HEAD.unpack_from(data) != (_MAGIC, _VERSION, zlib.crc32(body)) or seq % 2 != twin:
        return None
    return _Block(seq, body[_BODY.size :])


def _is_blank(data: bytes, twin: int) -> bool:
    return data == _encode(_Block(twin, b""), len(data))


class TwinRecord:
    """One record with one writer at a time. `payload` is up to `capacity` - OVERHEAD_BYTES bytes.

    The files are made at their full size, so that a later write never needs space (on a file system that overwrites
    in place). A larger `capacity` set later takes some only when a payload needs it. Raises DiskError; after one, what
    `read` says is still true.
    """

    def __init__(self, disk: Disk, name: str, capacity: int = 4096) -> None:
        self._disk = disk
        self._paths = (f"{name}.0", f"{name}.1")
        self._name = name
        self.capacity = capacity
        self._newest: _Block | None = None
        self._doubtful = False

    def peek(self) -> bytes | None:
        """What `read` would say, without touching the disk: for a verb that only looks. It may not be durable."""
        newest = self._newest_whole()
        return newest.payload if newest else None

    def read(self) -> bytes | None:
        """The newest payload, durable; None when there never was one. Raises TwinLost."""
        if self._newest is None:
            self._newest = self._settled()
        return self._newest.payload if self._newest else None

    def read_both(self) -> bytes | None:
        """As `read`; and where a killed `write_both` or damage left it in one twin only, both hold it again.

        A twin that can't be written now is no reason to refuse what the other says: the next start tries again.
        """
        if self._newest is None and self.read() is not None:
            with contextlib.suppress(DiskFault, DiskFull):
                self._mend()
                self._clear_beside()
        return self.read()

    def write(self, payload: bytes) -> None:
        """Durable when this returns, in one twin; the other holds the state before. A first write makes both.

        One flipped bit later may bring the state before back: where that matters, `write_both`.
        """
        if self.read() is None:
            self.write_both(payload)
        else:
            self._put(payload)

    def write_both(self, payload: bytes) -> None:
        """Durable in both twins when this returns, and nothing of an earlier payload is left in either file.

        A killed one may have reached one twin only: read it with `read_both`, or write again on resuming.
        """
        self.read()
        self._put(payload)
        self._put(payload)
        self._clear_beside()

    def wipe(self) -> None:
        """Nothing of any payload is left in either file of a record that exists; it reads as b"".

        Cut short it may read as before, or be lost: to be called again until it returns.
        """
        if any(self._disk.exists(path) for path in self._paths) and not self._is_wiped():
            self.start_anew(b"")
        self._clear_beside()

    def _is_wiped(self) -> bool:
        try:
            return all(
                self._disk.exists(path) and _is_blank(self._disk.read(path), twin)
                for twin, path in enumerate(self._paths)
            )
        except DiskFault:
            return False

    def start_anew(self, payload: bytes) -> None:
        """As `write_both`, over whatever is there: re-provisioning after TwinLost."""
        self._newest = None
        self._put(payload)
        self._put(payload)
        self._clear_beside()

    def _clear_beside(self) -> None:
        # What a killed write left beside a file may hold what was to be forgotten.
        left = [path for path in self._paths if self._disk.exists(beside(path))]
        for path in left:
            remove_beside(self._disk, path)
        if left:
            self._disk.sync_folder(self._name.rpartition("/")[0])

    def _mend(self) -> None:
        newest = self._newest
        assert newest is not None
        other = self._whole(1 - newest.seq % 2)
        if other is None or other.payload != newest.payload:
            self._put(newest.payload)

    def _put(self, payload: bytes) -> None:
        if len(payload) > self.capacity - OVERHEAD_BYTES:
            raise ValueError(f"{self._name}: {len(payload)} bytes don't fit a record of {self.capacity}")
        # After a failed write the newest is still the one before: the next try goes over the same twin, not over it.
        block = _Block(self._newest.seq + 1 if self._newest else 0, payload)
        self._lay_down(block)
        self._newest = block

    def _lay_down(self, block: _Block) -> None:
        path, there = self._paths[block.seq % 2], self._file_bytes(block)
        # After an error neither the file's bytes nor its name are believed any more: both are made anew.
        if not self._doubtful and there >= OVERHEAD_BYTES + len(block.payload):
            self._doubtful = True
            self._disk.write_at(path, 0, _encode(block, there))
            self._disk.sync(path)
        else:
            # The name appears only with a whole block behind it: a twin that isn't whole was damaged later.
            write_beside(self._disk, path, _encode(block, self.capacity))
            self._doubtful = True
            move_in(self._disk, path)
        self._doubtful = False

    def _file_bytes(self, block: _Block) -> int:
        path = self._paths[block.seq % 2]
        return self._disk.size(path) if self._disk.exists(path) else 0

    def _settled(self) -> _Block | None:
        newest = self._newest_whole()
        if newest is not None:
            # A killed writer may have left it in memory only. Written over itself it can't tear into anything else.
            self._lay_down(newest)
            self._disk.sync_folder(self._name.rpartition("/")[0])
        return newest

    def _newest_whole(self) -> _Block | None:
        there = [twin for twin in (0, 1) if self._disk.exists(self._paths[twin])]
        whole, unreadable = [], []
        for twin in there:
            try:
                whole.append(_decode(self._disk.read(self._paths[twin]), twin))
            except DiskFault as error:
                unreadable.append(error)
        newest = max(filter(None, whole), key=lambda block: block.seq, default=None)
        if there and newest is None:
            raise unreadable[0] if unreadable else self._lost()
        return newest

    def _whole(self, twin: int) -> _Block | None:
        """The block of one twin; None when it is missing, damaged or unreadable."""
        try:
            return _decode(self._disk.read(self._paths[twin]), twin)
        except (FileNotFoundError, DiskFault):
            return None

    def _lost(self) -> TwinLost:
        return TwinLost(
            f"Neither {self._paths[0]} nor {self._paths[1]} is whole, so what they recorded is lost; nothing is "
            "assumed in its place. Check the disk's health (dmesg, smartctl)."
        )
