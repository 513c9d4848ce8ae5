"""What this vehicle may learn from: crops, each with the name that was confirmed for it; few, encrypted, not for long.

One file an example, under a key of the purpose `learning` alone; docs/learning.md has the layout. Each that leaves is
counted for why, since the store was opened: found + offered = kept + dropped(reason).
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag

from ecu.clock import SECOND_NS
from ecu.disk import Disk, DiskError, DiskFault, DiskFull, beside, replace_file
from telemetry.records import Lane, Purpose
from telemetry.spool.ciphers import Aead
from telemetry.spool.vault import KeyLost, Realm, Sealer, Vault

REALM: Final = Realm("examples", b"outrider example v1")
_LANE: Final = Lane.P3
_PURPOSE: Final = Purpose.LEARNING
_MAGIC: Final = b"ORX1"
_SALT_BYTES: Final = 16
_HEAD_BYTES: Final = len(_MAGIC) + _SALT_BYTES
_NONCE: Final = bytes(12)  # the key is derived for the salt, and meets no second plaintext
_NAME: Final = re.compile(r"([0-9]{8,20})\.ex")
_DAY_NS: Final = 24 * 3600 * SECOND_NS


class Why(StrEnum):
    """Why an example isn't kept, or not any more."""

    OLDEST = "oldest"  # there is room for newer ones only
    EXPIRED = "expired"
    UNDATED = "undated"  # of an earlier start, taken while nobody knew the time: how old it is can't be known
    PURGED = "purged"
    DUPLICATE = "duplicate"
    TOO_LARGE = "too_large"
    DAMAGED = "damaged"  # it doesn't decrypt, or its key is gone
    DISK_FULL = "disk_full"
    DISK_FAULT = "disk_fault"


@dataclass(frozen=True, slots=True)
class Now:
    """An instant: of which boot, when in it, and by the wall clock if that can be trusted."""

    boot: str
    boot_ns: int
    wall_ns: int | None


@dataclass(frozen=True, slots=True)
class Example:
    """A crop of size x size x 3 bytes (BGR) and what it should be called. `source` said so.

    Whoever makes one says that the privacy stage has seen the picture it was cut from.
    """

    pixels: bytes
    size: int
    label: str
    source: str
    taken: Now


@dataclass(frozen=True, slots=True)
class ExampleLimits:
    most: int
    max_bytes: int
    days: float


@dataclass(frozen=True, slots=True)
class ExampleCounts:
    """Since the store was opened. Law: found + offered = kept + dropped."""

    found: int
    offered: int
    kept: int
    kept_bytes: int
    dropped: Mapping[str, int]

    @property
    def holds(self) -> bool:
        return self.found + self.offered == self.kept + sum(self.dropped.values())


class _Plain(msgspec.Struct, frozen=True, array_like=True):
    label: str
    source: str
    size: int
    boot: str
    boot_ns: int
    wall_ns: int | None
    pixels: bytes


@dataclass(frozen=True, slots=True)
class _Entry:
    label: str
    size: int
    taken: Now
    file_bytes: int
    digest: bytes


_decoder = msgspec.msgpack.Decoder(_Plain)


class ExampleStore:
    """In a folder of its own. Made by `open`; one caller at a time, and every act but `counts` waits for flash."""

    def __init__(self, disk: Disk, vault: Vault, entropy: Callable[[int], bytes], limits: ExampleLimits) -> None:
        self._disk = disk
        self._vault = vault
        self._entropy = entropy
        self._limits = limits
        self._kept: dict[int, _Entry] = {}
        self._next = 1
        self._found = self._offered = 0
        self._dropped: Counter[Why] = Counter()

    @classmethod
    def open(
        cls, disk: Disk, keys: Sealer, entropy: Callable[[int], bytes], limits: ExampleLimits, now: Now
    ) -> ExampleStore:
        """Raises DiskError. What can't be read is counted and removed; what is too old or too much leaves."""
        disk.make_folder("")
        vault = Vault(disk, keys, entropy, REALM)
        vault.open()  # which syncs the folder: names that a killed process left in memory only are durable now
        store = cls(disk, vault, entropy, limits)
        store._survey()
        store.expire(now)
        store._make_room()
        return store

    @staticmethod
    def files(disk: Disk) -> int:
        """How many examples lie in the folder, read or not. Raises DiskError."""
        return sum(_serial(name) is not None for name in disk.names(""))

    @classmethod
    def destroy(cls, disk: Disk, keys: Sealer, entropy: Callable[[int], bytes]) -> None:
        """As `purge`, of whatever lies in the folder, read or not. Raises DiskError: say it again."""
        vault = Vault(disk, keys, entropy, REALM)
        vault.open()
        vault.shred(_PURPOSE)
        _remove_all(disk)

    # --- in ---

    def put(self, example: Example) -> Why | None:
        """None: it is durable. Otherwise why it wasn't kept; that is counted."""
        self._offered += 1
        plain = _packed(example)
        digest = _digest(example)
        if len(plain) > self._limits.max_bytes // 2:
            return self._drop(Why.TOO_LARGE)
        if any(entry.digest == digest for entry in self._kept.values()):
            return self._drop(Why.DUPLICATE)
        serial, self._next = self._next, self._next + 1
        try:
            self._vault.make_sure(_LANE, _PURPOSE)
            size = self._lay_down(serial, plain)
        except DiskError as error:
            # Its name may have come all the same.
            with contextlib.suppress(DiskError, FileNotFoundError):
                self._disk.remove(_file(serial))
            return self._drop(Why.DISK_FULL if isinstance(error, DiskFull) else Why.DISK_FAULT)
        self._kept[serial] = _Entry(example.label, example.size, example.taken, size, digest)
        self._make_room()
        return None

    # --- out ---

    def read(self, now: Now) -> list[Example]:
        """All that may still be learned from together, the oldest first: those as large as the newest."""
        self.expire(now)
        return [example for serial in self._alike() if (example := self._read(serial)) is not None]

    def together(self) -> int:
        """How many may be learned from together."""
        return len(self._alike())

    def _alike(self) -> list[int]:
        newest = next(reversed(self._kept.values()), None)
        return [serial for serial, entry in self._kept.items() if newest is not None and entry.size == newest.size]

    def by_class(self) -> dict[str, int]:
        return dict(sorted(Counter(entry.label for entry in self._kept.values()).items()))

    def counts(self) -> ExampleCounts:
        size = sum(entry.file_bytes for entry in self._kept.values())
        dropped = {why.value: number for why, number in self._dropped.items()}
        return ExampleCounts(self._found, self._offered, len(self._kept), size, dropped)

    # --- what leaves ---

    def expire(self, now: Now) -> None:
        """Whatever is older than its days leaves; what was taken while nobody knew the time is dated once one does.

        Flash that refuses is asked again the next time: the example is counted as gone, and isn't learned from.
        """
        leaving = {serial: why for serial, entry in self._kept.items() if (why := self._why_gone(entry.taken, now))}
        for serial, why in leaving.items():
            self._forget(serial, why)
        self._sync(bool(leaving))
        for serial, entry in list(self._kept.items()):
            if now.wall_ns is not None and entry.taken.wall_ns is None:
                self._date(serial, entry, now.wall_ns - now.boot_ns)

    def purge(self) -> int:
        """Destroys the key, in both twins: from there on no byte on this disk decrypts. Then the files go, too.

        How many examples that were. Raises DiskError: say it again.
        """
        self._vault.shred(_PURPOSE)
        gone = len(self._kept)
        self._dropped[Why.PURGED] += gone
        self._kept.clear()
        _remove_all(self._disk)
        return gone

    # --- within ---

    def _survey(self) -> None:
        names = self._disk.names("")
        for name in names:
            if name == beside(name.removesuffix(".tmp")) and _serial(name.removesuffix(".tmp")) is not None:
                self._disk.remove(name)
        serials = sorted(serial for name in names if (serial := _serial(name)) is not None)
        self._next = max(serials, default=0) + 1
        self._found = len(serials)
        for serial in serials:
            try:
                example, size = self._unpacked(serial)
            except (KeyLost, InvalidTag, msgspec.DecodeError, DiskFault):
                self._forget(serial, Why.DAMAGED)
            else:
                self._kept[serial] = _Entry(example.label, example.size, example.taken, size, _digest(example))

    def _why_gone(self, taken: Now, now: Now) -> Why | None:
        if taken.wall_ns is None and taken.boot != now.boot:
            return Why.UNDATED
        return Why.EXPIRED if age_ns(taken, now) > self._limits.days * _DAY_NS else None

    def _make_room(self) -> None:
        gone = False
        while self._kept and (
            len(self._kept) > self._limits.most
            or sum(entry.file_bytes for entry in self._kept.values()) > self._limits.max_bytes
        ):
            self._forget(next(iter(self._kept)), Why.OLDEST)
            gone = True
        self._sync(gone)

    def _forget(self, serial: int, why: Why) -> None:
        """Counted as gone whatever flash says; a file that stays is found, and leaves, at the next start."""
        self._kept.pop(serial, None)
        self._drop(why)
        with contextlib.suppress(DiskError, FileNotFoundError):
            self._disk.remove(_file(serial))

    def _sync(self, wanted: bool) -> None:
        if wanted:
            with contextlib.suppress(DiskError):
                self._disk.sync_folder("")

    def _date(self, serial: int, entry: _Entry, boot_began_ns: int) -> None:
        example = self._read(serial)
        if example is None:
            return
        dated = replace(entry.taken, wall_ns=boot_began_ns + entry.taken.boot_ns)
        # Flash that refuses is asked again the next time.
        with contextlib.suppress(DiskError):
            size = self._lay_down(serial, _packed(replace(example, taken=dated)))
            self._kept[serial] = replace(entry, taken=dated, file_bytes=size)

    def _read(self, serial: int) -> Example | None:
        try:
            return self._unpacked(serial)[0]
        except (KeyLost, InvalidTag, msgspec.DecodeError, DiskFault, FileNotFoundError):
            self._forget(serial, Why.DAMAGED)
            return None

    def _lay_down(self, serial: int, plain: bytes) -> int:
        """How many bytes its file has. Raises DiskError."""
        head = _MAGIC + self._entropy(_SALT_BYTES)
        data = head + self._cipher(serial, head[len(_MAGIC) :]).encrypt(_NONCE, plain, head)
        replace_file(self._disk, _file(serial), data)
        return len(data)

    def _unpacked(self, serial: int) -> tuple[Example, int]:
        data = self._disk.read(_file(serial))
        head = data[:_HEAD_BYTES]
        if len(head) < _HEAD_BYTES or head[: len(_MAGIC)] != _MAGIC:
            raise InvalidTag
        plain = _decoder.decode(self._cipher(serial, head[len(_MAGIC) :]).decrypt(_NONCE, data[_HEAD_BYTES:], head))
        taken = Now(plain.boot, plain.boot_ns, plain.wall_ns)
        return Example(plain.pixels, plain.size, plain.label, plain.source, taken), len(data)

    def _cipher(self, serial: int, salt: bytes) -> Aead:
        return self._vault.cipher(_LANE, _PURPOSE, serial.to_bytes(8, "little"), salt)

    def _drop(self, why: Why) -> Why:
        self._dropped[why] += 1
        return why


def _remove_all(disk: Disk) -> None:
    for name in disk.names(""):
        if _serial(name.removesuffix(".tmp")) is not None:
            disk.remove(name)
    disk.sync_folder("")


def age_ns(taken: Now, now: Now) -> int:
    """How old it is at least: exactly within one boot or by two trusted clocks, else by how long this boot has been."""
    if taken.boot == now.boot:
        return now.boot_ns - taken.boot_ns
    if taken.wall_ns is not None and now.wall_ns is not None:
        return now.wall_ns - taken.wall_ns
    return now.boot_ns


def _packed(example: Example) -> bytes:
    taken = example.taken
    plain = _Plain(
        example.label, example.source, example.size, taken.boot, taken.boot_ns, taken.wall_ns, example.pixels
    )
    return msgspec.msgpack.encode(plain)


def _digest(example: Example) -> bytes:
    return hashlib.sha256(example.label.encode() + b"\n" + example.pixels).digest()


def _file(serial: int) -> str:
    return f"{serial:08d}.ex"


def _serial(name: str) -> int | None:
    match = _NAME.fullmatch(name)
    return int(match[1]) if match and _file(int(match[1])) == name else None
