"""An install, whole and synced: 100 MiB beside `rauc install` of the same bytes and a bare copy, turn by turn; and what
2 GiB take of memory."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from itertools import repeat
from pathlib import Path
from statistics import median
from typing import Final

from ecu.clock import SystemClock
from ecu.disk import RealDisk
from ota.kinds import Kind
from ota.landing import Progress
from ota.manifest import BLOCK_BYTES
from ota.source import FolderSource
from ota.trust import Vehicle
from ota.updates import Updates
from simulator.bench.metric import Metric, unless
from simulator.bench.ota.child import in_child
from simulator.bench.ota.rauc import Rauc
from simulator.demo.signing import SigningDesk
from simulator.rauc import missing

PAYLOAD_MIB: Final = 100
OVER_RAUC_BAR: Final = 1.0
GROWN_BAR_MIB: Final = 32.0
LARGE_BYTES: Final = 2 << 30
ROUNDS: Final = 11
_CAR: Final = "bench"


def rows() -> list[Metric]:
    return [*_beside_rauc(), *_large()]


def _beside_rauc(payload_mib: int = PAYLOAD_MIB, rounds: int = ROUNDS) -> list[Metric]:
    with tempfile.TemporaryDirectory(prefix="outrider-bench-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        payload = folder / "release" / "payload.img"
        payload.parent.mkdir()
        payload.write_bytes(os.urandom(payload_mib * BLOCK_BYTES))
        desk = _published(folder / "desk", payload.parent)
        flash = stack.enter_context(ThreadPoolExecutor(1))
        ways: dict[str, Callable[[], None]] = {
            "ours": lambda: _installed(vehicle, desk),
            "bare": lambda: _copied(payload, folder / "copy.img"),
        }
        absent = missing()
        if absent is None:
            ways["rauc"] = stack.enter_context(Rauc(folder / "rauc", payload)).install
        walls = {way: list[float]() for way in ways}
        for number in range(rounds * len(ways)):
            way = list(ways)[number % len(ways)]
            vehicle = _vehicle(folder / "state", desk, flash)
            walls[way].append(_wall_s(ways[way]))
            shutil.rmtree(folder / "state", ignore_errors=True)
        return _said(walls, f"{payload_mib} MiB, whole and synced, median of {rounds} in turn", absent)


def _said(walls: Mapping[str, list[float]], how: str, absent: str | None) -> list[Metric]:
    looked = "both repositories verified, each block verified, written, synced, read back, committed"
    return [
        Metric("install", _middle(walls, "ours"), "s", f"{how}: {looked}"),
        Metric("install: a bare copy and its sync", _middle(walls, "bare"), "s", how),
        _ratio("install over a bare copy", walls, "bare", None),
        *unless(
            absent,
            Metric("install: rauc", _middle(walls, "rauc"), "s", f"{how}, plain bundle, slots that are files"),
            _ratio("install over rauc", walls, "rauc", OVER_RAUC_BAR),
        ),
    ]


def _middle(walls: Mapping[str, list[float]], way: str) -> float:
    return median(walls.get(way, [math.nan]))


def _ratio(name: str, walls: Mapping[str, list[float]], other: str, bar: float | None) -> Metric:
    ratios = [ours / theirs for ours, theirs in zip(walls["ours"], walls.get(other, repeat(math.nan)), strict=False)]
    return Metric(name, median(ratios), "x", f"median of {len(ratios)} pairs, by the clock", bar)


def _published(root: Path, release: Path) -> SigningDesk:
    desk = SigningDesk(root, SystemClock())
    desk.assign([_CAR], [desk.release(release, Kind.EVALUATION, "payload", "1.0", 1)])
    return desk


def _vehicle(state: Path, desk: SigningDesk, flash: Executor) -> Updates:
    """One that runs, as rauc's service does, and has nothing yet: what there was would only have to be fetched less
    of."""
    state.mkdir()
    updates = Updates(RealDisk(state), desk.roots, Vehicle(_CAR, "any"), SystemClock(), lambda _: None, syncs=flash)
    updates.begin()
    return updates


def _installed(vehicle: Updates, desk: SigningDesk) -> None:
    source = FolderSource(desk.fleet, _CAR)
    (offer,) = vehicle.check(source)
    vehicle.install(source, offer, _unwatched)
    record = vehicle.slots(Kind.EVALUATION).record
    if record.installed(record.good) is None:
        raise AssertionError("an install that wasn't committed counts for nothing")


def _copied(payload: Path, to: Path) -> None:
    with payload.open("rb", buffering=0) as file, to.open("wb", buffering=0) as copy:
        while part := file.read(BLOCK_BYTES):
            copy.write(part)
        os.fsync(copy.fileno())
    to.unlink()


def _unwatched(_: Progress) -> None: ...


def _wall_s(act: Callable[[], None]) -> float:
    """After all that others left to write is written."""
    os.sync()
    began = time.monotonic()
    act()
    return time.monotonic() - began


def _large() -> list[Metric]:
    with tempfile.TemporaryDirectory(prefix="outrider-bench-") as state:
        taken = in_child("zeros", state, str(LARGE_BYTES))
    how = f"most that a process grew by, {LARGE_BYTES >> 30} GiB in one file"
    return [
        Metric("install: memory that it takes", taken.grown_mib, "MiB", how, GROWN_BAR_MIB),
        Metric(
            "install: CPU a GiB", taken.cpu_s / (LARGE_BYTES >> 30), "s", "verified, written and synced, not read back"
        ),
    ]
