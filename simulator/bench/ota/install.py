"""An install, whole and synced: 100 MiB beside `rauc install` of the same bytes and a bare copy, turn by turn; and what
2 GiB take of memory."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
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
from simulator.bench.metric import Metric
from simulator.bench.ota.child import in_child
from simulator.bench.ota.rauc import Rauc
from simulator.demo.signing import SigningDesk

PAYLOAD_MIB: Final = 100
OVER_RAUC_BAR: Final = 1.0
GROWN_BAR_MIB: Final = 32.0
LARGE_BYTES: Final = 2 << 30
ROUNDS: Final = 11
_CAR: Final = "bench"


def rows() -> list[Metric]:
    return [*_beside_rauc(), *_large()]


def _beside_rauc() -> list[Metric]:
    with tempfile.TemporaryDirectory(prefix="outrider-bench-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        payload = folder / "release" / "payload.img"
        payload.parent.mkdir()
        payload.write_bytes(os.urandom(PAYLOAD_MIB * BLOCK_BYTES))
        desk = _published(folder / "desk", payload.parent)
        flash = stack.enter_context(ThreadPoolExecutor(1))
        ways: dict[str, Callable[[], None]] = {
            "ours": lambda: _installed(vehicle, desk),
            "bare": lambda: _copied(payload, folder / "copy.img"),
        }
        if missing := Rauc.missing():
            print(
                f"rauc's numbers are absent: no {', '.join(missing)} here (apt-get install rauc dbus).", file=sys.stderr
            )
        else:
            ways["rauc"] = stack.enter_context(Rauc(folder / "rauc", payload)).install
        walls = {way: list[float]() for way in ways}
        for number in range(ROUNDS * len(ways)):
            way = list(ways)[number % len(ways)]
            vehicle = _vehicle(folder / "state", desk, flash)
            walls[way].append(_wall_s(ways[way]))
            shutil.rmtree(folder / "state", ignore_errors=True)
        return _said(walls)


def _said(walls: dict[str, list[float]]) -> list[Metric]:
    how = f"{PAYLOAD_MIB} MiB, whole and synced, median of {ROUNDS} in turn"
    looked = "both repositories verified, each block verified, written, synced, read back, committed"
    metrics = [
        Metric("install", median(walls["ours"]), "s", f"{how}: {looked}"),
        Metric("install: a bare copy and its sync", median(walls["bare"]), "s", how),
        _ratio("install over a bare copy", walls, "bare", None),
    ]
    if "rauc" in walls:
        metrics += [
            Metric("install: rauc", median(walls["rauc"]), "s", f"{how}, plain bundle, slots that are files"),
            _ratio("install over rauc", walls, "rauc", OVER_RAUC_BAR),
        ]
    return metrics


def _ratio(name: str, walls: dict[str, list[float]], other: str, bar: float | None) -> Metric:
    ratios = [ours / theirs for ours, theirs in zip(walls["ours"], walls[other], strict=True)]
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
