"""What a trial costs the road: frames lost and left out when two models change places, and how soon the good one is
back.

Real models in real workers, real slots on flash, the judge alone is told what to say.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any, Final, cast

from agent.frames import FrameAccount, FrameCounts
from agent.perception import Perception, PerceptionSettings, Role, Supervision, TrialWatch
from agent.updates import Opinion, TrialRules, UpdateSide
from ecu.clock import MILLISECOND_NS, SECOND_NS, Clock, SteppingClock, SystemClock
from ecu.disk import RealDisk
from inference.messages import Seen
from inference.package import find_package
from ota.kinds import Kind
from ota.machine import Event
from ota.repository import Director, ImageRepository, KeyFolder
from ota.source import FolderSource
from ota.trust import Roots, Vehicle
from ota.updates import Notice
from simulator.bench.metric import Metric
from simulator.demo.demo import DRIVE
from simulator.demo.updateclaims import LEFT_OUT_BAR

TIMES: Final = 9
BACK_WITHIN_S: Final = 1.0
CAR: Final = "bench-car"
STEP_NS: Final = 200 * MILLISECOND_NS
LIVE_FRAMES: Final = 3
PATIENCE_S: Final = 120.0


def rows() -> list[Metric]:
    return asyncio.run(_rows())


async def _rows() -> list[Metric]:
    with tempfile.TemporaryDirectory(prefix="outrider-bench-") as name:
        folder = Path(name)
        stepped = await swapped_in_lockstep(folder)
        rolled = await rolled_back(folder)
    back, counts = rolled.back_s, rolled.counts
    missing = stepped.captured - stepped.processed
    spread = f"median {statistics.median(back):.3f} s of {len(back)}"
    return [
        Metric(
            "hot rollback", max(back), "s",
            f"from the verdict to the first frame by the model before, denied on flash in between: slowest; {spread}",
            BACK_WITHIN_S,
        ),
        Metric(
            "frames lost in a swap", missing + counts.lost_to_fault, "frames",
            f"{2 * TIMES} swaps in lockstep over {stepped.captured} frames, each by exactly one model, and as many at "
            f"real speed over {counts.processed}, of which those count that a fault lost", 0.0,
        ),
        Metric(
            "frames left out at a swap", max(rolled.left_out), "frames",
            f"between the last one by one model and the first by the other, at real speed: the most of "
            f"{len(rolled.left_out)} swaps, there and back; median {statistics.median(rolled.left_out):g}",
            float(LEFT_OUT_BAR),
        ),
    ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class RolledBack:
    """`back_s`: from each verdict to the first frame by the good model; `left_out`: frames that neither model saw, at
    each change of the model."""

    back_s: Sequence[float]
    counts: FrameCounts
    left_out: Sequence[int]


@dataclass(frozen=True, slots=True)
class Look:
    """One frame that was seen: by which model, and when."""

    frame_id: int
    is_new: bool
    at_s: float


def left_out(seen: Sequence[Look]) -> list[int]:
    """At each change of the model, the frames between the last by one and the first by the other."""
    return [b.frame_id - a.frame_id - 1 for a, b in itertools.pairwise(seen) if a.is_new != b.is_new]


@dataclass
class Road:
    """A perception at work, and by which model each frame was seen, and when."""

    perception: Perception
    account: FrameAccount
    seen: list[Look] = field(default_factory=list)
    watch: TrialWatch | None = None
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def on_seen(self, seen: Seen, latency_ns: int) -> None:
        is_new = "2.0" in (self.perception.live_title or "")
        self.seen.append(Look(seen.frame_id, is_new, time.monotonic()))
        self.news.set()

    async def until(self, reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not reached():
                self.news.clear()
                await self.news.wait()

    # --- as the perception, for whoever tries releases -----------------------------------------------

    def try_beside(self, package: Path, watch: TrialWatch, role: Role) -> None:
        self.watch = watch
        self.perception.try_beside(package, watch, role)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.perception, name)


@asynccontextmanager
async def on_the_road(folder: Path, clock: Clock, *, lockstep: bool) -> AsyncIterator[Road]:
    folder.mkdir()
    account = FrameAccount(folder / "camera.ledger", folder / "frames.ledger")
    settings = PerceptionSettings(
        source=f"video:{DRIVE}?loop=1", camera="front", package=find_package("drive-detect@1.0"), slots=6,
        hang_ns=20 * SECOND_NS, lockstep=lockstep,
    )  # fmt: skip
    perception = Perception(
        settings, account, clock, Supervision(Random(1), os.environ),
        lambda seen, latency_ns: road.on_seen(seen, latency_ns), lambda what, detail: None,
    )  # fmt: skip
    road = Road(perception, account)
    watching: asyncio.Task[None] | None = None
    try:
        await perception.start()
        watching = asyncio.create_task(perception.watch())
        yield road
    finally:
        await perception.stop()
        if watching is not None:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)


class _Unwatched:
    """Of a candidate that only changes places."""

    def __init__(self, road: Road) -> None:
        self._road = road
        self.is_loaded = False

    def loaded(self) -> None:
        self.is_loaded = True
        self._road.news.set()

    def unfit(self, words: str) -> None:
        raise AssertionError(words)

    crashed = hindered = unfit

    def compared(self, newest: object, whole: object) -> None:
        """Nobody asks."""


async def swapped_in_lockstep(folder: Path, times: int = TIMES) -> FrameCounts:
    """There and back, so many times: every frame is waited for, so whatever is missing was lost by the swaps."""
    async with on_the_road(folder / "lockstep", SteppingClock(), lockstep=True) as road:
        perception = road.perception
        await perception.advance(STEP_NS - 1)
        watch = _Unwatched(road)
        perception.try_beside(find_package("drive-detect@2.0"), watch)
        await road.until(lambda: watch.is_loaded)
        ends = 1
        for _ in range(2 * times):
            first, ends = await perception.swap(), ends + 1
            await perception.advance(ends * STEP_NS - 1)
            assert min(look.frame_id for look in road.seen[-5:]) >= first
        counts = perception.status().frames
    frames = [look.frame_id for look in road.seen]
    assert frames == sorted(set(frames)), "a frame was seen twice, or out of its order"
    changes = left_out(road.seen)
    assert changes == [0] * (2 * times), f"frames left out at changes of the model: {changes}"
    return counts


class _Agreeable:
    """A judge that lets everything pass."""

    async def judge(
        self, live: Path, candidate: Path, evaluation: Path | None, cpu_at_most: float | None = None
    ) -> Opinion:
        return Opinion(Event.PASSED, "let pass for the benchmark")


async def rolled_back(folder: Path, times: int = TIMES) -> RolledBack:
    """A verdict against each of so many live candidates."""
    fleet = _Fleet(folder / "fleet")
    async with on_the_road(folder / "vehicle", SystemClock(), lockstep=False) as road:
        notices: list[Notice] = []

        def noticed(notice: Notice) -> None:
            notices.append(notice)
            road.news.set()

        (folder / "vehicle/updates").mkdir()
        rules = TrialRules(3600 * SECOND_NS, shadow_frames=3, prove_frames=1 << 30, hints_apart_ns=0)
        updates = UpdateSide(
            folder / "vehicle/updates", fleet.roots, Vehicle(CAR, "any"), fleet.source,
            {Kind.MODEL: find_package("drive-detect@1.0")}, _Agreeable(), replace(rules, memory_ratio_at_most=10.0),
            SystemClock(), Random(1), noticed,
        )  # fmt: skip
        work = asyncio.create_task(updates.run(cast("Perception", road)))
        try:
            back = [await _once(fleet, updates, road, notices, number + 1) for number in range(times)]
        finally:
            work.cancel()
            await asyncio.wait({work})
        return RolledBack(back, road.perception.status().frames, left_out(road.seen))


async def _once(fleet: _Fleet, updates: UpdateSide, road: Road, notices: list[Notice], number: int) -> float:
    fleet.release(number)
    notices.clear()
    updates.hint()
    await road.until(lambda: sum(look.is_new for look in road.seen[-LIVE_FRAMES:]) == LIVE_FRAMES)
    assert road.watch is not None
    seen, began_s = len(road.seen), time.monotonic()
    road.watch.crashed("the verdict of the benchmark")
    await road.until(lambda: any(not look.is_new for look in road.seen[seen:]))
    back_s = next(look.at_s for look in road.seen[seen:] if not look.is_new)
    await road.until(lambda: any(notice.what == "rolled_back" for notice in notices))
    await road.until(lambda: road.perception.status().trial is None)
    return back_s - began_s


class _Fleet:
    """A desk with one vehicle, and the same model again under the next number."""

    def __init__(self, folder: Path) -> None:
        repository = folder / "repo"
        repository.mkdir(parents=True)
        self._keys = KeyFolder(folder / "keys")
        self._keys.generate()
        disk = RealDisk(repository)
        self._images, self._director = ImageRepository(disk, SystemClock()), Director(disk, SystemClock())
        self._images.init(self._keys)
        self._director.init(self._keys)
        self.roots = Roots(self._director.root(), self._images.root())
        self.source = FolderSource(repository, CAR)

    def release(self, number: int) -> None:
        package = find_package("drive-detect@2.0")
        manifest = self._images.add(package, Kind.MODEL, "drive-detect", f"2.{number}", number, ("any",))
        self._images.sign(Kind.MODEL, [self._keys.signer("model")])
        self._images.publish([self._keys.signer("image-snapshot")], [self._keys.signer("image-timestamp")])
        self._director.assign(CAR, [self._images.target(manifest.target)], self._keys)
