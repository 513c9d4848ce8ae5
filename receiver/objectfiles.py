"""Objects as files: a folder a vehicle, in it `<sha256>` whole and durable, `<sha256>.part` as far as it came.

The order in which an object becomes stored: its bytes are synced, their digest is compared, the file gets its name, the
name is synced, and only then a row is committed (receiver/objectrows.py). A kill in between leaves a file that is whole
and has no row: it is found, checked and committed when the vehicle asks again.
"""

from __future__ import annotations

import contextlib
import hashlib
from typing import Final

from ecu.clock import Clock
from ecu.disk import Disk, DiskError, DiskFull
from telemetry.objects.wire import is_digest

PARTIALS_PER_VEHICLE: Final = 16
"""Of more, the one that waited longest for its next slice is thrown away. An uplink sends one object at a time."""

_PART: Final = ".part"

Place = tuple[str, str]


class ObjectFiles:
    """`disk` is the objects' folder. It blocks; calls for one vehicle come one at a time. Raises DiskError.

    How long a partial file has waited is counted from the start of this process.
    """

    def __init__(self, disk: Disk, clock: Clock) -> None:
        self._disk = disk
        self._clock = clock
        self._touched_ns: dict[Place, int] = {}
        self._other: dict[Place, int] = {}
        """How many bytes there were of a partial file when its digest was last found to be another."""

    def open(self) -> None:
        """Makes the folder, and looks which partial files there are."""
        self._disk.make_folder("")
        for vehicle in self._disk.names(""):
            for name in self._disk.names(vehicle):
                if name.endswith(_PART) and is_digest(name.removesuffix(_PART)):
                    self._touched_ns[vehicle, name.removesuffix(_PART)] = self._clock.boot_ns()

    @staticmethod
    def path(vehicle: str, sha256: str) -> str:
        """Of a stored object, below the folder."""
        return f"{vehicle}/{sha256}"

    def have(self, vehicle: str, sha256: str) -> int:
        """How many bytes have come of an object that isn't stored."""
        part = _part(vehicle, sha256)
        return self._disk.size(part) if self._disk.exists(part) else 0

    def partial_bytes(self, vehicle: str, but: str) -> int:
        """What the vehicle's other partial files take."""
        others = [sha256 for owner, sha256 in list(self._touched_ns) if owner == vehicle and sha256 != but]
        return sum(self.have(vehicle, sha256) for sha256 in others)

    def take(self, vehicle: str, sha256: str, offset: int, data: bytes) -> int:
        """Adds a slice at `offset`, which is what there is; how many bytes there are then, synced.

        After an error there is what was before, or nothing: bytes that can't be synced aren't believed.
        """
        part = _part(vehicle, sha256)
        if not self._disk.exists(part):
            self._make_room_for_one(vehicle)
            self._disk.make_folder(vehicle)
            self._disk.create(part)
        self._touched_ns[vehicle, sha256] = self._clock.boot_ns()
        try:
            self._disk.write_at(part, offset, data)
            self._disk.sync(part)
        except DiskError as error:
            self._take_back(vehicle, sha256, offset if isinstance(error, DiskFull) else 0)
            raise
        return offset + len(data)

    def _take_back(self, vehicle: str, sha256: str, offset: int) -> None:
        try:
            if offset:
                self._disk.truncate(_part(vehicle, sha256), offset)
                return
        except DiskError:
            pass  # what can't be cut goes altogether
        with contextlib.suppress(DiskError):
            self.discard(vehicle, sha256)

    def finish(self, vehicle: str, sha256: str) -> int | None:
        """Bytes of the object when all of it is there, durable under its own name; None when it isn't all, or other."""
        whole, part = self.path(vehicle, sha256), _part(vehicle, sha256)
        if self._disk.exists(whole) and _digest(self._disk, whole) == sha256:
            # A killed process may have left the name in memory only; what was begun anew since is of no use.
            self._disk.sync_folder(vehicle)
            self.discard(vehicle, sha256)
            return self._disk.size(whole)
        have, place = self.have(vehicle, sha256), (vehicle, sha256)
        # A vehicle may ask as often as it likes: the same bytes are looked at once.
        if not have or self._other.get(place) == have:
            return None
        if _digest(self._disk, part) != sha256:
            self._other[place] = have
            return None
        self._disk.sync(part)
        self._disk.rename(part, whole)
        self._touched_ns.pop(place, None)
        self._other.pop(place, None)
        self._disk.sync_folder(vehicle)
        return self._disk.size(whole)

    def discard(self, vehicle: str, sha256: str) -> None:
        """Throws away what came of an object."""
        self._touched_ns.pop((vehicle, sha256), None)
        self._other.pop((vehicle, sha256), None)
        with contextlib.suppress(FileNotFoundError):
            self._disk.remove(_part(vehicle, sha256))

    def waited_since(self, boot_ns: int) -> list[Place]:
        """Partial files that have had no slice since."""
        return [place for place, touched_ns in list(self._touched_ns.items()) if touched_ns < boot_ns]

    def _make_room_for_one(self, vehicle: str) -> None:
        mine = sorted((ns, sha256) for (owner, sha256), ns in list(self._touched_ns.items()) if owner == vehicle)
        for _, sha256 in mine[: max(0, len(mine) + 1 - PARTIALS_PER_VEHICLE)]:
            self.discard(vehicle, sha256)


def _part(vehicle: str, sha256: str) -> str:
    return f"{vehicle}/{sha256}{_PART}"


def _digest(disk: Disk, path: str) -> str:
    return hashlib.sha256(disk.read(path)).hexdigest()
