"""An object store on a disk, opened again after whatever a test did to it, and pictures to put there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from ecu.crashdisk import Call, CrashDisk
from ecu.disk import Disk, DiskDenied, DiskError, DiskFault, DiskFull, DiskStarved
from ecu.keys import KeyStore, MemoryKeyStore
from telemetry.objects.config import ObjectsConfig
from telemetry.objects.counts import LEDGER_NAMES, ObjectCounts
from telemetry.objects.format import ObjectRef
from telemetry.objects.store import ObjectStore
from telemetry.privacy.pictures import RedactedPicture
from telemetry.records import Purpose
from telemetry.spool.counts import Counters, MemoryCounters
from tests.telemetry.spool.rig import seeded_entropy

SMALL = ObjectsConfig(max_bytes=4000, object_bytes=1000, slice_bytes=1024)
FAULTS: list[DiskError] = [DiskFull("full"), DiskFault("worn"), DiskDenied("no"), DiskStarved("busy")]


def content(number: int, size: int = 300) -> bytes:
    """Different for each number, and incompressible."""
    return hashlib.shake_256(f"picture {number}".encode()).digest(size)


def picture(number: int, size: int = 300) -> RedactedPicture:
    return RedactedPicture(content(number, size), 1280, 720, number, number * 1000, 1, "hard_brake")


def no_counters(was_lost: bool = False) -> MemoryCounters:
    """As a first start finds them; `was_lost`: as one after a power cut does."""
    return MemoryCounters(was_lost, LEDGER_NAMES)


def objects_in(disk: CrashDisk) -> list[str]:
    return [name for name in disk.names("") if name.endswith(".obj")]


class Rig:
    def __init__(
        self,
        disk: Disk | None = None,
        counters: Counters | None = None,
        limits: ObjectsConfig = SMALL,
        keys: KeyStore | None = None,
        seed: int = 0,
    ) -> None:
        self.disk = disk or CrashDisk()
        self.counters = counters or no_counters()
        self.limits = limits
        self.keys = keys or MemoryKeyStore()
        self.entropy = seeded_entropy(seed)
        self.store = self.open()

    def open(self) -> ObjectStore:
        """A process that was killed, and its successor."""
        self.store = ObjectStore.open(self.disk, self.keys, self.entropy, self.limits, self.counters)
        return self.store

    def put(self, number: int, size: int = 300, purpose: Purpose = Purpose.PERCEPTION) -> ObjectRef:
        return self.store.put(picture(number, size), purpose)

    def read(self, ref: ObjectRef) -> bytes:
        return self.store.read(ref, 0, ref.bytes)

    def contents(self) -> set[bytes]:
        """Everything kept, read whole."""
        return {self.read(ref) for ref in self.store.kept()}

    def counts(self) -> ObjectCounts:
        counts = self.store.counts()
        assert counts.conservation.holds, counts
        assert counts.pending == 0, counts
        return counts


def rig_with_history() -> tuple[Rig, CrashDisk]:
    """Four large pictures: one more, and the oldest has to go."""
    disk = CrashDisk()
    rig = Rig(disk)
    for number in range(4):
        rig.put(number, size=900)
    return rig, disk


def calls_of(act: Callable[[Rig], object]) -> list[Call]:
    rig, disk = rig_with_history()
    before = len(disk.calls)
    act(rig)
    return disk.calls[before:]
