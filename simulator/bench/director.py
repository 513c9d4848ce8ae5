"""What the director's signatures cost a receiver: listing vehicles, renewing what ends; beside the disk's own pace."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ecu.clock import SECOND_NS, SteppingClock
from ecu.disk import RealDisk, replace_file
from ota.kinds import Kind
from ota.repository import Director, ImageRepository, KeyFolder
from receiver.rollouts.books import Turn
from receiver.rollouts.listing import Lister
from simulator.bench.metric import Metric

FLEET: Final = 10_000
WEEK_S: Final = 7 * 86_400
RENEWING_BAR: Final = 1.0
_VEHICLES: Final = 100
_PAGE: Final = 100
_DAYS: Final = 5


def director_metrics(vehicles: int = _VEHICLES) -> list[Metric]:
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        return _metrics(Path(folder), vehicles)


def _metrics(folder: Path, vehicles: int) -> list[Metric]:
    clock = SteppingClock()
    lister, target = _founded(folder, clock)
    release = lister.release(target)
    turns = [Turn("r", f"car-{number:05}", release, True, "[]", False) for number in range(vehicles)]
    listing_s, listing_cpu_s = _timed(lambda: lister.act(turns))
    clock.advance(clock.boot_ns() + _DAYS * 86_400 * SECOND_NS)
    renewing_s, renewing_cpu_s = _timed(lambda: lister.renew(vehicles))
    disk = RealDisk(folder)
    floor_s, _ = _timed(lambda: _replace_one_by_one(disk, vehicles))
    how = f"{vehicles} vehicles, {_PAGE} at once, on this folder's disk"
    share = 100 * renewing_s / vehicles * FLEET / WEEK_S
    return [
        Metric("listing a vehicle, durably", 1000 * listing_s / vehicles, "ms", how),
        Metric("listing a vehicle", 1000 * listing_cpu_s / vehicles, "ms CPU", how),
        Metric("renewing a vehicle, durably", 1000 * renewing_s / vehicles, "ms", how),
        Metric("renewing a vehicle", 1000 * renewing_cpu_s / vehicles, "ms CPU", how),
        Metric("replacing one file, durably: the disk's own pace", 1000 * floor_s / vehicles, "ms", how),
        Metric(f"renewing {FLEET:,} vehicles", share, "% of 7 days", f"from {how}", RENEWING_BAR),
    ]


def _founded(folder: Path, clock: SteppingClock) -> tuple[Lister, str]:
    disk, keys = RealDisk(folder / "repo"), KeyFolder(folder / "keys")
    disk.make_folder("")
    keys.generate()
    images, director = ImageRepository(disk, clock), Director(disk, clock)
    images.init(keys)
    director.init(keys)
    source = folder / "source"
    source.mkdir()
    (source / "model.onnx").write_bytes(b"weights")
    manifest = images.add(source, Kind.MODEL, "bench", "1.0", 1, ["x86_64"])
    images.sign(Kind.MODEL, [keys.signer("model")])
    images.publish([keys.signer("image-snapshot")], [keys.signer("image-timestamp")])
    return Lister(folder / "repo", folder / "keys", clock), manifest.target


def _replace_one_by_one(disk: RealDisk, count: int) -> None:
    for number in range(count):
        replace_file(disk, f"floor-{number}", bytes(1000))


def _timed(act: Callable[[], object]) -> tuple[float, float]:
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    act()
    return time.perf_counter() - wall_s, time.process_time() - cpu_s
