"""Keeps one camera and its perception workers going, and every frame accounted for (law 2).

One worker is live, one stands by warm. A frame goes camera -> agent -> live worker -> agent; at real speed the agent
holds at most one waiting frame, and a newer one takes its place. A worker that dies or hangs is replaced by the standby
between two frames; what it was looking at is lost to the fault, and counted.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random

from agent.children import Child
from agent.frames import FrameAccount, FrameCounts
from agent.latency import LatencyHistogram, Percentiles
from ecu.channel import Advance, Done
from ecu.clock import MILLISECOND_NS, SECOND_NS, Clock
from ecu.errors import OutriderError, UsageFault
from inference.frames import CHANNELS, FrameRing
from inference.messages import (
    Begin,
    CameraHello,
    Filled,
    FromCamera,
    FromWorker,
    Lease,
    Look,
    Ring,
    Seen,
    Skipped,
    SourceEnded,
    SourceFault,
    Start,
    WorkerFault,
    WorkerReady,
)
from inference.sources import DECODER_ENVIRONMENT

LOCKSTEP_HANG_NS = 60 * SECOND_NS
RESTART_SOON_NS = 5 * SECOND_NS
MAX_RESTART_DELAY_NS = 10 * SECOND_NS


@dataclass(frozen=True, slots=True)
class PerceptionSettings:
    """What the supervisor needs to know; times are the supervisor's own, not the drive's."""

    source: str
    camera: str
    package: Path
    slots: int
    hang_ns: int
    late_ns: int
    fingerprint: bool = False


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
    latency: Percentiles
    worker_restarts: int
    camera_restarts: int


class ModelUnfit(OutriderError):
    """The model failed in every worker that tried it."""


class Perception:
    """Real time: `start`, then results come to `on_seen`. Lockstep: `start`, then `advance` as often as wanted."""

    def __init__(
        self,
        settings: PerceptionSettings,
        account: FrameAccount,
        clock: Clock,
        supervision: Clock,
        rng: Random,
        environment: Mapping[str, str],
        on_seen: Callable[[Seen], None],
        on_health: Callable[[str, str], None],
    ) -> None:
        self._settings = settings
        self._account = account
        self._clock = clock
        self._supervision = supervision
        self._rng = rng
        self._environment = environment
        self._on_seen = on_seen
        self._on_health = on_health
        self._latency = LatencyHistogram()
        self._lockstep = False
        self._geometry: CameraHello | None = None
        self._ring: FrameRing | None = None
        self._camera: Child[FromCamera] | None = None
        self._camera_gone = asyncio.Event()
        self._camera_fault: SourceFault | None = None
        self._camera_slots: set[int] = set()
        self._workers: list[Child[FromWorker]] = []
        self._ready: dict[int, WorkerReady] = {}
        self._live: Child[FromWorker] | None = None
        self._looking: Filled | None = None
        self._hang: asyncio.TimerHandle | None = None
        self._waiting: deque[Filled] = deque()
        self._worker_wanted = asyncio.Event()
        self._worker_fault: str | None = None
        self._next_track_id = 1
        self._next_due_ns = 0
        self._granted_ns = -1
        self._done_ns = -1
        self._ended = False
        self._progress = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._restarts = {"worker": -2, "camera": -1}

    # --- life -------------------------------------------------------------------------------------

    async def start(self, from_ns: int, lockstep: bool) -> None:
        """Returns when frames can flow. Raises UsageFault for an unusable source in lockstep, ModelUnfit."""
        self._lockstep = lockstep
        self._next_due_ns = from_ns
        self._worker_wanted.set()
        self._tasks = [asyncio.create_task(self._keep_workers()), asyncio.create_task(self._keep_camera())]
        await self._until(lambda: self._live is not None and (self._ring is not None or self._camera_fault is not None))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._disarm()
        children: list[Child[FromWorker] | Child[FromCamera]] = [*self._workers]
        if self._camera is not None:
            children.append(self._camera)
        for child in children:
            await child.stop()
        if self._ring is not None:
            self._ring.close()
        self._account.settle_loss()

    async def advance(self, t_ns: int) -> bool:
        """Lockstep: everything up to `t_ns` was captured, seen and given to `on_seen`. False: the drive is over."""
        self._granted_ns = t_ns
        if self._camera is not None:
            self._camera.send(Advance(t_ns))
        await self._until(lambda: (self._done_ns >= t_ns or self._ended) and self._idle)
        return not self._ended

    def status(self) -> PerceptionStatus:
        standby = next((w for w in self._workers if w is not self._live and w.pid in self._ready), None)
        ready = self._ready.get(self._live.pid) if self._live else None
        return PerceptionStatus(
            camera=self._settings.camera,
            camera_pid=self._camera.pid if self._camera else None,
            camera_fault=self._camera_fault.reason if self._camera_fault else None,
            live_pid=self._live.pid if self._live else None,
            standby_pid=standby.pid if standby else None,
            model=f"{ready.name} {ready.version} ({ready.variant})" if ready else None,
            frames=self._account.counts(),
            latency=self._latency.percentiles(),
            worker_restarts=max(0, self._restarts["worker"]),
            camera_restarts=max(0, self._restarts["camera"]),
        )

    @property
    def model_digest(self) -> str | None:
        """Digest of the live worker's package, as the worker itself computed it."""
        return self._ready[self._live.pid].digest if self._live else None

    @property
    def _idle(self) -> bool:
        return self._looking is None and not self._waiting

    async def _until(self, reached: Callable[[], bool]) -> None:
        """Waits for a state that the children's messages bring about; what ends the hope of it is raised."""
        while not reached():
            for task in self._tasks:
                if task.done():
                    task.result()
            if self._lockstep and self._camera_fault is not None:
                raise UsageFault(self._camera_fault.reason)
            self._progress.clear()
            await self._progress.wait()

    def _arm(self) -> None:
        limit_ns = LOCKSTEP_HANG_NS if self._lockstep else self._settings.hang_ns
        self._hang = asyncio.get_running_loop().call_later(limit_ns / SECOND_NS, self._hung)

    def _disarm(self) -> None:
        if self._hang is not None:
            self._hang.cancel()
            self._hang = None

    def _hung(self) -> None:
        if self._live is not None:
            self._on_health("worker_hung", f"pid {self._live.pid} gave no result in time and was killed")
            self._live.kill()

    # --- workers ----------------------------------------------------------------------------------

    async def _keep_workers(self) -> None:
        failures = 0
        while True:
            await self._worker_wanted.wait()
            self._worker_wanted.clear()
            while len(self._workers) < 2:
                began_ns = self._supervision.boot_ns()
                worker = await self._start_worker()
                while worker.alive and worker.pid not in self._ready:
                    self._progress.clear()
                    await self._progress.wait()
                if worker.alive:
                    failures = 0
                    continue
                failures += 1
                if failures >= 3 and self._live is None:
                    raise ModelUnfit(self._worker_fault or f"{failures} workers died while loading the model")
                await self._pause(failures, began_ns)

    async def _start_worker(self) -> Child[FromWorker]:
        self._restarts["worker"] += 1
        worker: Child[FromWorker] = await Child.start(
            "inference.worker",
            ["--package", str(self._settings.package)],
            FromWorker,
            self._from_worker,
            self._worker_closed,
            self._environment,
        )
        self._workers.append(worker)
        if self._ring is not None:
            self._show_ring(worker)
        return worker

    def _show_ring(self, worker: Child[FromWorker]) -> None:
        assert self._ring is not None
        fd = self._ring.reader_fd()
        worker.send(Ring(self._ring.slots, self._ring.slot_bytes), [fd])
        os.close(fd)

    def _from_worker(self, worker: Child[FromWorker], message: FromWorker) -> None:
        match message:
            case WorkerReady():
                self._ready[worker.pid] = message
                if self._live is None:
                    self._promote(worker)
            case Seen():
                self._seen(message)
            case WorkerFault(reason):
                self._worker_fault = reason
                self._on_health("model_fault", reason)
            case Done():
                pass
        self._progress.set()

    def _promote(self, worker: Child[FromWorker]) -> None:
        self._live = worker
        worker.send(Start(self._next_track_id))
        self._show_next()

    def _worker_closed(self, worker: Child[FromWorker]) -> None:
        self._workers.remove(worker)
        self._ready.pop(worker.pid, None)
        if worker is self._live:
            self._disarm()
            self._live = None
            if self._looking is not None:
                self._account.lost_to_fault()
                self._give_back(self._looking.slot)
                self._looking = None
            self._on_health("worker_lost", f"the live worker, pid {worker.pid}, ended")
            standby = next((w for w in self._workers if w.pid in self._ready), None)
            if standby is not None:
                self._promote(standby)
        self._worker_wanted.set()
        self._progress.set()

    def _seen(self, seen: Seen) -> None:
        looked, self._looking = self._looking, None
        assert looked is not None
        assert looked.frame_id == seen.frame_id, "a worker answers in order"
        self._disarm()
        self._account.processed()
        self._give_back(looked.slot)
        self._next_track_id = max(self._next_track_id, *(t.track_id + 1 for t in seen.tracks), 1)
        self._latency.add(self._clock.boot_ns() - seen.t_ns if not self._lockstep else seen.spent_ns)
        self._on_seen(seen)
        self._show_next()

    # --- frames -----------------------------------------------------------------------------------

    def _show_next(self) -> None:
        """The live worker looks at the next waiting frame that isn't too old."""
        while self._waiting and self._live is not None and self._looking is None:
            frame = self._waiting.popleft()
            if not self._lockstep and self._clock.boot_ns() - frame.t_ns > self._settings.late_ns:
                self._account.dropped_late()
                self._give_back(frame.slot)
                continue
            self._look(self._live, frame)

    def _look(self, worker: Child[FromWorker], frame: Filled) -> None:
        assert self._geometry is not None
        self._looking = frame
        self._arm()
        worker.send(
            Look(
                frame.slot,
                frame.frame_id,
                frame.t_ns,
                self._geometry.width,
                self._geometry.height,
                frame.fresh,
                self._settings.fingerprint,
            )
        )

    def _filled(self, frame: Filled) -> None:
        self._account.received()
        self._camera_slots.discard(frame.slot)
        assert self._geometry is not None
        self._next_due_ns = frame.t_ns + self._geometry.period_ns
        if not self._lockstep and self._waiting:
            # The newest frame wins: an old one delays it and tells less.
            self._account.dropped_by_policy()
            self._give_back(self._waiting.popleft().slot)
        self._waiting.append(frame)
        self._show_next()

    def _give_back(self, slot: int) -> None:
        assert self._ring is not None
        self._ring.release(slot)
        self._lease_all()

    def _lease_all(self) -> None:
        assert self._ring is not None
        while self._camera is not None and self._camera.alive and (slot := self._ring.lease()) is not None:
            self._camera_slots.add(slot)
            self._camera.send(Lease(slot))

    # --- camera -----------------------------------------------------------------------------------

    async def _keep_camera(self) -> None:
        failures = 0
        while True:
            began_ns = self._supervision.boot_ns()
            self._camera_gone.clear()
            self._restarts["camera"] += 1
            self._camera = await Child.start(
                "inference.camera",
                [
                    "--source", self._settings.source,
                    "--ledger", str(self._account.camera_ledger),
                    "--first-frame-id", str(self._account.next_frame_id),
                ],
                FromCamera,
                self._from_camera,
                self._camera_closed,
                environment={**self._environment, **DECODER_ENVIRONMENT},
            )  # fmt: skip
            await self._camera_gone.wait()
            await self._camera.reaped()
            if self._ended:
                return
            self._account_for_camera()
            failures = failures + 1 if self._supervision.boot_ns() - began_ns < RESTART_SOON_NS else 1
            if failures > 1 or self._camera_fault is not None:
                await self._pause(failures, began_ns)

    def _account_for_camera(self) -> None:
        held = len(self._waiting) + (self._looking is not None)
        lost = self._account.settle_loss(still_held=held)
        for slot in self._camera_slots:
            assert self._ring is not None
            self._ring.release(slot)
        self._camera_slots.clear()
        self._on_health("camera_lost", f"the camera's process ended; {lost} frames lost with it")

    def _from_camera(self, camera: Child[FromCamera], message: FromCamera) -> None:
        match message:
            case CameraHello():
                self._open_camera(camera, message)
            case Filled():
                self._filled(message)
            case Skipped(_, t_ns):
                assert self._geometry is not None
                self._next_due_ns = t_ns + self._geometry.period_ns
                self._account.received()
                self._account.dropped_by_policy()
            case Done(t_ns):
                self._done_ns = t_ns
            case SourceEnded():
                self._ended = True
            case SourceFault():
                self._camera_fault = message
                self._on_health("camera_fault", message.reason)
        self._progress.set()

    def _open_camera(self, camera: Child[FromCamera], hello: CameraHello) -> None:
        self._camera_fault = None
        if self._ring is None:
            self._ring = FrameRing(self._settings.slots, hello.width * hello.height * CHANNELS)
            for worker in self._workers:
                self._show_ring(worker)
        elif self._geometry is not None and (hello.width, hello.height) != (
            self._geometry.width,
            self._geometry.height,
        ):
            self._camera_fault = SourceFault("The camera came back with frames of another size.", usage=True)
            camera.kill()
            return
        self._geometry = hello
        camera.send(Ring(self._ring.slots, self._ring.slot_bytes), [self._ring.writer_fd()])
        self._camera = camera
        self._lease_all()
        from_ns = self._next_due_ns if self._lockstep else max(self._next_due_ns, self._clock.boot_ns())
        camera.send(Begin(from_ns, self._lockstep))
        if self._granted_ns >= 0:
            camera.send(Advance(self._granted_ns))

    def _camera_closed(self, camera: Child[FromCamera]) -> None:
        self._camera_gone.set()
        self._progress.set()

    async def _pause(self, failures: int, began_ns: int) -> None:
        """Full jitter after the second quick death in a row: a broken part must not eat the computer."""
        cap_ns = min(MAX_RESTART_DELAY_NS, 100 * MILLISECOND_NS * 2 ** min(failures, 12))
        await self._supervision.sleep_until(began_ns + self._rng.randrange(cap_ns))
