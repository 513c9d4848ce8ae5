"""A published repository in one .zip, read by ranges where it lies: nothing is unpacked to disk.

Of the format (PKWARE APPNOTE 6.3.10) only what a plain archive of stored files needs is believed, and anything else
refuses the whole archive before any of it is used: compressed or encrypted members (so nothing can inflate), links,
names that are absolute, climb or come twice, members that overlap, bytes behind the end. Zip64 is read: a release may
have more than 4 GiB.
"""

from __future__ import annotations

import os
import stat
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from ecu.errors import shown
from ota.errors import FetchError, Flaw, NotThere, TrustError
from ota.layout import published
from ota.manifest import MAX_BUNDLE_BYTES
from ota.source import PART_BYTES, open_plain

MOST_MEMBERS: Final = 100_000
MOST_DIRECTORY_BYTES: Final = 32 << 20

_END: Final = struct.Struct("<4sHHHHLLH")
_END_64: Final = struct.Struct("<4sQHHLLQQQQ")
_LOCATOR_64: Final = struct.Struct("<4sLQL")
_CENTRAL: Final = struct.Struct("<4sHHHHHHLLLHHHHHLL")
_LOCAL: Final = struct.Struct("<4sHHHHHLLLHH")
_LOCATED_64: Final = b"PK\x06\x07"
_IN_64: Final = 0xFFFFFFFF
_COUNT_IN_64: Final = 0xFFFF
_HARMLESS_FLAGS: Final = 0x0808
"""Sizes that stand behind the data, where nobody reads them, and names in UTF-8."""
_STORED: Final = 0


@dataclass(frozen=True, slots=True)
class Member:
    """One file in it. Its data ends at `before` at the latest, where the next one begins."""

    name: bytes
    header: int
    size: int
    before: int


class ZipSource:
    """The archive at `path`, as `vehicle` may see it. Raises TrustError for one that isn't as an export makes it, and
    FetchError for a medium that can't be read."""

    def __init__(self, path: Path, vehicle: str) -> None:
        self._path = path
        self._vehicle = vehicle
        # A number that was closed is another file's soon: no read may be under way then.
        self._lock = threading.Lock()
        self._is_left = False
        self._fd = _opened(path)
        try:
            self._members = self._listed()
        except BaseException:
            self.close()
            raise

    def read(self, path: str, offset: int, most: int) -> Iterator[bytes]:
        relative = published(path, self._vehicle)
        member = self._members.get(relative.encode()) if relative is not None else None
        if member is None:
            raise NotThere(f"{shown(self._path)} has no {path}.")
        begin, end = self._data(member) + offset, self._data(member) + min(member.size, offset + most)
        while begin < end and (part := self._pread(min(PART_BYTES, end - begin), begin)):
            begin += len(part)
            yield part

    def close(self) -> None:
        """From any thread, and without waiting: a medium may hang within a read, which lets go of the file after it."""
        self._is_left = True
        self._let_go_if_left()

    def _let_go_if_left(self) -> None:
        # Whoever reads asks this when it is done, so that it can be left to them here.
        if self._is_left and self._lock.acquire(blocking=False):
            fd, self._fd = self._fd, -1
            if fd >= 0:
                os.close(fd)
            self._lock.release()

    # --- what is in it ----------------------------------------------------------------------------

    def _listed(self) -> dict[bytes, Member]:
        size = os.fstat(self._fd).st_size
        count, length, begin, end = self._directory(size)
        if count > MOST_MEMBERS or length > MOST_DIRECTORY_BYTES:
            raise TrustError(Flaw.ENDLESS_ARCHIVE, f"{self._path.name} lists {count} members in {length} bytes")
        if begin + length != end:
            raise self._malformed("has other bytes between its members and its end")
        members = tuple(self._parsed(self._exactly(length, begin), count))
        starts = sorted([*(member.header for member in members), begin])
        if any(a == b for a, b in pairwise(starts)):
            raise self._malformed("has members in the same place", Flaw.MEMBERS_OVERLAP)
        following = dict(pairwise(starts))
        placed = [Member(its.name, its.header, its.size, following.get(its.header, 0)) for its in members]
        for its in placed:
            if its.header + _LOCAL.size + len(its.name) + its.size > its.before:
                raise self._malformed("has members that overlap", Flaw.MEMBERS_OVERLAP)
        files = {its.name: its for its in placed}
        if len({name.lower() for name in files}) != len(placed):
            raise self._malformed("has a name twice", Flaw.NAME_TWICE)
        return {name: its for name, its in files.items() if not name.endswith(b"/")}

    def _directory(self, size: int) -> tuple[int, int, int, int]:
        """How many members, the list's length and place, and where it has to end."""
        at = size - _END.size
        if at < 0:
            raise self._malformed("is no archive, or was cut")
        magic, disk, first, here, count, length, begin, comment = _END.unpack(self._exactly(_END.size, at))
        if magic != b"PK\x05\x06" or comment:
            raise self._malformed("is no archive, was cut, or has bytes behind its end")
        if disk or first or here != count:
            raise self._malformed("is one of several")
        is_large = _IN_64 in (length, begin) or count == _COUNT_IN_64
        if is_large or self._exactly(4, max(0, at - _LOCATOR_64.size)) == _LOCATED_64:
            return self._directory_64(at)
        return count, length, begin, at

    def _directory_64(self, end: int) -> tuple[int, int, int, int]:
        at = end - _LOCATOR_64.size
        if at < 0:
            raise self._malformed("says that it is large, and not where that stands")
        magic, disk, where, disks = _LOCATOR_64.unpack(self._exactly(_LOCATOR_64.size, at))
        if magic != _LOCATED_64 or disk or disks != 1 or where + _END_64.size != at:
            raise self._malformed("says that it is large, and not where that stands")
        magic, its, _, _, disk, first, here, count, length, begin = _END_64.unpack(self._exactly(_END_64.size, where))
        if magic != b"PK\x06\x06" or its != _END_64.size - 12 or disk or first or here != count:
            raise self._malformed("says that it is large, and not how")
        return count, length, begin, where

    def _parsed(self, data: bytes, count: int) -> Iterator[Member]:
        """All that are listed, folders too; `before` isn't known yet."""
        at = 0
        for _ in range(count):
            if at + _CENTRAL.size > len(data):
                raise self._malformed("lists fewer members than it says")
            fields = _CENTRAL.unpack_from(data, at)
            magic, made_by, _, flags, method, _, _, _, packed, size = fields[:10]
            names, extras, comments, disk, _, attributes, header = fields[10:]
            at += _CENTRAL.size
            name, extra = data[at : at + names], data[at + names : at + names + extras]
            at += names + extras + comments
            if magic != b"PK\x01\x02" or at > len(data) or disk:
                raise self._malformed("has a list that is damaged")
            size, packed, header = self._large(extra, size, packed, header)
            self._demand_plain(name, flags, method, size, packed, attributes >> 16 if made_by >> 8 == 3 else 0)
            if name.endswith(b"/") and size:
                raise self._malformed("has a folder with content")
            yield Member(name, header, size, 0)
        if at != len(data):
            raise self._malformed("lists more members than it says")

    def _large(self, extra: bytes, size: int, packed: int, header: int) -> tuple[int, int, int]:
        """As the Zip64 field says, where one of them is too large for its own (APPNOTE section 4.5.3)."""
        values = [size, packed, header]
        missing = [index for index, value in enumerate(values) if value == _IN_64]
        at = 0
        while missing and at + 4 <= len(extra):
            kind, length = struct.unpack_from("<HH", extra, at)
            field = extra[at + 4 : at + 4 + length]
            if kind == 1 and len(field) >= 8 * len(missing):
                for index, value in zip(missing, struct.unpack_from(f"<{len(missing)}Q", field), strict=True):
                    values[index] = value
                missing = []
            at += 4 + length
        if missing:
            raise self._malformed("has a large member without its size")
        return values[0], values[1], values[2]

    def _demand_plain(self, name: bytes, flags: int, method: int, size: int, packed: int, mode: int) -> None:
        words = name.decode("ascii", "backslashreplace")
        if flags & ~_HARMLESS_FLAGS:
            raise self._malformed(f"has {words} encrypted, or in a way that isn't known", Flaw.ENCRYPTED_MEMBER)
        if method != _STORED or packed != size:
            raise self._malformed(f"has {words} compressed: members are stored as they are", Flaw.COMPRESSED_MEMBER)
        if size > MAX_BUNDLE_BYTES:
            raise TrustError(Flaw.ENDLESS_ARCHIVE, f"{self._path.name}: {words} has {size} bytes")
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise self._malformed(f"has a link, or no file, by the name {words}", Flaw.LINK_IN_ARCHIVE)
        steps = name.removesuffix(b"/").split(b"/")
        if not name.isascii() or any(step in (b"", b".", b"..") or set(step) & set(b"\\:\0") for step in steps):
            raise self._malformed(f"has the name {words}, which leads elsewhere", Flaw.NAME_LEADS_ELSEWHERE)

    def _data(self, member: Member) -> int:
        """Where its data begins: behind its own header, which says again what it is."""
        fields = _LOCAL.unpack(self._exactly(_LOCAL.size, member.header))
        magic, _, flags, method = fields[:4]
        names, extras = fields[-2:]
        begin: int = member.header + _LOCAL.size + names + extras
        name = self._exactly(names, member.header + _LOCAL.size)
        if (magic, method, name) != (b"PK\x03\x04", _STORED, member.name) or flags & ~_HARMLESS_FLAGS:
            raise self._malformed(f"says two things of {member.name.decode()}")
        if begin + member.size > member.before:
            raise self._malformed("has members that overlap", Flaw.MEMBERS_OVERLAP)
        return begin

    # --- inside -----------------------------------------------------------------------------------

    def _exactly(self, length: int, at: int) -> bytes:
        data = bytearray()
        while len(data) < length:
            part = self._pread(length - len(data), at + len(data))
            if not part:
                raise self._malformed("was cut")
            data += part
        return bytes(data)

    def _pread(self, length: int, at: int) -> bytes:
        try:
            with self._lock:
                return os.pread(self._fd, length, at)
        except (OSError, OverflowError) as error:
            raise FetchError(f"Can't read {shown(self._path)}: {error}. Check the medium.") from error
        finally:
            self._let_go_if_left()

    def _malformed(self, words: str, flaw: Flaw = Flaw.MALFORMED_ARCHIVE) -> TrustError:
        return TrustError(flaw, f"{shown(self._path.name)} {words}")


def _opened(path: Path) -> int:
    try:
        return open_plain(path.parent, path.name)
    except FileNotFoundError as error:
        raise NotThere(f"There is no {shown(path)}.") from error
    except OSError as error:
        raise FetchError(f"Can't open {shown(path)}: {error.strerror}. Check the medium.") from error
