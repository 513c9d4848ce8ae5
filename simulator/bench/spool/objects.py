"""Objects of 100 KB: the object store beside the same bytes written and synced one after the other into one file."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Final

from ecu.disk import RealDisk
from ecu.keys import MemoryKeyStore
from simulator.bench.metric import Metric
from telemetry.objects.config import ObjectsConfig
from telemetry.objects.counts import LEDGER_NAMES
from telemetry.objects.keeper import PUTS_AT_ONCE
from telemetry.objects.store import ObjectStore
from telemetry.privacy.pictures import RedactedPicture
from telemetry.records import Purpose
from telemetry.spool.counts import MemoryCounters

BAR: Final = 0.5
OBJECT_BYTES: Final = 100_000
OBJECTS: Final = 20
ROUNDS: Final = 15


def rows() -> list[Metric]:
    with tempfile.TemporaryDirectory(prefix="outrider-bench-") as folder:
        store = ObjectStore.open(
            RealDisk(Path(folder) / "objects"),
            MemoryKeyStore(),
            os.urandom,
            ObjectsConfig(),
            MemoryCounters(names=LEDGER_NAMES),
        )
        pairs = [_one_round(store, Path(folder) / "raw") for _ in range(ROUNDS)]
    megabytes = OBJECTS * OBJECT_BYTES / 1e6
    how = f"median of {ROUNDS} rounds of {OBJECTS} x {OBJECT_BYTES:,} B, {PUTS_AT_ONCE} waiting at once, encrypted"
    return [
        Metric("objects over raw", median(raw / own for own, raw in pairs), "x", how, BAR, "at least"),
        Metric("objects", median(megabytes * 1e9 / own for own, _ in pairs), "MB/s", how),
        Metric("raw", median(megabytes * 1e9 / raw for _, raw in pairs), "MB/s", "write and sync, in turn with these"),
    ]


def _one_round(store: ObjectStore, raw: Path) -> tuple[int, int]:
    """Nanoseconds of both, of the same bytes."""
    contents = [os.urandom(OBJECT_BYTES) for _ in range(OBJECTS)]
    began = time.monotonic_ns()
    # Noise: nobody is in it.
    pictures = [RedactedPicture(content, 1, 1, n, n, 0, "bench") for n, content in enumerate(contents)]
    for at in range(0, OBJECTS, PUTS_AT_ONCE):
        store.put_many([(picture, Purpose.PERCEPTION) for picture in pictures[at : at + PUTS_AT_ONCE]])
    between = time.monotonic_ns()
    _raw(raw, contents)
    own, floor = between - began, time.monotonic_ns() - between
    for ref in store.kept():
        store.stored(ref)
    return own, floor


def _raw(path: Path, contents: list[bytes]) -> None:
    fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    for content in contents:
        os.write(fd, content)
        os.fsync(fd)
    os.close(fd)
