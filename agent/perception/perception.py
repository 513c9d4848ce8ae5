"""Joins a camera with its workers, and gives every frame exactly one fate (law 2).

Which frame is looked at next is agent/perception/turns.py; by which model, agent/perception/models.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent.frames import FrameAccount, FrameCounts
from agent.latency import LatencyHistogram, Percentiles
from agent.perception.beside import TrialStatus, TrialWatch
from agent.perception.camera import CameraKeeper
from agent.perception.holds import Holds
from agent.perception.models import Models
from agent.perception.onlooker import Onlooker
from agent.perception.settings import PerceptionSettings, Role, Supervision
from agent.perception.turns import InOrder, NewestFirst
from ecu.clock import Clock
from ecu.errors import EnvironmentFault, UsageFault
from ecu.process import peak_memory_bytes
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
    trial: TrialStatus | None


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
        onlooker: Onlooker | None = None,
    ) -> None:
        self._settings = settings
        self._onlooker = onlooker
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
        self.started = asyncio.Event()
        """Set when `start` returned."""
        self._camera_keeper: asyncio.Task[None] | None = None
        self._camera = CameraKeeper(settings, account, clock, supervision, events=self, from_ns=from_ns)
        self._holds = Holds(self._camera.give_back)
        self._models = Models(settings, supervision, self, self._holds, self._go_on)

    async def start(self) -> None:
        """Returns when frames flow, or at real speed when the camera can't for now. Raises ModelUnfit; in lockstep
        UsageFault for an unusable source, EnvironmentFault for a camera that only dies."""
        self._models.start()
        self._camera_keeper = asyncio.create_task(self._camera.run())
        await self._until(lambda: self._models.live.idle and self._can_begin)
        self.started.set()

    async def stop(self) -> None:
        await self._models.left()
        for keeper in self._keepers:
            keeper.cancel()
        # What ended a keeper was raised to whoever waited for it; here everything is put away, come what may.
        await asyncio.gather(*self._keepers, return_exceptions=True)
        await self._camera.stop()
        await self._models.live.stop()
        self._account.settle_loss()
        self._account.close()

    async def advance(self, t_ns: int) -> bool:
        """Lockstep: all up to `t_ns` was captured, seen and given to `on_seen`. False: the drive is over."""
        self._camera.grant(t_ns)
        await self._until(lambda: (self._done_ns >= t_ns or self._ended) and not self._busy)
        return not self._ended

    @property
    def next_due_ns(self) -> int:
        """When the frame after the last one is due; where the drive ended, once it is over."""
        return self._camera.next_due_ns

    async def watch(self) -> None:
        """Ends only by raising what ended a keeper: ModelUnfit, EnvironmentFault, or a bug."""
        await self._until(lambda: False)

    def status(self) -> PerceptionStatus:
        frames = self._account.counts()
        return PerceptionStatus(
            camera=self._settings.camera,
            camera_pid=self._camera.pid,
            camera_fault=self._fault.reason if self._fault is not None else None,
            live_pid=self._models.live.live_pid,
            standby_pid=self._models.live.standby_pid,
            model=self._models.live.title,
            frames=frames,
            law_2_holds=frames.holds,
            latency=self._latency.percentiles(),
            workers_replaced=self._models.live.replaced,
            cameras_replaced=self._camera.replaced,
            trial=self._models.trial_status(),
        )

    @property
    def disagreement(self) -> float | None:
        """0..1, of the last frame that the live model and another have seen; None while no other looks on."""
        beside = self._models.beside
        return None if beside is None or not beside.newest.frames else 1.0 - beside.newest.f1

    @property
    def live_title(self) -> str | None:
        """The live model, for people."""
        return self._models.live.title

    @property
    def model_digest(self) -> str | None:
        """Digests of the live worker's packages, as that worker computed them."""
        model = self._models.live.model
        return " ".join(filter(None, (model.digest, model.states))) if model is not None else None

    @property
    def runtime(self) -> str | None:
        """What the live worker's arithmetic depends on besides the model, as that worker said it."""
        return self._models.live.model.runtime if self._models.live.model is not None else None

    # --- a trial ----------------------------------------------------------------------------------

    def try_beside(self, package: Path, watch: TrialWatch, role: Role = Role.OBJECTS) -> None:
        """From now on a worker with `package` in that role, and else what the live one has, sees the live one's frames,
        too. Only while nothing else is beside it."""
        self._models.try_beside(package, watch, role)

    async def leave_beside(self) -> None:
        """Stops whatever is beside the live model: the candidate, or the one that was good before it."""
        await self._models.leave_beside()
        # In lockstep a frame may have waited for it.
        self._go_on()

    async def swap(self) -> int:
        """The model beside becomes the live one, between two frames: those from the returned id on are its.

        The other stays beside it. No frame is lost by that. Only while something is beside; raises TrialOver when it
        goes before that, or can't go on.
        """
        return await self._models.swap()

    def peak_memory(self) -> tuple[int | None, int | None]:
        """Of the live worker and the candidate's, bytes; None where nobody can tell."""
        trial, live_pid = self._models.trial_status(), self._models.live.live_pid
        pids = live_pid, trial.pid if trial is not None else None
        live, candidate = (peak_memory_bytes(pid) if pid is not None else None for pid in pids)
        return live, candidate

    @property
    def _next_id(self) -> int:
        """Of the frame that is looked at next, if any of those that are known."""
        return self._waiting.next_id(self._account.next_frame_id)

    # --- waiting ----------------------------------------------------------------------------------

    @property
    def _keepers(self) -> tuple[asyncio.Task[None], ...]:
        return tuple(keeper for keeper in (self._models.keeper, self._camera_keeper) if keeper is not None)

    def _demand_keepers(self) -> None:
        """Raises what ended one; but a live model that can't go on gives way to the one that was good before it."""
        if self._models.fall_back(self._next_id):
            self._show_next()
        for keeper in self._keepers:
            if keeper.done():
                keeper.result()

    @property
    def _can_begin(self) -> bool:
        """In lockstep nothing goes on without the camera: `_until` raises its fault."""
        return self._camera.ring is not None or (self._fault is not None and not self._settings.lockstep)

    @property
    def _held(self) -> int:
        """Frames in the agent's hands."""
        return len(self._waiting) + (self._looked_at is not None)

    @property
    def _busy(self) -> bool:
        """Whether anybody still looks at a frame, or one waits to be looked at."""
        return len(self._waiting) > 0 or len(self._holds) > 0

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
            self._demand_keepers()

    # --- what the camera tells --------------------------------------------------------------------

    def camera_open(self, ring: FrameRing) -> None:
        self._models.show(ring)
        if self._onlooker is not None:
            self._onlooker.show(ring)
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
        if self._models.beside is not None:
            self._models.beside.live_saw(seen)
        latency_ns = seen.spent_ns if self._settings.lockstep else self._clock.boot_ns() - looked_at.t_ns
        self._latency.add(latency_ns)
        self._on_seen(seen, latency_ns)
        self._show_onlooker(looked_at, seen)
        self._holds.drop(looked_at.slot)
        self._show_next()
        self._progress.set()

    def worker_lost(self) -> None:
        if self._looked_at is not None:
            self._account.lost_to_fault()
            self._holds.drop(self._looked_at.slot)
            self._looked_at = None
        if self._models.beside is not None and not self._models.beside.is_candidate:
            self._models.beside.candidate_died()
        self._progress.set()

    def health(self, what: str, detail: str) -> None:
        self._on_health(what, detail)

    def _show_next(self) -> None:
        """The live worker looks at the frame whose turn it is, and the one beside it, if it has time, too."""
        beside, is_swap_wanted = self._models.beside, self._models.is_swap_wanted
        if self._looked_at is None and self._models.swap_if_wanted(self._next_id):
            # Who waits for keepers has to wait for others now.
            self._progress.set()
        if not self._waiting or not self._models.live.idle:
            return
        if self._settings.lockstep and (len(self._holds) > 0 or (beside is not None and not beside.has_time)):
            return  # everybody who looks at frames sees the same ones, whatever the load
        turn = self._waiting.take(self._clock.boot_ns(), self._camera.period_ns)
        if turn.late is not None:
            self._account.dropped_late()
            self._drop(turn.late)
        if turn.frame is not None:
            self._looked_at = turn.frame
            self._holds.take(turn.frame.slot)
            look = self._look_at(turn.frame)
            self._models.live.look(look)
            if beside is not None and not is_swap_wanted:
                beside.look(turn.frame, look)

    def _show_onlooker(self, frame: Filled, seen: Seen) -> None:
        """Its slot is still held for the live worker here, so that it can't be given back in between."""
        geometry = self._camera.geometry
        assert geometry is not None

        def done() -> None:
            self._holds.drop(frame.slot)
            self._go_on()

        if self._onlooker is not None and self._onlooker.saw(frame, geometry, seen, done):
            self._holds.take(frame.slot)

    def _go_on(self) -> None:
        self._show_next()
        self._progress.set()

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
