"""Candidates on the receiver's disk: a model package that appears whole, with its verdict beside it.

A package's folder holds what its manifest names and nothing else, so the verdict lies next to it.
"""

from __future__ import annotations

import contextlib
from typing import Final

from ecu.disk import Disk, DiskError, replace_file
from ecu.errors import EnvironmentFault

FOLDER: Final = "candidates"


class NameTaken(EnvironmentFault):
    """Another candidate stands where this one belongs."""


def put_candidate(disk: Disk, name: str, files: dict[str, bytes], told: bytes) -> None:
    """After this returns `candidates/<name>/` and its verdict are durable; before, neither is half there. Once more
    changes nothing. Raises NameTaken, DiskError."""
    disk.make_folder(FOLDER)
    folder, making, verdict = f"{FOLDER}/{name}", f"{FOLDER}/.{name}", f"{FOLDER}/{name}.verdict.json"
    if disk.exists(folder):
        if not disk.exists(verdict) or disk.read(verdict) != told:
            raise NameTaken(
                f"{folder} in the state folder holds another candidate. Move it away; this one waits until then."
            )
        disk.sync_folder(FOLDER)
        return
    _clear(disk, making)
    disk.make_folder(making)
    for file, data in sorted(files.items()):
        disk.create(f"{making}/{file}")
        disk.write_at(f"{making}/{file}", 0, data)
        disk.sync(f"{making}/{file}")
    disk.sync_folder(making)
    replace_file(disk, verdict, told)
    _appear(disk, making, folder)


def _appear(disk: Disk, making: str, folder: str) -> None:
    disk.rename(making, folder)
    try:
        disk.sync_folder(FOLDER)
    except DiskError:
        # It stays in doubt, whatever a later sync says: the name has to be written anew.
        with contextlib.suppress(DiskError):
            disk.rename(folder, making)
        raise


def _clear(disk: Disk, folder: str) -> None:
    """What a kill left of it."""
    if disk.exists(folder):
        # Until that is durable it may be found under the name that a whole one has.
        disk.sync_folder(FOLDER)
        for file in disk.names(folder):
            disk.remove(f"{folder}/{file}")
        disk.remove(folder)
