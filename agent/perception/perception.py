"""Joins a camera with its workers, and gives every frame exactly one fate (law 2).

Which frame is looked at next is agent/perception/turns.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from agent.frames import FrameAccount, FrameCounts
from agent.latency import LatencyHistogram, Percentiles
from agent.perception.camera import CameraKeeper
from agent.perception.settings import PerceptionSettings, Supervision
from agent.perception.turns import InOrder, NewestFirst
from agent.perception.workers import WorkerPool
from ecu.clock import Clock
from ecu.errors import EnvironmentFault, UsageFault
from inference.frames import FrameRing
from inference.messages import Filled, Look, Seen, SourceFault


@dataclass(frozen=True, slots=True)
class PerceptionStatus:
    """A reading for status and doctor."""

    camera: str
    camera_pid: int | None
    camera_fault: str | None
    live_pid: int | None
    standby_pid: int | None
    model: str | None
    frames: FrameCounts
    law_2_holds: bool
    latency: Percentiles
    workers_replaced: int
    cameras_replaced: int


class Perception:
    """Real time: `start`, then results come to `on_seen`. Lockstep: `start`, then `advance` as often as wanted."""

    def __init__(
        self,
        settings: PerceptionSettings,
        account: FrameAccount,
        clock: Clock,
        supervision: Supervision,
        on_seen: Callable[[Seen, int], None],
        on_health: Callable[[str, str], None],
        from_ns: int = 0,
    ) -> None:
        self._settings = settings
        self._account = account
        self._clock = clock
        self._on_seen = on_seen
        self._on_health = on_health
        self._latency = LatencyHistogram()
        self._waiting = InOrder() if settings.lockstep else NewestFirst()
        self._looked_at: Filled | None = None
        self._done_ns = -1
        self._ended = False
        self._fault: SourceFault | None = None
        self._fresh_was_dropped = False
        self._progress = asyncio.Event()
        self._keepers: tuple[asyncio.Task[None], ...] = ()
        self._workers = WorkerPool(settings, supervision, events=self)
        self._camera = CameraKeeper(settings, account, clock, supervision, events=self, from_ns=from_ns)

    async def start(self) -> None:
        """Returns when frames flow, or at real speed when the camera can't for now. Raises ModelUnfit; in lockstep
        UsageFault for an unusable source, EnvironmentFault for a camera that only dies."""
        self._keepers = (asyncio.create_task(self._workers.run()), asyncio.create_task(self._camera.run()))
        await self._until(lambda: self._workers.idle and self._can_begin)

    async def stop(self) -> None:
        for keeper in self._keepers:
            keeper.cancel()
        # What ended a keeper was raised to whoever waited for it; here everything is put away, come what may.
        await asyncio.gather(*self._keepers, return_exceptions=True)
        await self._camera.stop()
        await self._workers.stop()
        self._account.settle_loss()
        self._account.close()

    async def advance(self, t_ns: int) -> bool:
        """Lockstep: all up to `t_ns` was captured, seen and given to `on_seen`. False: the drive is over."""
        self._camera.grant(t_ns)
        await self._until(lambda: (self._done_ns >= t_ns or self._ended) and not self._held)
        return not self._ended

    @property
    def next_due_ns(self) -> int:
        """When the frame after the last one is due; where the drive ended, once it is over."""
        return self._camera.next_due_ns

    async def watch(self) -> None:
        """Ends only by raising what ended a keeper: ModelUnfit, EnvironmentFault, or a bug."""
        done, _ = await asyncio.wait(self._keepers, return_when=asyncio.FIRST_EXCEPTION)
        for keeper in done:
            keeper.result()

    def status(self) -> PerceptionStatus:
        live, frames = self._workers.live, self._account.counts()
        return PerceptionStatus(
            camera=self._settings.camera,
            camera_pid=self._camera.pid,
            camera_fault=self._fault.reason if self._fault is not None else None,
            live_pid=self._workers.live_pid,
            standby_pid=self._workers.standby_pid,
            model=f"{live.name} {live.version} ({live.variant})" if live is not None else None,
            frames=frames,
            law_2_holds=frames.holds,
            latency=self._latency.percentiles(),
            workers_replaced=self._workers.replaced,
            cameras_replaced=self._camera.replaced,
        )

    @property
    def model_digest(self) -> str | None:
        """Digest of the live worker's package, as that worker computed it."""
        return self._workers.live.digest if self._workers.live is not None else None

    @property
    def runtime(self) -> str | None:
        """What the live worker's arithmetic depends on besides the model, as that worker said it."""
        return self._workers.live.runtime if self._workers.live is not None else None

    @property
    def _can_begin(self) -> bool:
        """In lockstep nothing goes on without the camera: `_until` raises its fault."""
        return self._camera.ring is not None or (self._fault is not None and not self._settings.lockstep)

    @property
    def _held(self) -> int:
        """Frames in the agent's hands."""
        return len(self._waiting) + (self._looked_at is not None)

    async def _until(self, reached: Callable[[], bool]) -> None:
        """Waits for a state that the children's messages bring about; what ends the hope of it is raised."""
        while not reached():
            if self._settings.lockstep and self._fault is not None:
                raise (UsageFault if self._fault.usage else EnvironmentFault)(self._fault.reason)
            self._progress.clear()
            progress = asyncio.ensure_future(self._progress.wait())
            try:
                running = [keeper for keeper in self._keepers if not keeper.done()]
                await asyncio.wait((progress, *running), return_when=asyncio.FIRST_COMPLETED)
            finally:
                progress.cancel()
            for keeper in self._keepers:
                if keeper.done():
                    keeper.result()

    # --- what the camera tells --------------------------------------------------------------------

    def camera_open(self, ring: FrameRing) -> None:
        self._workers.show(ring)
        self._progress.set()

    def frame_filled(self, frame: Filled) -> None:
        self._fault = None
        self._account.received()
        superseded = self._waiting.put(frame, self._clock.boot_ns())
        if superseded is not None:
            self._account.dropped_by_policy()
            self._drop(superseded)
        self._show_next()

    def frame_skipped(self) -> None:
        self._account.received()
        self._account.dropped_by_policy()

    def camera_done(self, t_ns: int) -> None:
        self._done_ns = t_ns
        self._progress.set()

    def camera_gone(self) -> None:
        lost = self._account.settle_loss(still_held=self._held)
        if lost or self._fault is None:
            self._on_health("camera_lost", f"the camera's process ended; {lost} frames lost with it")

    def camera_ended(self) -> None:
        self._ended = True
        self._progress.set()

    def camera_fault(self, fault: SourceFault) -> None:
        if self._fault is None:
            self._on_health("camera_fault", fault.reason)
        self._fault = fault
        self._progress.set()

    # --- what the workers tell --------------------------------------------------------------------

    def worker_live(self) -> None:
        self._show_next()
        self._progress.set()

    def worker_saw(self, seen: Seen) -> None:
        looked_at, self._looked_at = self._looked_at, None
        assert looked_at is not None
        self._account.processed()
        self._camera.give_back(looked_at.slot)
        latency_ns = seen.spent_ns if self._settings.lockstep else self._clock.boot_ns() - looked_at.t_ns
        self._latency.add(latency_ns)
        self._on_seen(seen, latency_ns)
        self._show_next()
        self._progress.set()

    def worker_lost(self) -> None:
        if self._looked_at is not None:
            self._account.lost_to_fault()
            self._camera.give_back(self._looked_at.slot)
            self._looked_at = None
        self._progress.set()

    def health(self, what: str, detail: str) -> None:
        self._on_health(what, detail)

    def _show_next(self) -> None:
        """The live worker looks at the frame whose turn it is."""
        if not self._waiting or not self._workers.idle:
            return
        turn = self._waiting.take(self._clock.boot_ns(), self._camera.period_ns)
        if turn.late is not None:
            self._account.dropped_late()
            self._drop(turn.late)
        if turn.frame is not None:
            self._looked_at = turn.frame
            self._workers.look(self._look_at(turn.frame))

    def _drop(self, frame: Filled) -> None:
        self._fresh_was_dropped |= frame.fresh
        self._camera.give_back(frame.slot)

    def _look_at(self, frame: Filled) -> Look:
        geometry = self._camera.geometry
        assert geometry is not None
        fresh, self._fresh_was_dropped = frame.fresh or self._fresh_was_dropped, False
        return Look(
            frame.slot, frame.frame_id, frame.t_ns, geometry.width, geometry.height, fresh,
            self._settings.fingerprint,
        )  # fmt: skip
