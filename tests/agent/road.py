"""A vehicle that tries releases in a test: real slots and a real perception, and a judge, a clock and workers that do
as the test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, cast

from agent.perception import Perception, Role, TrialWatch
from agent.updates import (
    HINTS_APART_NS,
    TICK_NS,
    DoubtHeard,
    Opinion,
    TrialRules,
    UpdateSide,
)
from agent.updates.doubts import UNHEARD
from ecu.clock import SECOND_NS, SteppingClock
from ecu.disk import RealDisk
from inference.messages import Look
from ota.denied import Denied
from ota.kinds import Kind
from ota.machine import Event
from ota.source import Source
from ota.trust import Vehicle
from ota.updates import Notice
from tests.agent.puppets import PuppetWorker, Stage, WorkerAct, on_stage
from tests.ota.fleet import CAR, HARDWARE, NOW_NS, Fleet

MIB = 1 << 20
RULES = TrialRules(poll_ns=3600 * SECOND_NS, shadow_frames=2, prove_frames=5, swap_within_s=0.2)


class Judge:
    """Speaks when it is told to, and is only gone once `may_go`."""

    def __init__(self) -> None:
        self.opinion: asyncio.Future[Opinion] = asyncio.get_running_loop().create_future()
        self.asked: list[tuple[Path, Path, Path | None]] = []
        self.cpu_at_most: float | None = None
        self.is_asked = asyncio.Event()
        self.may_go = asyncio.Event()
        self.may_go.set()
        self.is_being_stopped = asyncio.Event()
        self.is_gone = asyncio.Event()

    async def judge(
        self, live: Path, candidate: Path, evaluation: Path | None, cpu_at_most: float | None = None
    ) -> Opinion:
        self.asked.append((live, candidate, evaluation))
        self.cpu_at_most = cpu_at_most
        self.is_asked.set()
        try:
            return await asyncio.shield(self.opinion)
        finally:
            self.is_being_stopped.set()
            await self.may_go.wait()
            self.is_gone.set()

    def says(self, event: Event) -> None:
        self.opinion.set_result(Opinion(event, f"the judge says {event}"))


class Nobody:
    """Where nothing is judged."""

    async def judge(
        self, live: Path, candidate: Path, evaluation: Path | None, cpu_at_most: float | None = None
    ) -> Opinion:
        return Opinion(Event.UNDECIDED, "nobody judges here")


class Alarms(SteppingClock):
    """Knows who sleeps until when."""

    def __init__(self, news: asyncio.Event) -> None:
        super().__init__(wall_ns=NOW_NS)
        self.set_for: set[int] = set()
        self._news = news

    async def sleep_until(self, boot_ns: int) -> None:
        self.set_for.add(boot_ns)
        self._news.set()
        await super().sleep_until(boot_ns)


class Overheard:
    """A perception, and who watches what is tried on it."""

    def __init__(self, perception: Perception) -> None:
        self._perception = perception
        self.watches: list[TrialWatch] = []
        self.memory: tuple[int | None, int | None] = (MIB, MIB)

    def try_beside(self, package: Path, watch: TrialWatch, role: Role) -> None:
        self.watches.append(watch)
        self._perception.try_beside(package, watch, role)

    def peak_memory(self) -> tuple[int | None, int | None]:
        return self.memory

    def __getattr__(self, name: str) -> Any:
        return getattr(self._perception, name)


@dataclass
class Road:
    """A vehicle on trial: what it told, and the means to let time pass and frames come."""

    stage: Stage
    updates: UpdateSide
    judge: Judge
    clock: Alarms
    news: asyncio.Event
    notices: list[Notice]
    overheard: Overheard
    work: asyncio.Task[None]
    answered: dict[int, int] = field(default_factory=dict)

    async def until(self, reached: Callable[[], bool]) -> None:
        """Raises what ended the work before."""
        async with asyncio.timeout(30):
            while not reached():
                self.news.clear()
                heard = asyncio.ensure_future(self.news.wait())
                await asyncio.wait({heard, self.work}, return_when=asyncio.FIRST_COMPLETED)
                heard.cancel()
                if self.work.done():
                    self.work.result()

    async def until_noticed(self, what: str, version: str = "") -> Notice:
        await self.until(lambda: self.told(what, version) is not None)
        told = self.told(what, version)
        assert told is not None
        return told

    def told(self, what: str, version: str = "") -> Notice | None:
        """The first such notice; of the release of that version where one is given."""
        return next(
            (it for it in self.notices if it.what == what and version in (it.release.title if it.release else "")), None
        )

    @property
    def candidate(self) -> PuppetWorker:
        """The worker that was started last."""
        return self.stage.workers[-1]

    async def tick(self, ns: int = TICK_NS) -> None:
        """Time passes, and what that brings about is durable and carried out."""
        self.clock.advance(self.clock.boot_ns() + ns)
        await self.until(lambda: self.clock.boot_ns() + TICK_NS in self.clock.set_for)

    async def frames(self, count: int, but: Sequence[PuppetWorker] = ()) -> None:
        """So many come; everybody who is asked to look does, `but` some."""
        for _ in range(count):
            self.stage.camera.captures()
            for worker in self.stage.workers:
                looks = len(worker.heard_of(Look))
                if worker.alive and worker not in but and looks > self.answered.get(worker.pid, 0):
                    self.answered[worker.pid] = looks
                    worker.sees()

    async def tick_until(self, reached: Callable[[], bool]) -> None:
        """Seconds pass, and the processes' own time, until something has come of it that nobody is told of."""
        async with asyncio.timeout(30):
            while not reached():
                await self.tick()

    async def proven(self) -> None:
        """The candidate has been live for long enough, and for the one frame more that shows it."""
        await self.frames(RULES.prove_frames)
        await self.tick()
        await self.frames(1)
        await self.tick()

    async def look_again(self) -> None:
        """Somebody hints, and the look that comes of it has been had."""
        self.updates.hint()
        self.clock.advance(self.clock.boot_ns() + HINTS_APART_NS)
        for _ in range(3):
            await asyncio.sleep(0)
        await self.thread_idle()

    async def thread_idle(self) -> None:
        """Whatever the thread that looks and installs was asked for so far is done, and so is what comes of that."""
        for _ in range(3):
            await self.updates.do(lambda: None)


@asynccontextmanager
async def on_trial(
    tmp_path: Path,
    fleet: Fleet,
    candidates: Sequence[WorkerAct] = (PuppetWorker.loads,),
    source: Source | None = None,
    runs: Sequence[Kind] = (Kind.MODEL, Kind.STATE),
    heard: DoubtHeard = UNHEARD,
) -> AsyncIterator[Road]:
    """The live model and its standby load; the workers after them do as `candidates`."""
    state = tmp_path / "updates"
    state.mkdir(exist_ok=True)
    news = asyncio.Event()
    clock, judge = Alarms(news), Judge()
    notices: list[Notice] = []

    def noticed(notice: Notice) -> None:
        notices.append(notice)
        news.set()

    async with on_stage(tmp_path, workers=[PuppetWorker.loads, PuppetWorker.loads, *candidates]) as stage:
        updates = UpdateSide(
            state, fleet.roots, Vehicle(CAR, HARDWARE), source or fleet.source(),
            dict.fromkeys(runs, tmp_path), judge, RULES, clock, Random(1), noticed, doubt_heard=heard,
        )  # fmt: skip
        overheard = Overheard(stage.perception)
        work = asyncio.create_task(updates.run(cast("Perception", overheard)))
        try:
            yield Road(stage, updates, judge, clock, news, notices, overheard, work)
        finally:
            judge.may_go.set()
            work.cancel()
            await asyncio.wait({work})


def denied(tmp_path: Path, notice: Notice) -> bool:
    assert notice.release is not None
    return notice.release.digest in Denied(RealDisk(tmp_path / "updates"))


async def in_shadow(road: Road, version: str = "") -> None:
    """The candidate looks on, has seen enough, and the judge is busy with it."""
    await road.until_noticed("shadow", version)
    await road.judge.is_asked.wait()
    await road.frames(RULES.shadow_frames)


async def taken_over(road: Road) -> None:
    await in_shadow(road)
    road.judge.says(Event.PASSED)
    await road.tick()
    await road.until_noticed("switched")
    await road.tick()
    trial = road.stage.perception.status().trial
    assert trial is not None
    assert trial.is_live
