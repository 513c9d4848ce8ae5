"""A candidate beside the live model, and the swap: real processes, every frame accounted for, one model a frame."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

import pytest

from agent.frames import FrameAccount, FrameCounts
from agent.perception import Agreement, Perception, PerceptionSettings, Supervision
from ecu.clock import MILLISECOND_NS, SECOND_NS, Clock, SteppingClock, SystemClock
from inference.messages import Seen
from inference.package import find_package
from simulator.demo.demo import DRIVE
from tests.drives import slow_road

OLD, NEW = find_package("drive-detect@1.0"), find_package("drive-detect@2.0")
LOCKSTEP = PerceptionSettings(
    source=f"video:{DRIVE}?loop=1", camera="front", package=OLD, slots=6, hang_ns=20 * SECOND_NS, lockstep=True,
    standby=False,
)  # fmt: skip

AT_SPEED = replace(LOCKSTEP, lockstep=False)


def real_time(folder: Path) -> PerceptionSettings:
    return replace(AT_SPEED, source=f"video:{slow_road(folder)}?loop=1")


STEP_NS = 200 * MILLISECOND_NS


@dataclass
class Trying:
    """A perception at work, what it told by frame, and what its trial's watch was told."""

    perception: Perception
    seen: list[Seen] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def loaded(self) -> None:
        self._tell("loaded")

    def unfit(self, words: str) -> None:
        self._tell(f"unfit: {words}")

    def crashed(self, words: str) -> None:
        self._tell(f"crashed: {words}")

    def hindered(self, words: str) -> None:
        self._tell(f"hindered: {words}")

    def compared(self, newest: Agreement, whole: Agreement) -> None:
        self._tell("compared")

    def on_seen(self, seen: Seen, latency_ns: int) -> None:
        self.seen.append(seen)
        self.models.append(self.perception.status().model or "none")
        self.news.set()

    def on_health(self, what: str, detail: str) -> None:
        self._tell(what)

    async def until(self, reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not reached():
                self.news.clear()
                await self.news.wait()

    async def until_told(self, what: str) -> None:
        await self.until(lambda: any(told.startswith(what) for told in self.told))

    async def until_more(self, frames: int) -> None:
        wanted = len(self.seen) + frames
        await self.until(lambda: len(self.seen) >= wanted)

    def looked_at(self) -> int:
        trial = self.perception.status().trial
        return trial.looked_at if trial is not None else 0

    def _tell(self, what: str) -> None:
        self.told.append(what)
        self.news.set()


@asynccontextmanager
async def at_work(folder: Path, settings: PerceptionSettings, clock: Clock) -> AsyncIterator[Trying]:
    account = FrameAccount(folder / "camera.ledger", folder / "frames.ledger")
    perception = Perception(
        settings, account, clock, Supervision(Random(5), os.environ),
        lambda seen, latency_ns: trying.on_seen(seen, latency_ns), lambda what, detail: trying.on_health(what, detail),
    )  # fmt: skip
    trying = Trying(perception)
    try:
        await perception.start()
        watching = asyncio.create_task(perception.watch())
        yield trying
    finally:
        await perception.stop()
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        assert account.counts().holds


def one_model_a_frame(trying: Trying, first_of_new: int) -> None:
    """Frames below that id by 1.0, from there on by 2.0, each once and in order."""
    ids = [seen.frame_id for seen in trying.seen]
    assert ids == sorted(set(ids))
    for frame_id, model in zip(ids, trying.models, strict=True):
        assert ("2.0" if frame_id >= first_of_new else "1.0") in model, (frame_id, model, first_of_new)


async def test_the_swap_is_at_exactly_one_frame_and_loses_none(tmp_path: Path) -> None:
    async with at_work(tmp_path, AT_SPEED, SystemClock()) as trying:
        await trying.until_more(3)
        trying.perception.try_beside(NEW, trying)
        await trying.until_told("loaded")
        await trying.until(lambda: trying.looked_at() >= 5)
        assert not any("2.0" in model for model in trying.models), "a candidate is listened to by nobody"
        first = await trying.perception.swap()
        await trying.until_more(10)
        one_model_a_frame(trying, first)
        status = trying.perception.status()
        assert status.frames.lost_to_fault == 0
        assert status.trial is not None
        assert status.trial.is_live
        assert status.trial.agreement.frames > 0
        assert status.workers_replaced == 0
        await trying.perception.leave_beside()
        await trying.until_more(3)
        assert trying.perception.status().trial is None
        assert "2.0" in trying.models[-1]


@dataclass(frozen=True, slots=True)
class Drive:
    """25 frames in lockstep, a candidate beside from the first one on: live from frame 15, and gone again at `back`."""

    looked_at: int
    first: int
    back: int
    frames: FrameCounts
    trying: Trying


async def driven(folder: Path) -> Drive:
    async with at_work(folder, LOCKSTEP, SteppingClock()) as trying:
        await trying.perception.advance(STEP_NS - 1)
        trying.perception.try_beside(NEW, trying)
        await trying.perception.advance(3 * STEP_NS - 1)
        looked_at = trying.looked_at()
        first = await trying.perception.swap()
        await trying.perception.advance(4 * STEP_NS - 1)
        back = await trying.perception.swap()
        await trying.perception.advance(5 * STEP_NS - 1)
        return Drive(looked_at, first, back, trying.perception.status().frames, trying)


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Drive:
    return asyncio.run(driven(tmp_path_factory.mktemp("drive")))


def test_in_lockstep_both_see_every_frame_and_the_swap_is_where_it_was_asked_for(drive: Drive) -> None:
    assert (drive.looked_at, drive.first, drive.back) == (10, 15, 20)
    assert drive.frames.captured == drive.frames.processed == 25
    assert [("2.0" in model) for model in drive.trying.models] == [15 <= frame < 20 for frame in range(25)]


def test_track_numbers_go_on_over_a_swap(drive: Drive) -> None:
    numbers: list[set[int]] = [
        {track.track_id for seen in drive.trying.seen[begin:end] for track in seen.tracks}
        for begin, end in ((0, drive.first), (drive.first, drive.back), (drive.back, 25))
    ]
    assert all(numbers)
    assert min(numbers[1]) > max(numbers[0])
    assert min(numbers[2]) > max(numbers[1])


async def test_a_candidate_that_dies_again_and_again_is_told_of_and_costs_the_live_one_no_frame(tmp_path: Path) -> None:
    async with at_work(tmp_path, AT_SPEED, SystemClock()) as trying:
        trying.perception.try_beside(NEW, trying)
        killed = set[int]()
        while not any(told.startswith("crashed") for told in trying.told):
            await trying.until_more(1)
            trial = trying.perception.status().trial
            assert trial is not None
            if trial.pid is not None and trial.pid not in killed:
                killed.add(trial.pid)
                os.kill(trial.pid, signal.SIGKILL)
        assert "crashed: its worker ended 3 times" in trying.told
        await trying.perception.leave_beside()
        await trying.until_more(5)
        frames = trying.perception.status().frames
        assert frames.lost_to_fault == 0
        assert "worker_lost" not in trying.told


async def test_a_candidate_that_cant_be_loaded_is_told_of_in_words(tmp_path: Path) -> None:
    broken = tmp_path / "package"
    broken.mkdir()
    (broken / "model.json").write_text("{}")
    async with at_work(tmp_path, real_time(tmp_path), SystemClock()) as trying:
        trying.perception.try_beside(broken, trying)
        await trying.until_told("unfit")
        assert "refused" in trying.told[0]
        await trying.until_more(3)
        await trying.perception.leave_beside()
        assert trying.perception.status().frames.lost_to_fault == 0


async def test_a_new_model_that_can_no_longer_go_on_gives_way_to_the_one_before(tmp_path: Path) -> None:
    package = tmp_path / "package"
    shutil.copytree(NEW, package)
    async with at_work(tmp_path, real_time(tmp_path), SystemClock()) as trying:
        trying.perception.try_beside(package, trying)
        await trying.until_told("loaded")
        await trying.perception.swap()
        await trying.until_more(3)
        (package / "model.json").write_text("{}")
        pid = trying.perception.status().live_pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await trying.until_told("model_unfit")
        await trying.until_more(5)
        status = trying.perception.status()
        assert "1.0" in (status.model or "")
        assert status.frames.lost_to_fault <= 1
        assert status.trial is not None
        assert not status.trial.is_live


async def test_the_model_before_is_one_frame_away(tmp_path: Path) -> None:
    async with at_work(tmp_path, real_time(tmp_path), SystemClock()) as trying:
        trying.perception.try_beside(NEW, trying)
        await trying.until_told("loaded")
        first = await trying.perception.swap()
        await trying.until_more(3)
        back = await trying.perception.swap()
        await trying.until_more(5)
        assert back > first
        by_old = [seen.frame_id for seen, model in zip(trying.seen, trying.models, strict=True) if "1.0" in model]
        assert next(frame for frame in by_old if frame > first) >= back
        assert trying.perception.status().frames.lost_to_fault == 0


@pytest.mark.parametrize("when", ["loading", pytest.param("looking", marks=pytest.mark.soak), "swapped"])
async def test_everything_beside_ends_with_the_perception(tmp_path: Path, when: str) -> None:
    async with at_work(tmp_path, real_time(tmp_path), SystemClock()) as trying:
        trying.perception.try_beside(NEW, trying)
        if when != "loading":
            await trying.until(lambda: trying.looked_at() > 0)
        if when == "swapped":
            await trying.perception.swap()
        status = trying.perception.status()
        pids = [status.live_pid, status.camera_pid, status.trial.pid if status.trial is not None else None]
    for pid in filter(None, pids):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
