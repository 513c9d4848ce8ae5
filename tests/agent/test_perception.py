"""Real camera and worker processes, killed, stopped and starved: every frame keeps exactly one fate."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

import pytest

from agent.frames import FrameAccount
from agent.perception import ModelUnfit, Perception, PerceptionSettings, Supervision
from ecu.clock import MILLISECOND_NS, SECOND_NS, Clock, SteppingClock, SystemClock
from ecu.errors import UsageFault
from inference.messages import Seen
from inference.package import find_package
from simulator.demo.demo import DRIVE
from tests.agent.hanging import first_camera_hangs
from tests.drives import excerpt

STEP_NS = 200 * MILLISECOND_NS
REAL_TIME = PerceptionSettings(
    source=f"video:{DRIVE}?loop=1", camera="front", package=find_package("drive-detect@1.0"), slots=6,
    hang_ns=20 * SECOND_NS, lockstep=False,
)  # fmt: skip
LOCKSTEP = replace(REAL_TIME, lockstep=True)
ALONE = replace(REAL_TIME, standby=False)
"""Where nothing hangs on a standby: it is a process."""


@dataclass
class Watched:
    """A perception at work, and what it told."""

    perception: Perception
    seen: list[Seen] = field(default_factory=list)
    health: list[str] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def until(self, reached: Callable[[], bool]) -> None:
        """Looks again with every result, but not for ever."""
        async with asyncio.timeout(30):
            while not reached():
                self.news.clear()
                await self.news.wait()

    async def until_more(self, frames: int) -> None:
        wanted = len(self.seen) + frames
        await self.until(lambda: len(self.seen) >= wanted)


@asynccontextmanager
async def at_work(folder: Path, settings: PerceptionSettings, clock: Clock, from_ns: int = 0) -> AsyncIterator[Watched]:
    account = FrameAccount(folder / "camera.ledger", folder / "frames.ledger")

    def on_seen(seen: Seen, latency_ns: int) -> None:
        watched.seen.append(seen)
        watched.news.set()

    def on_health(what: str, detail: str) -> None:
        watched.health.append(what)
        watched.news.set()

    supervision = Supervision(Random(5), os.environ)
    perception = Perception(settings, account, clock, supervision, on_seen, on_health, from_ns)
    watched = Watched(perception)
    try:
        await perception.start()
        yield watched
    finally:
        await perception.stop()


def pid_of(watched: Watched, which: str) -> int:
    pid: int | None = getattr(watched.perception.status(), which)
    assert pid is not None
    return pid


@pytest.mark.parametrize("which", ["live_pid", "camera_pid", "standby_pid"])
async def test_whichever_process_is_killed_frames_go_on_and_stay_accounted_for(tmp_path: Path, which: str) -> None:
    async with at_work(tmp_path, REAL_TIME, SystemClock()) as watched:
        await watched.until(lambda: watched.perception.status().standby_pid is not None)
        killed = pid_of(watched, which)
        os.kill(killed, signal.SIGKILL)
        await watched.until(lambda: getattr(watched.perception.status(), which) not in (None, killed))
        await watched.until_more(5)
        status = watched.perception.status()
        assert status.law_2_holds, status.frames
        assert status.frames.lost_to_fault <= 3
    ids = [seen.frame_id for seen in watched.seen]
    assert ids == sorted(set(ids)), "a frame is seen once, in order"


async def test_a_standby_takes_over_between_two_frames_and_numbers_go_on(tmp_path: Path) -> None:
    async with at_work(tmp_path, REAL_TIME, SystemClock()) as watched:
        await watched.until(lambda: watched.perception.status().standby_pid is not None)
        await watched.until_more(10)
        before = {track.track_id for seen in watched.seen for track in seen.tracks}
        told, standby = len(watched.seen), pid_of(watched, "standby_pid")
        os.kill(pid_of(watched, "live_pid"), signal.SIGKILL)
        await watched.until(lambda: watched.perception.status().live_pid == standby)
        await watched.until_more(5)
        after = {track.track_id for seen in watched.seen[told + 1 :] for track in seen.tracks}
    assert before
    assert after
    assert min(after) > max(before), "no number is used again"


async def test_a_worker_that_gives_no_result_in_time_is_killed_and_replaced(tmp_path: Path) -> None:
    async with at_work(tmp_path, replace(REAL_TIME, hang_ns=SECOND_NS), SystemClock()) as watched:
        await watched.until(lambda: watched.perception.status().standby_pid is not None)
        hung = pid_of(watched, "live_pid")
        os.kill(hung, signal.SIGSTOP)
        await watched.until(lambda: "worker_hung" in watched.health)
        await watched.until(lambda: watched.perception.status().live_pid not in (None, hung))
        await watched.until_more(3)
        assert watched.perception.status().law_2_holds


async def test_lockstep_sees_every_frame_but_those_that_died_with_a_process(tmp_path: Path) -> None:
    clock = SteppingClock()
    async with at_work(tmp_path, LOCKSTEP, clock) as watched:
        for step in range(1, 16):
            if step == 5:
                os.kill(pid_of(watched, "live_pid"), signal.SIGKILL)
            if step == 10:
                os.kill(pid_of(watched, "camera_pid"), signal.SIGKILL)
            assert await watched.perception.advance(step * STEP_NS - 1)
        counts = watched.perception.status().frames
    assert counts.holds
    assert counts.captured == counts.processed + counts.lost_to_fault
    assert counts.dropped_by_policy == counts.dropped_late == counts.in_flight == 0
    assert [seen.t_ns for seen in watched.seen] == sorted(seen.t_ns for seen in watched.seen)
    assert watched.seen[-1].t_ns == 15 * STEP_NS - 40 * MILLISECOND_NS


async def test_a_drive_begins_where_it_is_told_to_and_says_that_it_ended(tmp_path: Path) -> None:
    source, begins_ns = f"video:{excerpt(tmp_path, 7)}", 5 * SECOND_NS
    settings = replace(LOCKSTEP, source=source, standby=False)
    async with at_work(tmp_path, settings, SteppingClock(), begins_ns) as watched:
        assert await watched.perception.advance(begins_ns + STEP_NS - 1)
        assert not await watched.perception.advance(begins_ns + SECOND_NS)
        assert len(watched.seen) == watched.perception.status().frames.captured == 7
        assert watched.seen[0].t_ns == begins_ns


async def test_an_unusable_source_is_a_degraded_state_at_real_speed_and_a_refusal_in_lockstep(tmp_path: Path) -> None:
    source = f"video:{tmp_path / 'nothing.mp4'}"
    async with at_work(tmp_path, replace(ALONE, source=source), SystemClock()) as watched:
        status = watched.perception.status()
        assert status.camera_fault is not None
        assert "nothing.mp4" in status.camera_fault
        assert status.law_2_holds
    with pytest.raises(UsageFault, match=r"nothing\.mp4"):
        async with at_work(tmp_path, replace(ALONE, lockstep=True, source=source), SteppingClock()):
            pass


async def test_a_model_that_no_worker_can_load_ends_the_perception_in_words(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "model.json").write_text("{}")
    with pytest.raises(ModelUnfit, match="refused"):
        async with at_work(tmp_path, replace(ALONE, package=package), SystemClock()):
            pass


async def test_a_camera_that_hangs_before_its_first_word_is_killed_said_and_tried_again(tmp_path: Path) -> None:
    account = FrameAccount(tmp_path / "camera.ledger", tmp_path / "frames.ledger")
    told: list[str] = []
    sees = asyncio.Event()
    perception = Perception(
        replace(ALONE, stall_ns=2 * SECOND_NS), account, SystemClock(),
        Supervision(Random(5), first_camera_hangs(tmp_path)), lambda seen, _: sees.set(),
        lambda what, detail: told.append(f"{what}: {detail}"),
    )  # fmt: skip
    try:
        await perception.start()
        async with asyncio.timeout(60):
            await sees.wait()
    finally:
        await perception.stop()
    assert told[0].startswith("camera_lost"), told
    assert "couldn't open" in told[1], told
    assert account.counts().holds
