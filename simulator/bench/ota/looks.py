"""What a look costs that finds nothing new: it is what a vehicle does all day."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Final

from ecu.clock import SteppingClock
from ecu.disk import RealDisk
from ota.floors import Floors
from ota.kinds import Kind
from ota.layout import DIRECTOR, IMAGE
from ota.repository import Director, ImageRepository, KeyFolder
from ota.source import FolderSource, Source
from ota.trust import ANY_HARDWARE, Roots, Trust, Vehicle
from simulator.bench.metric import Metric

MAX_CPU_MS: Final = 15.0
MAX_REQUESTS: Final = 2
_CAR: Final = "car-1"
_KINDS: Final = (Kind.MODEL, Kind.EVALUATION, Kind.CAMPAIGN, Kind.PLAN, Kind.CONFIG)
_ROUNDS: Final = 9
_GROUPS: Final = 5


class _Counting:
    """Counts what is asked of each repository."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.asked: Counter[str] = Counter()

    def read(self, path: str, offset: int, most: int) -> Iterator[bytes]:
        self.asked[path.partition("/")[0]] += 1
        return self._source.read(path, offset, most)

    def close(self) -> None:
        self._source.close()


def run() -> list[Metric]:
    with tempfile.TemporaryDirectory(prefix="outrider-looks-") as folder:
        return _metrics(Path(folder))


def _metrics(folder: Path) -> list[Metric]:
    trust = _assigned(folder)
    source = _Counting(FolderSource(folder / "repo", _CAR))
    began_ns = time.process_time_ns()
    offers = trust.refresh(source)
    first_ms = (time.process_time_ns() - began_ns) / 1e6
    source.asked.clear()
    spent_ms = [[_cpu_ms(lambda: trust.refresh(source)) for _ in range(_ROUNDS)] for _ in range(_GROUPS)]
    what = f"both repositories, {len(offers)} kinds assigned, from a folder; the agent's process alone"
    return [
        Metric(
            "a look that finds nothing new", min(map(median, spent_ms)), "ms CPU",
            f"the quietest of {_GROUPS} medians of {_ROUNDS}, since others' work only adds; {what}", MAX_CPU_MS,
        ),
        *(
            Metric(
                f"requests of such a look, {repository}", source.asked[repository] / (_ROUNDS * _GROUPS), "requests",
                "its timestamp, and whether there is a newer root", MAX_REQUESTS,
            )
            for repository in (DIRECTOR, IMAGE)
        ),
        Metric("a first look", first_ms, "ms CPU", what),
    ]  # fmt: skip


def _cpu_ms(act: Callable[[], object]) -> float:
    began_ns = time.process_time_ns()
    act()
    return (time.process_time_ns() - began_ns) / 1e6


def _assigned(folder: Path) -> Trust:
    """A vehicle that is to have a release of each of several kinds."""
    clock, keys = SteppingClock(), KeyFolder(folder / "keys")
    repo, state, release = folder / "repo", folder / "state", folder / "release"
    for made in (repo, state, release):
        made.mkdir()
    (release / "file.bin").write_bytes(b"content")
    keys.generate()
    images, director = ImageRepository(RealDisk(repo), clock), Director(RealDisk(repo), clock)
    images.init(keys)
    director.init(keys)
    manifests = [images.add(release, kind, "drive", "1.0", 1, (ANY_HARDWARE,)) for kind in _KINDS]
    for kind in _KINDS:
        images.sign(kind, [keys.signer(kind)])
    images.publish([keys.signer("image-snapshot")], [keys.signer("image-timestamp")])
    director.assign(_CAR, [images.target(manifest.target) for manifest in manifests], keys)
    disk = RealDisk(state)
    return Trust(disk, Roots(director.root(), images.root()), Vehicle(_CAR, ANY_HARDWARE), Floors(disk), clock)
