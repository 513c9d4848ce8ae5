"""Deltas beside a repository's files: made between two published releases, stored under both files' hashes.

Nobody signs them and anybody may make them anew: what a vehicle makes with one is held against the signed blocks.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from ecu.disk import Disk, beside, move_in, remove_beside
from ota.delta import Ends
from ota.errors import RepositoryFault
from ota.layout import delta_path
from ota.manifest import BLOCK_BYTES, BundleManifest, FileEntry
from ota.repository.deltamaker import make
from ota.repository.files import Watch, is_stored, stored_path
from ota.repository.images import ImageRepository

FOLDER: Final = "image/deltas"


@dataclass(frozen=True, slots=True)
class Delta:
    """What became of one file that differs between two releases. `delta_bytes` is None where the full file is as
    good."""

    file: str
    full_bytes: int
    delta_bytes: int | None


def make_deltas(
    disk: Disk, images: ImageRepository, old_target: str, new_target: str, watch: Watch
) -> tuple[Delta, ...]:
    """For every file of the new release that the old one has otherwise under the same name. Durable when it returns;
    those that are there already are kept. `watch` is told the bytes of each block of `delta_files` that was dealt with.

    Raises RepositoryFault for releases that aren't published or whose files are lost; DiskError.
    """
    pairs = delta_files(images.manifest(old_target), images.manifest(new_target))
    disk.make_folder(FOLDER)
    made = tuple(_stored(disk, old, new, watch) for old, new in pairs)
    disk.sync_folder(FOLDER)
    return made


def delta_files(old: BundleManifest, new: BundleManifest) -> Sequence[tuple[FileEntry, FileEntry]]:
    """The pairs of files that a delta is made for."""
    olds = {entry.path: entry for entry in old.files}
    pairs = [(olds[entry.path], entry) for entry in new.files if entry.path in olds and entry.size]
    return [(before, after) for before, after in pairs if before.sha256 != after.sha256]


def stored_delta(old: FileEntry, new: FileEntry) -> str:
    """Where it lies in the repository."""
    return f"image/{delta_path(new.sha256, old.sha256)}"


def _stored(disk: Disk, old: FileEntry, new: FileEntry, watch: Watch) -> Delta:
    path = stored_delta(old, new)
    if disk.exists(path):
        watch(new.size)
        return Delta(new.path, new.size, disk.size(path))
    for entry in (old, new):
        _demand_whole(disk, entry)
    try:
        size = _made(disk, old, new, path, watch)
    finally:
        with contextlib.suppress(FileNotFoundError):
            disk.remove(_bodies_path(path))
    return Delta(new.path, new.size, size)


def _demand_whole(disk: Disk, entry: FileEntry) -> None:
    """What is made of a damaged file would be damaged for good. Raises RepositoryFault."""
    whole, path = hashlib.sha256(), stored_path(entry)
    for index in range(len(entry.blocks) if is_stored(disk, entry) else 0):
        whole.update(disk.read_at(path, index * BLOCK_BYTES, BLOCK_BYTES))
    if whole.hexdigest() != entry.sha256:
        raise RepositoryFault(
            f"{path} of the repository, which is {entry.path}, is lost or damaged. Add its folder again: outrider ota "
            "add."
        )


def _made(disk: Disk, old: FileEntry, new: FileEntry, path: str, watch: Watch) -> int | None:
    """Its bytes; None where it isn't worth it. The head is known last, so the bodies wait in a file of their own."""
    bodies = _Appended(disk, _bodies_path(path))
    read_old, read_new = (partial(disk.read_at, stored_path(entry)) for entry in (old, new))
    head = make(read_old, read_new, Ends(new.sha256, new.size, old.sha256, old.size), bodies.append, watch)
    if head is None:
        return None
    remove_beside(disk, path)
    whole = _Appended(disk, beside(path))
    whole.append(head)
    for part in bodies.parts():
        whole.append(part)
    disk.sync(beside(path))
    move_in(disk, path)
    return whole.size


def _bodies_path(path: str) -> str:
    return f"{path}.bodies"


class _Appended:
    """A file that grows at its end."""

    def __init__(self, disk: Disk, path: str) -> None:
        if disk.exists(path):
            disk.remove(path)
        disk.create(path)
        self._disk = disk
        self._path = path
        self.size = 0

    def append(self, data: bytes) -> None:
        self._disk.write_at(self._path, self.size, data)
        self.size += len(data)

    def parts(self) -> Iterator[bytes]:
        return (self._disk.read_at(self._path, at, BLOCK_BYTES) for at in range(0, self.size, BLOCK_BYTES))
