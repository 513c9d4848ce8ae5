"""Which model is live and which is beside it: a candidate is tried, takes over between two frames, and may give way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from agent.perception.beside import Beside, TrialOver, TrialStatus, TrialWatch
from agent.perception.holds import Holds
from agent.perception.settings import PerceptionSettings, Role, Supervision
from agent.perception.workers import ModelUnfit, WorkerEvents, WorkerPool
from inference.frames import FrameRing


class Models:
    """Keeps the workers of both. `events` is told of the live ones, `go_on` is called when there may be more to do."""

    def __init__(
        self,
        settings: PerceptionSettings,
        supervision: Supervision,
        events: WorkerEvents,
        holds: Holds,
        go_on: Callable[[], None],
    ) -> None:
        self._supervision = supervision
        self._events = events
        self._holds = holds
        self._go_on = go_on
        self._ring: FrameRing | None = None
        self._leaving: asyncio.Task[None] | None = None
        self._swap: asyncio.Future[int] | None = None
        self.live = WorkerPool(settings, supervision, events)
        self.keeper: asyncio.Task[None] | None = None
        """Of the live workers; None until `start`."""
        self.beside: Beside | None = None

    def start(self) -> None:
        self.keeper = asyncio.create_task(self.live.run())

    def show(self, ring: FrameRing) -> None:
        """From now on frames lie in this ring."""
        self._ring = ring
        self.live.show(ring)
        if self.beside is not None:
            self.beside.pool.show(ring)

    # --- a trial ----------------------------------------------------------------------------------

    def try_beside(self, package: Path, watch: TrialWatch, role: Role = Role.OBJECTS) -> None:
        """From now on the model in `package` sees the live one's frames, too. Only while nothing else is beside it."""
        assert self.beside is None
        settings = self.live.settings.with_package(role, package)

        def make_pool(events: WorkerEvents) -> WorkerPool:
            pool = WorkerPool(settings, self._supervision, events, leads=False)
            if self._ring is not None:
                pool.show(self._ring)
            return pool

        self.beside = Beside(make_pool, self._holds, watch, self._go_on)

    async def leave_beside(self) -> None:
        """Stops whatever is beside the live model, and returns when it is gone."""
        beside, self.beside = self.beside, None
        if self._swap is not None and not self._swap.done():
            self._swap.set_exception(TrialOver("The model beside the live one was stopped before it could take over."))
        if beside is not None:
            # Whoever asked may be cancelled meanwhile; what is being stopped has to be stopped all the same.
            self._leaving = beside.stop()
            await asyncio.shield(self._leaving)

    async def left(self) -> None:
        """Nothing is beside the live model, nor being stopped."""
        await self.leave_beside()
        if self._leaving is not None:
            await self._leaving

    async def swap(self) -> int:
        """As Perception.swap."""
        assert self.beside is not None
        swapped: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._swap = swapped
        try:
            self._go_on()
            return await swapped
        finally:
            self._swap = None

    @property
    def is_swap_wanted(self) -> bool:
        return self._swap is not None and not self._swap.done()

    def swap_if_wanted(self, first_id: int) -> bool:
        """Between two frames: whether the one beside sees those from `first_id` on, and the other stays beside it."""
        beside, swap = self.beside, self._swap
        if beside is None or swap is None or swap.done():
            return False
        if beside.keeper.done():
            swap.set_exception(TrialOver("The model beside the live one can't take over: it has no worker any more."))
        elif beside.pool.idle:
            self._change_places(beside)
            swap.set_result(first_id)
            return True
        return False

    def _change_places(self, beside: Beside) -> None:
        assert self.keeper is not None
        was_live = self.live
        self.live, beside.pool = beside.pool, was_live
        self.keeper, beside.keeper = beside.keeper, self.keeper
        beside.changed_places()
        was_live.step_aside(beside)
        self.live.lead(self._events, was_live.next_track_id)

    def fall_back(self, first_id: int) -> bool:
        """Whether a live candidate can't go on, and has given way to the model that was good before it."""
        beside, keeper = self.beside, self.keeper
        assert keeper is not None
        if not keeper.done() or beside is None or beside.is_candidate:
            return False
        try:
            keeper.result()
        except ModelUnfit as unfit:
            self._events.health("model_unfit", str(unfit))
            self._change_places(beside)
            if self._swap is not None and not self._swap.done():
                self._swap.set_result(first_id)
        return True

    def trial_status(self) -> TrialStatus | None:
        beside = self.beside
        if beside is None:
            return None
        pool = beside.pool if beside.is_candidate else self.live
        return TrialStatus(
            model=pool.title,
            pid=pool.live_pid,
            is_live=not beside.is_candidate,
            looked_at=beside.looked_at,
            # A standby that ends is one of its workers, too, though no frame is lost by that.
            deaths=max(beside.deaths, pool.replaced),
            agreement=beside.agreement,
        )
