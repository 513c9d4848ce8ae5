"""Releases on a shelf, without a desk: a source of their files and deltas, and a vehicle's slots that hold one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from ecu.disk import Disk
from ota.delta import Ends
from ota.errors import FetchError, NotThere
from ota.kinds import Kind
from ota.landing import Progress
from ota.layout import delta_path, file_path
from ota.manifest import BLOCK_BYTES, BundleManifest, encode_manifest, file_entry
from ota.slots import BootRecord, Slot, Slots
from ota.source import PART_BYTES


class Shelf:
    """A source whose files lie in a folder, by the paths that vehicles ask for. Breaks off after `cut` bytes."""

    def __init__(self, folder: Path, cut: int = 1 << 62) -> None:
        self._folder = folder
        self._left = cut
        self.given = 0

    def put(self, path: str, data: bytes) -> None:
        (self._folder / path).parent.mkdir(parents=True, exist_ok=True)
        (self._folder / path).write_bytes(data)

    def read(self, path: str, offset: int, most: int) -> Iterator[bytes]:
        try:
            file = (self._folder / path).open("rb", buffering=0)
        except FileNotFoundError as error:
            raise NotThere(f"There is no {path}.") from error
        with file:
            file.seek(offset)
            while most > 0 and (part := file.read(min(PART_BYTES, most, self._left))):
                self.given += len(part)
                self._left -= len(part)
                most -= len(part)
                yield part
            if most > 0 and not self._left:
                raise FetchError("The link was cut.")

    def close(self) -> None: ...


def blocks(data: bytes) -> Iterator[bytes]:
    return (data[at : at + BLOCK_BYTES] for at in range(0, len(data), BLOCK_BYTES))


def bundle(files: Mapping[str, bytes], release: int) -> BundleManifest:
    entries = tuple(file_entry(name, blocks(data)) for name, data in sorted(files.items()))
    return BundleManifest(
        kind=Kind.MODEL, name="bench", version=f"{release}.0", release=release, hardware=("any",), files=entries
    )


def ends_of(old: bytes, new: bytes) -> Ends:
    return Ends(hashlib.sha256(new).hexdigest(), len(new), hashlib.sha256(old).hexdigest(), len(old))


def reader(data: bytes) -> Callable[[int, int], bytes]:
    return lambda offset, length: data[offset : offset + length]


def stocked(
    folder: Path, manifest: BundleManifest, files: Mapping[str, bytes], delta: bytes | None, ends: Ends
) -> Shelf:
    shelf = Shelf(folder)
    for entry in manifest.files:
        shelf.put(file_path(entry.sha256), files[entry.path])
    if delta is not None:
        shelf.put(delta_path(ends.new_sha256, ends.old_sha256), delta)
    return shelf


def vehicle(disk: Disk, manifest: BundleManifest, files: Mapping[str, bytes]) -> Slots:
    """Slot a is good and holds the release; b is empty."""
    slots = Slots(disk, Kind.MODEL)
    slots.empty(Slot.A)
    for entry in manifest.files:
        for index, block in enumerate(blocks(files[entry.path])):
            slots.put_block(Slot.A, entry, index, block)
    installed = slots.seal(Slot.A, encode_manifest(manifest))
    slots.write(BootRecord(good=Slot.A, slots={Slot.A: installed}))
    slots.empty(Slot.B)
    return slots


def unwatched(_: Progress) -> None: ...
