"""Two slots of one kind on flash, and the boot record that says which of them is good.

    <kind>/boot.0, boot.1     the boot record, version 1: JSON in a TwinRecord (docs/formats/boot-record.md, frozen)
    <kind>/a/bundle.json      the manifest; written last, removed first: without it the slot is empty
    <kind>/a/files/           the bundle's files, which nothing but their hashes makes believable

Before a slot is written, both twins say that nothing is in it; before a slot is named good, all of it is durable and
read back. "factory" is what the runtime was shipped with: it can't be written, and is always there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Final

import msgspec

from ecu.disk import UNREADABLE, Disk, DiskError, DiskFault, DiskFull, replace_file
from ecu.errors import shown
from ecu.twin import OVERHEAD_BYTES, TwinLost, TwinRecord
from ota.attempts import Boot
from ota.errors import MOST_WORDS, NoRoomForUpdate, OtaError, TrustError
from ota.kinds import Kind
from ota.machine import State
from ota.manifest import BLOCK_BYTES, BundleManifest, FileEntry, bundle_digest, decode_manifest, parents
from ota.newer import with_unknown

_MANIFEST: Final = "bundle.json"
_FILES: Final = "files"


class Slot(StrEnum):
    FACTORY = "factory"
    A = "a"
    B = "b"


class SlotDamaged(OtaError):
    """What lies in the slot isn't what was installed there."""


class Installed(msgspec.Struct, frozen=True, omit_defaults=True):
    """A release that lies whole in a slot. `digest` is its manifest's; once it is kept, nothing of its kind below the
    release `minimum_bootable` boots any more."""

    digest: str
    release: int
    title: str
    minimum_bootable: int = 0


@dataclass(frozen=True, slots=True)
class Damage:
    """What a start found wrong with what was good, for people; `release` is None where not even its record is whole."""

    release: Installed | None
    words: str


class BootRecord(msgspec.Struct, frozen=True):
    """Which slot is good, and how far the trial of the other one got. `spent_ns` is powered time in this state;
    `words` say how the last trial ended. Below the release `bootable_from` nothing boots but to be updated. `boots` are
    the launcher's, of this trial, oldest first; `left` is how often in a row a release that only a start can try,
    by its digest, came to nothing."""

    v: int = 1
    good: Slot = Slot.FACTORY
    trial: Slot | None = None
    state: State = State.COMMITTED
    attempts: int = 0
    spent_ns: int = 0
    slots: dict[Slot, Installed] = {}
    words: str = ""
    bootable_from: int = 0
    boots: list[Boot] = []
    left: dict[str, int] = {}

    def installed(self, slot: Slot) -> Installed | None:
        return self.slots.get(slot)

    @property
    def spare(self) -> Slot:
        """The slot that the next release goes into: never the good one."""
        return Slot.B if self.good is Slot.A else Slot.A


_KEYS: Final = frozenset(BootRecord.__struct_fields__)
_SLOTS_KEYS: Final = frozenset(Installed.__struct_fields__)


def installed_of(manifest: BundleManifest, manifest_bytes: bytes) -> Installed:
    """What the boot record says of a slot that holds it whole."""
    return Installed(bundle_digest(manifest_bytes), manifest.release, manifest.title, manifest.minimum_bootable or 0)


class Slots:
    """One kind's. Raises DiskError."""

    def __init__(self, disk: Disk, kind: Kind) -> None:
        self._disk = disk
        self._kind = kind
        disk.make_folder(kind)
        self._twin = TwinRecord(disk, f"{kind}/boot")
        self.record, self.lost = self._read()
        self.damage = Damage(None, self.record.words) if self.lost else None

    def write(self, record: BootRecord) -> None:
        """Durable in both twins when it returns."""
        record = msgspec.structs.replace(record, words=shown(record.words)[:MOST_WORDS])
        if self.lost:
            self._twin.start_anew(msgspec.json.encode(record))
            self.lost = False
        else:
            self._twin.write_both(self._payload(record))
        self.record = record

    def path(self, slot: Slot) -> PurePosixPath:
        """The folder of the slot's files, relative to the disk's."""
        return PurePosixPath(self._kind, slot, _FILES)

    # --- writing a slot ---------------------------------------------------------------------------

    def empty(self, slot: Slot) -> None:
        """From here on nothing boots from the slot. What its files hold stays, for blocks that are the same."""
        record = self.record
        if record.trial is slot:
            record = msgspec.structs.replace(record, trial=None, state=State.INCONCLUSIVE)
        if slot in record.slots:
            others = {name: installed for name, installed in record.slots.items() if name is not slot}
            record = msgspec.structs.replace(record, slots=others)
        if record != self.record:
            self.write(record)
        manifest = f"{self._kind}/{slot}/{_MANIFEST}"
        if self._disk.exists(manifest):
            # Whether a cut brings it back makes no difference: the record names nothing there any more.
            self._disk.remove(manifest)
        self._disk.make_folder(str(self.path(slot)))

    def has_block(self, slot: Slot, entry: FileEntry, index: int) -> bool:
        """Whether those bytes lie there already; they may not be durable before `seal`."""
        try:
            data = self.block(slot, entry, index)
        except UNREADABLE:
            return False
        return hashlib.sha256(data).hexdigest() == entry.blocks[index]

    def put_block(self, slot: Slot, entry: FileEntry, index: int, data: bytes) -> None:
        """Durable after `sync_blocks`."""
        path = f"{self.path(slot)}/{entry.path}"
        if not self._disk.exists(path) or self._disk.is_folder(path):
            self._create(path)
            self._disk.sync_folder(path.rpartition("/")[0])
        self._disk.write_at(path, index * BLOCK_BYTES, data)

    def sync_blocks(self, slot: Slot, entry: FileEntry) -> None:
        """Those of that file. May be called from another thread while more are put."""
        self._disk.sync(f"{self.path(slot)}/{entry.path}")

    def block(self, slot: Slot, entry: FileEntry, index: int) -> bytes:
        """What lies there, believed in nothing. Raises FileNotFoundError, DiskFault."""
        return self.part(slot, entry, index * BLOCK_BYTES, entry.block_bytes(index))

    def part(self, slot: Slot, entry: FileEntry, offset: int, length: int) -> bytes:
        """As `block`, of any part of a file; fewer bytes where it ends."""
        return self._disk.read_at(f"{self.path(slot)}/{entry.path}", offset, length)

    def read(self, slot: Slot, name: str) -> bytes:
        """A file of the slot, believed in nothing. Raises FileNotFoundError, DiskFault."""
        return self._disk.read(f"{self.path(slot)}/{name}")

    def seal(self, slot: Slot, manifest_bytes: bytes) -> Installed:
        """All blocks are there: makes the whole durable, reads it back, and only then names it. Raises SlotDamaged, and
        NoRoomForUpdate when that takes more space than there is."""
        manifest = decode_manifest(manifest_bytes)
        try:
            self._trim(slot, manifest)
            for entry in manifest.files:
                self._disk.sync(f"{self.path(slot)}/{entry.path}")
                self._disk.forget(f"{self.path(slot)}/{entry.path}")
            for inside in self._folders(slot, manifest):
                self._disk.sync_folder(inside)
            self._demand_whole(slot, manifest)
            replace_file(self._disk, f"{self._kind}/{slot}/{_MANIFEST}", manifest_bytes)
        except DiskFull as error:
            self.give_back(slot)
            raise NoRoomForUpdate(
                f"{manifest.title} is fetched, and the disk was full before it was complete: {error} What was fetched "
                "is removed again; the installed release goes on."
            ) from error
        return installed_of(manifest, manifest_bytes)

    def give_back(self, slot: Slot) -> None:
        """Removes what an unfinished download left, so that its space is free again."""
        folder = str(self.path(slot))
        if self._disk.exists(folder):
            self._empty(folder)

    # --- reading a slot ---------------------------------------------------------------------------

    def settle(self) -> Slot:
        """The slot to boot, re-hashed just now: the good one. Where it is damaged, which `damage` then says, another
        that was good once, or the factory's."""
        words, good = "", self.record.good
        for slot in (good, *self._once_good(), Slot.FACTORY):
            try:
                self.demand_bootable(slot)
            except SlotDamaged as damage:
                words = words or str(damage)
            else:
                if slot is not good:
                    words = f"{words} Slot {slot} takes its place."
                    self.damage = Damage(self.record.installed(good), words)
                    self.write(msgspec.structs.replace(self.record, good=slot, words=words))
                return slot
        raise AssertionError("the factory's slot always boots")

    def _once_good(self) -> list[Slot]:
        """Newest first: what is below the least that may boot gives way to what isn't."""
        slots = [slot for slot in self.record.slots if slot not in (self.record.good, self.record.trial)]
        return sorted(slots, key=lambda slot: -self.record.slots[slot].release)

    def demand_bootable(self, slot: Slot) -> None:
        """Every byte is what was installed, and can be read. Raises SlotDamaged."""
        if slot is Slot.FACTORY:
            return
        installed = self.record.installed(slot)
        if installed is None:
            raise SlotDamaged(f"Nothing is installed in slot {slot} of {self._kind}.")
        try:
            manifest = self.manifest(slot)
            if manifest is None or bundle_digest(self._manifest_bytes(slot)) != installed.digest:
                raise SlotDamaged(f"The manifest in slot {slot} of {self._kind} isn't the one that was installed.")
            self._demand_whole(slot, manifest)
        except UNREADABLE as error:
            raise SlotDamaged(f"Slot {slot} of {self._kind} can't be read any more. {error}") from error

    def manifest(self, slot: Slot) -> BundleManifest | None:
        """What the slot says it holds; None when it is empty or damaged. Raises DiskStarved."""
        try:
            return decode_manifest(self._manifest_bytes(slot))
        except (TrustError, *UNREADABLE):
            return None

    # --- inside -----------------------------------------------------------------------------------

    def _read(self) -> tuple[BootRecord, bool]:
        """The record, and whether both of its twins were lost: then only the factory's release is known to be good."""
        try:
            payload = self._payload_there()
        except (TwinLost, DiskFault):
            # As the launcher has it: two sectors of one kind must not keep the whole agent from its start.
            return BootRecord(words="both boot records were damaged"), True
        try:
            return (msgspec.json.decode(payload, type=BootRecord) if payload is not None else BootRecord()), False
        except (msgspec.DecodeError, UnicodeDecodeError):
            return BootRecord(words="both boot records were written by nobody that this version knows"), True

    def _payload_there(self) -> bytes | None:
        """What can be read and not be settled just now is no less true; the next write settles it, or fails."""
        try:
            return self._twin.read_both()
        except DiskError:
            return self._twin.peek()

    def _payload(self, record: BootRecord) -> bytes:
        payload, before = msgspec.json.encode(record), self._twin.read()
        whole = with_unknown(payload, before, _KEYS, _SLOTS_KEYS) if before is not None else payload
        return whole if len(whole) + OVERHEAD_BYTES <= self._twin.capacity else payload

    def _manifest_bytes(self, slot: Slot) -> bytes:
        return self._disk.read(f"{self._kind}/{slot}/{_MANIFEST}")

    def _trim(self, slot: Slot, manifest: BundleManifest) -> None:
        """No file and no folder but the bundle's, none longer than it says."""
        sizes = {entry.path: entry.size for entry in manifest.files}
        folder = str(self.path(slot))
        for inside in self._folders(slot, manifest):
            for name in self._disk.names(inside) if self._disk.is_folder(inside) else []:
                self._trim_one(f"{inside}/{name}", f"{inside}/{name}".removeprefix(f"{folder}/"), sizes)
        for entry in manifest.files:
            if not entry.size and not self._disk.exists(f"{folder}/{entry.path}"):
                self._create(f"{folder}/{entry.path}")

    def _trim_one(self, path: str, name: str, sizes: Mapping[str, int]) -> None:
        if self._disk.is_folder(path):
            if not any(wanted.startswith(f"{name}/") for wanted in sizes):
                self._remove(path)
        elif name not in sizes:
            self._remove(path)
        elif self._disk.size(path) > sizes[name]:
            self._disk.truncate(path, sizes[name])

    def _demand_whole(self, slot: Slot, manifest: BundleManifest) -> None:
        folder = str(self.path(slot))
        if self._names(slot) != sorted(entry.path for entry in manifest.files):
            raise SlotDamaged(f"Slot {slot} of {self._kind} doesn't hold the files of {manifest.title}.")
        for entry in manifest.files:
            whole = hashlib.sha256()
            for part in self._parts(f"{folder}/{entry.path}"):
                whole.update(part)
            if whole.hexdigest() != entry.sha256:
                raise SlotDamaged(f"{entry.path} in slot {slot} of {self._kind} isn't what was installed.")

    # --- inside: trees ----------------------------------------------------------------------------

    def _names(self, slot: Slot) -> list[str]:
        """Of all files below the slot's folder, and of folders that hold none."""
        folder = str(self.path(slot))
        return sorted(self._below(folder, "")) if self._disk.exists(folder) else []

    def _below(self, folder: str, prefix: str) -> Iterator[str]:
        for name in self._disk.names(folder):
            inside = f"{folder}/{name}"
            if self._disk.is_folder(inside) and self._disk.names(inside):
                yield from self._below(inside, f"{prefix}{name}/")
            else:
                yield f"{prefix}{name}"

    def _folders(self, slot: Slot, manifest: BundleManifest) -> list[str]:
        inside = {folder for entry in manifest.files for folder in parents(entry.path)}
        return [str(self.path(slot)), *(f"{self.path(slot)}/{folder}" for folder in sorted(inside))]

    def _create(self, path: str) -> None:
        """Also where something else stands in its way, or in that of its folder."""
        for folder in reversed([*parents(path)]):
            if self._disk.exists(folder) and not self._disk.is_folder(folder):
                self._remove(folder)
        if self._disk.exists(path):
            self._remove(path)
        self._disk.make_folder(path.rpartition("/")[0])
        self._disk.create(path)

    def _remove(self, path: str) -> None:
        if self._disk.is_folder(path):
            self._empty(path)
        self._disk.remove(path)

    def _empty(self, folder: str) -> None:
        """What a cut brings back of it, the next download takes or removes."""
        for name in self._disk.names(folder):
            self._remove(f"{folder}/{name}")

    def _parts(self, path: str) -> Iterator[bytes]:
        at = 0
        while part := self._disk.read_at(path, at, BLOCK_BYTES):
            at += len(part)
            yield part
