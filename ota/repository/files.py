"""A bundle's files on their way into the repository: read block by block, stored once under their hash."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from ecu.disk import Disk, DiskError, beside, move_in, remove_beside, replace_file
from ecu.errors import shown
from ota.errors import RepositoryFault
from ota.layout import file_path
from ota.manifest import BLOCK_BYTES, FileEntry, file_entry

FOLDER: Final = "image/files"

Watch = Callable[[int], None]
"""Told the bytes of every block that was dealt with."""


def files_of(folder: Path) -> dict[str, Path]:
    """The plain files below a folder by their names in a bundle: what lies in a folder of it has that one before its
    own. Rising. Raises RepositoryFault."""
    try:
        found = dict(_below(folder, ""))
    except OSError as error:
        raise RepositoryFault(f"Can't read the folder {shown(folder)}: {error.strerror}.") from error
    if not found:
        raise RepositoryFault(f"The folder {shown(folder)} is empty: there is nothing to release.")
    return dict(sorted(found.items()))


def _below(folder: Path, prefix: str) -> Iterator[tuple[str, Path]]:
    for entry in folder.iterdir():
        if entry.is_symlink() or not (entry.is_dir() or entry.is_file()):
            raise RepositoryFault(f"{shown(entry)} isn't a plain file: a bundle is a folder of files.")
        if entry.is_dir():
            yield from _below(entry, f"{prefix}{entry.name}/")
        else:
            yield f"{prefix}{entry.name}", entry


def entry_of(name: str, path: Path, watch: Watch) -> FileEntry:
    """Its size and hashes. Raises RepositoryFault."""
    try:
        return file_entry(name, _blocks_of(path, watch))
    except ValidationError as error:
        raise RepositoryFault(
            f"{shown(path)} can't be in a bundle: {shown(error.errors()[0]['msg'])}. A file's name, and that of each "
            "folder that a runtime's lies in, has up to 128 letters, digits, dots, dashes and underscores and begins "
            "with a letter, a digit or an underscore; a file has at most 8 GiB."
        ) from error


def is_stored(disk: Disk, entry: FileEntry) -> bool:
    """Whether the repository holds a file of that hash and size; not whether all its bytes are right."""
    path = stored_path(entry)
    return disk.exists(path) and disk.size(path) == entry.size


def take(disk: Disk, path: Path, entry: FileEntry, watch: Watch) -> None:
    """Durable under its hash when it returns, and never there by half. Raises RepositoryFault, DiskError."""
    stored = stored_path(entry)
    disk.make_folder(FOLDER)
    if not _is_whole(disk, stored, entry):
        remove_beside(disk, stored)
        try:
            _copy(disk, path, entry, beside(stored), watch)
        except (DiskError, RepositoryFault):
            with contextlib.suppress(DiskError, FileNotFoundError):
                disk.remove(beside(stored))
            raise
        move_in(disk, stored)
    # Also of one that was there: whoever brought it may have been killed before its name was durable.
    disk.sync_folder(FOLDER)


def keep(disk: Disk, data: bytes) -> None:
    """Durable under its hash, as `take`, for what is in memory. Raises DiskError."""
    path = f"image/{file_path(hashlib.sha256(data).hexdigest())}"
    disk.make_folder(FOLDER)
    if not disk.exists(path) or disk.read(path) != data:
        replace_file(disk, path, data)
    disk.sync_folder(FOLDER)


def stored_path(entry: FileEntry) -> str:
    return f"image/{file_path(entry.sha256)}"


def _copy(disk: Disk, path: Path, entry: FileEntry, to: str, watch: Watch) -> None:
    disk.create(to)
    at = 0
    for index, block in enumerate(_blocks_of(path, watch)):
        if index >= len(entry.blocks) or hashlib.sha256(block).hexdigest() != entry.blocks[index]:
            raise RepositoryFault(f"{shown(path)} changed while it was read. Add it again when nobody writes to it.")
        disk.write_at(to, at, block)
        at += len(block)
    if at != entry.size:
        raise RepositoryFault(f"{shown(path)} became shorter while it was read. Add it again when nobody writes to it.")
    disk.sync(to)


def _is_whole(disk: Disk, path: str, entry: FileEntry) -> bool:
    if not disk.exists(path) or disk.size(path) != entry.size:
        return False
    blocks = (disk.read_at(path, index * BLOCK_BYTES, BLOCK_BYTES) for index in range(len(entry.blocks)))
    return all(hashlib.sha256(block).hexdigest() == wanted for block, wanted in zip(blocks, entry.blocks, strict=True))


def _blocks_of(path: Path, watch: Watch) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                yield block
                watch(len(block))
    except OSError as error:
        raise RepositoryFault(f"Can't read {shown(path)}: {error.strerror}.") from error
