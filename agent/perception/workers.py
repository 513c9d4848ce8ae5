"""One perception worker is live, one stands by warm: whatever happens in native code, the next frame is looked at."""

from __future__ import annotations

import asyncio
import os
from typing import Final, Protocol

from agent.children import Child
from agent.perception.restart import Restarts
from agent.perception.settings import PerceptionSettings, Supervision
from ecu.channel import Done
from ecu.clock import SECOND_NS
from ecu.errors import OutriderError
from ecu.urgency import Urgency, may_prefer, prefer, runs_in_real_time
from inference.frames import FrameRing
from inference.messages import FromWorker, Look, Ring, Seen, Start, WorkerFault, WorkerReady

MAX_LOADING_DEATHS: Final = 3
LOADING_NS: Final = 60 * SECOND_NS
MAX_TRACKS: Final = 200
"""In one result: as many as a tracker follows."""
PATIENCE: Final = 10
"""So many times longer a worker may take for which nobody on the road waits: it comes last on a busy processor, and
being starved there is no fault of its model's."""


class ModelUnfit(OutriderError):
    """The model failed in every worker that tried it."""


class WorkerEvents(Protocol):
    """What the pool's owner is told."""

    def worker_live(self) -> None:
        """A worker can be asked now."""
        ...

    def worker_saw(self, seen: Seen) -> None:
        """The result of the one Look that was under way."""
        ...

    def worker_lost(self) -> None:
        """The live worker ended; what it was looking at, if anything, will have no result."""
        ...

    def health(self, what: str, detail: str) -> None: ...


class WorkerPool:
    """Keeps the workers of one model. One Look at a time; a worker that gives no result in time is killed.

    The pool that leads has a warm standby and goes first on the processor; one that doesn't has one patient worker.
    """

    def __init__(
        self, settings: PerceptionSettings, supervision: Supervision, events: WorkerEvents, leads: bool = True
    ) -> None:
        self.settings = settings
        self._leads = leads
        self._wanted = 2 if settings.standby and leads else 1
        self._environment = supervision.environment
        self._start_child = supervision.start
        self._events = events
        self._prefers = not settings.lockstep and may_prefer()
        self._restarts = Restarts(supervision.clock, supervision.rng)
        self._ring: FrameRing | None = None
        self._workers: list[Child[FromWorker]] = []
        self._dying: list[Child[FromWorker]] = []  # their channels ended; the kernel isn't done with them
        self._ready: dict[int, WorkerReady] = {}
        self._live: Child[FromWorker] | None = None
        self._has_lost_one = False
        self.replaced = 0
        """Workers that ended although they were wanted."""
        self._loading_deaths = 0
        self._asked_id: int | None = None
        self._hang: asyncio.TimerHandle | None = None
        self._next_track_id = 1
        self._fault = ""
        self._changed = asyncio.Event()

    @property
    def idle(self) -> bool:
        """A worker is live and has nothing to look at."""
        return self._live is not None and self._asked_id is None

    @property
    def model(self) -> WorkerReady | None:
        """What the live worker said of it."""
        return self._ready.get(self._live.pid) if self._live is not None else None

    @property
    def title(self) -> str | None:
        """The live worker's model, for people."""
        model = self.model
        return f"{model.name} {model.version} ({model.variant})" if model is not None else None

    @property
    def live_pid(self) -> int | None:
        return self._live.pid if self._live is not None else None

    @property
    def standby_pid(self) -> int | None:
        standby = self._standby()
        return standby.pid if standby is not None else None

    async def run(self) -> None:
        """Keeps them going until cancelled. Raises ModelUnfit when no worker can even load the model."""
        while True:
            self._changed.clear()
            missing = self._wanted - len(self._workers)
            if missing <= 0:
                await self._changed.wait()
                continue
            if self._has_lost_one:
                self._has_lost_one = False
                await self._restarts.pause()
            # All at once: while the first one sees its first frames, a standby would be loading beside it otherwise.
            for worker in [await self._start() for _ in range(missing)]:
                await self._until_loaded(worker)
                self._demand_fit(worker)

    async def stop(self) -> None:
        self._disarm()
        for worker in tuple(self._workers):
            await worker.stop()
        for worker in self._dying:
            await worker.reaped()

    @property
    def next_track_id(self) -> int:
        """Above every number that its tracks ever had."""
        return self._next_track_id

    def lead(self, events: WorkerEvents, first_track_id: int) -> None:
        """From here on its results are the vehicle's; call it between two frames."""
        self._leads, self._events = True, events
        self._wanted = 2 if self.settings.standby else 1
        self._next_track_id = first_track_id
        if self._live is not None:
            self._prefer(self._live, Urgency.ROAD)
            self._live.send(Start(first_track_id))
        self._changed.set()

    def step_aside(self, events: WorkerEvents) -> None:
        """Another pool leads: one worker stays warm, and makes room for what the road waits for."""
        self._leads, self._events = False, events
        self._wanted = 1
        for worker in self._workers:
            if worker is self._live:
                self._prefer(worker, Urgency.PATIENT)
            else:
                worker.kill()

    def show(self, ring: FrameRing) -> None:
        """From now on Looks name slots of this ring."""
        self._ring = ring
        for worker in self._workers:
            self._show_to(worker)

    def look(self, look: Look) -> None:
        """Only when `idle`."""
        assert self._live is not None
        assert self._asked_id is None
        self._asked_id = look.frame_id
        within_ns = self.settings.result_within_ns * (1 if self._leads else PATIENCE)
        self._hang = asyncio.get_running_loop().call_later(within_ns / SECOND_NS, self._hung)
        self._live.send(look)

    async def _start(self) -> Child[FromWorker]:
        self._restarts.begins()
        worker = await self._start_child(
            "inference.worker",
            self._arguments(),
            FromWorker,
            self._told,
            self._closed,
            self._environment,
        )
        self._workers.append(worker)
        if self._live is not None or not self._leads:
            # Loading must not delay the frames of the worker that is live.
            self._prefer(worker, Urgency.PATIENT)
        if self._ring is not None:
            self._show_to(worker)
        return worker

    def _arguments(self) -> list[str]:
        states = ["--states", str(self.settings.states)] if self.settings.states is not None else []
        return ["--package", str(self.settings.package), *states, "--threads", str(self._threads())]

    def _threads(self) -> int:
        """A second thread takes a third off a frame's time, where no other process can keep one of the two waiting."""
        if self.settings.threads:
            return self.settings.threads
        goes_first = self._prefers and runs_in_real_time()
        return 2 if goes_first and len(os.sched_getaffinity(0)) > 1 else 1

    def _prefer(self, worker: Child[FromWorker], urgency: Urgency) -> None:
        if self._prefers:
            prefer(worker.pid, urgency)

    def _demand_fit(self, worker: Child[FromWorker]) -> None:
        self._loading_deaths = 0 if worker.alive else self._loading_deaths + 1
        if self._loading_deaths >= MAX_LOADING_DEATHS and self._live is None:
            raise ModelUnfit(
                self._fault
                or f"{self._loading_deaths} workers in a row died while loading the model in {self.settings.package}. "
                "Choose another model, or look for what kills processes here (dmesg)."
            )

    async def _until_loaded(self, worker: Child[FromWorker]) -> None:
        """Or dead: whatever it hangs in, it is killed at the deadline."""
        deadline = asyncio.get_running_loop().call_later(LOADING_NS / SECOND_NS, worker.kill)
        try:
            while worker.alive and worker.pid not in self._ready:
                self._changed.clear()
                await self._changed.wait()
        finally:
            deadline.cancel()

    def _show_to(self, worker: Child[FromWorker]) -> None:
        assert self._ring is not None
        fd = self._ring.reader_fd()
        worker.send(Ring(self._ring.slots, self._ring.slot_bytes), [fd])
        os.close(fd)

    def _told(self, worker: Child[FromWorker], message: FromWorker) -> None:
        match message:
            case WorkerReady():
                self._ready[worker.pid] = message
                if self._live is None:
                    self._promote(worker)
            case Seen(frame_id) if worker is self._live and frame_id == self._asked_id and self._may_be(message):
                self._saw(message)
            case Seen():
                # An answer to nothing asked, or one that no tracker gives: who met strangers' bytes isn't asked again.
                worker.kill()
            case WorkerFault(reason):
                self._fault = reason
                self._events.health("model_fault", reason)
            case Done():
                pass
        self._changed.set()

    def _may_be(self, seen: Seen) -> bool:
        """A tracker numbers without gaps, and follows so many: beyond that an answer would hold up whoever compares it,
        or use up the numbers. There are no more glimpses, either."""
        least = self._next_track_id + len(seen.tracks)
        return max(len(seen.tracks), len(seen.glimpses)) <= MAX_TRACKS and all(
            track.track_id < least for track in seen.tracks
        )

    def _saw(self, seen: Seen) -> None:
        self._disarm()
        self._asked_id = None
        self._next_track_id = max(self._next_track_id, *(track.track_id + 1 for track in seen.tracks), 1)
        self._events.worker_saw(seen)

    def _promote(self, worker: Child[FromWorker]) -> None:
        self._live = worker
        if self._leads:
            self._prefer(worker, Urgency.ROAD)
        for other in self._workers:
            if other.pid not in self._ready:
                self._prefer(other, Urgency.PATIENT)
        worker.send(Start(self._next_track_id))
        self._events.worker_live()

    def _standby(self) -> Child[FromWorker] | None:
        return next((w for w in self._workers if w is not self._live and w.pid in self._ready), None)

    def _closed(self, worker: Child[FromWorker]) -> None:
        if len(self._workers) <= self._wanted:
            self._has_lost_one = True
            self.replaced += 1
        self._workers.remove(worker)
        self._dying = [other for other in self._dying if not other.is_reaped] + [worker]
        self._ready.pop(worker.pid, None)
        if worker is self._live:
            self._disarm()
            self._live, self._asked_id = None, None
            self._events.health("worker_lost", f"the live worker, pid {worker.pid}, ended")
            self._events.worker_lost()
            standby = self._standby()
            if standby is not None:
                self._promote(standby)
        self._changed.set()

    def _hung(self) -> None:
        if self._live is not None:
            self._events.health("worker_hung", f"pid {self._live.pid} gave no result in time and was killed")
            self._live.kill()

    def _disarm(self) -> None:
        if self._hang is not None:
            self._hang.cancel()
            self._hang = None
