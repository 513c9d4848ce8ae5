"""What named vehicles need of a repository, put on a medium: a folder, or one .zip, laid out as the repository is.

A vehicle believes it no more than what comes over a network: all signatures and hashes go along, and nothing else does.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from ecu.disk import Disk, RealDisk, beside, move_in, remove_beside
from ota.layout import target_path
from ota.manifest import BLOCK_BYTES, BundleManifest
from ota.medium import MEDIUM_NAME, ZIP_NAME
from ota.repository.desk import Desk
from ota.repository.files import stored_path

DELTAS: Final = "image/deltas"
_DELTA: Final = re.compile(r"([0-9a-f]{64})\.[0-9a-f]{64}", re.ASCII)
_ZIP_64_FROM: Final = 1 << 31
_NO_DATE: Final = (1980, 1, 1, 0, 0, 0)

Watch = Callable[[int], None]
"""Told the bytes of each piece that was written."""


def paths_for(disk: Disk, desk: Desk, vehicles: Sequence[str]) -> tuple[str, ...]:
    """The files of the repository that these vehicles need, each once, timestamps last. Raises RepositoryFault."""
    targets = sorted({target for name in vehicles for target in desk.director.assignment(name).targets})
    manifests = [desk.images.manifest(target) for target in targets]
    named = [f"image/{target_path(target, desk.images.target(target).hashes['sha256'])}" for target in targets]
    metadata = [path for name in vehicles for path in desk.director.metadata_of(name)]
    files = sorted({stored_path(entry) for manifest in manifests for entry in manifest.files})
    paths = (*files, *_deltas(disk, manifests), *named, *desk.images.metadata(), *metadata)
    return tuple(sorted(dict.fromkeys(paths), key=lambda path: path.endswith("/timestamp.json")))


def write_folder(disk: Disk, paths: Sequence[str], to: Path, watch: Watch) -> Path:
    """Into `to`/outrider-updates, each file whole or not there; the folder. Raises DiskError."""
    medium = RealDisk(to / MEDIUM_NAME)
    medium.make_folder("")
    for path in paths:
        medium.make_folder(path.rpartition("/")[0])
        remove_beside(medium, path)
        medium.create(beside(path))
        at = 0
        for block in _blocks(disk, path):
            medium.write_at(beside(path), at, block)
            at += len(block)
            watch(len(block))
        medium.sync(beside(path))
        move_in(medium, path)
    return medium.root


def write_zip(disk: Disk, paths: Sequence[str], to: Path, watch: Watch) -> Path:
    """Into `to`/outrider-updates.zip, whole or not there; the file. Its members are stored as they are. Raises
    DiskError, OSError."""
    medium = RealDisk(to)
    medium.make_folder("")
    remove_beside(medium, ZIP_NAME)
    with zipfile.ZipFile(to / beside(ZIP_NAME), "x", zipfile.ZIP_STORED) as archive:
        for path in paths:
            info = zipfile.ZipInfo(path, _NO_DATE)
            with archive.open(info, "w", force_zip64=disk.size(path) >= _ZIP_64_FROM) as member:
                for block in _blocks(disk, path):
                    member.write(block)
                    watch(len(block))
    medium.sync(beside(ZIP_NAME))
    move_in(medium, ZIP_NAME)
    return to / ZIP_NAME


def _deltas(disk: Disk, manifests: Sequence[BundleManifest]) -> Iterator[str]:
    """All that there are to the files of these releases."""
    wanted = {entry.sha256 for manifest in manifests for entry in manifest.files}
    names = disk.names(DELTAS) if disk.exists(DELTAS) else []
    whole = (found for name in names if (found := _DELTA.fullmatch(name)))
    return (f"{DELTAS}/{found[0]}" for found in whole if found[1] in wanted)


def _blocks(disk: Disk, path: str) -> Iterator[bytes]:
    return (disk.read_at(path, at, BLOCK_BYTES) for at in range(0, disk.size(path), BLOCK_BYTES))
