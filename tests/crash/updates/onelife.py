"""One life of a vehicle on a real disk, as a process: `python -m tests.crash.updates.onelife FOLDER KIND`.

FOLDER/state is its flash, FOLDER/witness has a byte for each promise. An error of the disk ends it: a start comes next.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

from ecu.crashdisk import CrashDisk
from ecu.disk import Disk, DiskError, RealDisk
from ota.errors import OtaError
from ota.kinds import Kind
from tests.crash.updates.lives import changes
from tests.crash.updates.vehicle import Diary, Life


class Witnessed(RealDisk):
    """Tells the witness of each promise."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "state")
        self.calls: list[None] = []
        self._witness = folder / "witness"

    def mark(self, name: str) -> None:
        with self._witness.open("ab", buffering=0) as file:
            file.write(b".")

    def after_shutdown(self) -> CrashDisk:
        return loaded(self)


def loaded(real: RealDisk) -> CrashDisk:
    """What lies on a real disk, on one that is asked about."""
    disk = CrashDisk()
    if real.exists(""):
        _load(real, disk, "")
    return disk.after_shutdown()


def _load(real: Disk, disk: CrashDisk, folder: str) -> None:
    for name in real.names(folder):
        path = f"{folder}/{name}" if folder else name
        if real.is_folder(path):
            disk.make_folder(path)
            _load(real, disk, path)
        else:
            disk.create(path)
            disk.write_at(path, 0, real.read(path))


def main(folder: Path, kind: Kind) -> None:
    disk = Witnessed(folder)
    with contextlib.suppress(DiskError, OtaError):
        disk.make_folder("")
        changes(Life(disk, Diary(kind)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Kind(sys.argv[2]))
