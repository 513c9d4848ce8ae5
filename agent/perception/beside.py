"""A second model beside the live one: it sees the live one's frames, and nobody acts on what it says.

Before a switch that is the candidate. After it, until the candidate is kept, it is the model that was good before:
warm, and one frame away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from agent.perception.agreement import Agreement
from agent.perception.holds import Holds
from agent.perception.workers import ModelUnfit, WorkerEvents, WorkerPool
from ecu.errors import EnvironmentFault, OutriderError
from inference.messages import Filled, Look, Seen, SeenTrack

MAX_DEATHS: Final = 3
"""One may be the computer's fault."""


class TrialOver(OutriderError):
    """What was beside the live model is gone."""


class TrialWatch(Protocol):
    """What whoever tries a model is told."""

    def loaded(self) -> None:
        """It can look at frames now: its golden vectors hold here. Told once."""
        ...

    def unfit(self, words: str) -> None:
        """No worker can load it, or it fails in every one."""
        ...

    def crashed(self, words: str) -> None:
        """Its workers died or hung again and again."""
        ...

    def hindered(self, words: str) -> None:
        """This computer can't start a worker for it: that says nothing of the model."""
        ...

    def compared(self, newest: Agreement, whole: Agreement) -> None:
        """Both have seen one more frame: how far they agree about it, and about all of them."""
        ...


@dataclass(frozen=True, slots=True)
class TrialStatus:
    """A reading for status: whether the candidate is live already, what it has looked at, how often a worker of its
    died or was killed for hanging, and how it differs."""

    model: str | None
    pid: int | None
    is_live: bool
    looked_at: int
    deaths: int
    agreement: Agreement


class Beside:
    """Holds a frame as long as its worker looks at it; `progress` is called whenever it has done something."""

    def __init__(
        self,
        make_pool: Callable[[WorkerEvents], WorkerPool],
        holds: Holds,
        watch: TrialWatch,
        progress: Callable[[], None],
    ) -> None:
        self.pool = make_pool(self)
        self.keeper = asyncio.create_task(self.pool.run())
        self.keeper.add_done_callback(self._ended)
        self.is_candidate = True
        self.looked_at = 0
        self.deaths = 0
        self.agreement = Agreement()
        self.newest = Agreement()
        """Of the last frame that both have seen."""
        self._holds = holds
        self._watch: TrialWatch | None = watch
        self._progress = progress
        self._was_loaded = False
        self._frame: Filled | None = None
        self._compared_id: int | None = None
        self._said: Seen | None = None
        self._live_said: Seen | None = None

    @property
    def has_time(self) -> bool:
        """Whether a frame shown now would be looked at, or none ever will; lockstep waits for it."""
        return not self.is_candidate or self.keeper.done() or self.pool.idle

    def look(self, frame: Filled, look: Look) -> None:
        """If its worker has time for it; the model that was good before only stays warm."""
        if self.is_candidate and self.pool.idle:
            self._holds.take(frame.slot)
            self._frame = frame
            self._compared_id, self._said, self._live_said = frame.frame_id, None, None
            self.pool.look(look)

    def live_saw(self, seen: Seen) -> None:
        """Before or after the candidate has seen the same frame: it may be the slower one."""
        if seen.frame_id == self._compared_id:
            self._live_said = seen
            self._compare()

    def changed_places(self) -> None:
        """`pool` and `keeper` are the other model's now."""
        self.is_candidate = not self.is_candidate
        self.keeper.remove_done_callback(self._ended)
        self.keeper.add_done_callback(self._ended)

    def candidate_died(self) -> None:
        """Counted also while it is live."""
        self.deaths += 1
        if self.deaths == MAX_DEATHS and self._watch is not None:
            self._watch.crashed(f"its worker ended {self.deaths} times")

    def stop(self) -> asyncio.Task[None]:
        """Ends when its workers are gone. Its watch is told nothing any more, from this instant on."""
        self._watch = None
        self.keeper.cancel()
        return asyncio.create_task(self._end())

    async def _end(self) -> None:
        await asyncio.gather(self.keeper, return_exceptions=True)
        await self.pool.stop()
        self._let_go()

    # --- what its workers tell --------------------------------------------------------------------

    def worker_live(self) -> None:
        if not self._was_loaded and self._watch is not None:
            self._was_loaded = True
            self._watch.loaded()
        self._progress()

    def worker_saw(self, seen: Seen) -> None:
        self.looked_at += 1
        self._said = seen
        self._let_go()
        self._compare()
        self._progress()

    def worker_lost(self) -> None:
        self._let_go()
        self._progress()
        if self.is_candidate:
            self.candidate_died()

    def health(self, what: str, detail: str) -> None:
        """The live model's health is told; what becomes of this one its watch learns in its own words."""

    def _let_go(self) -> None:
        if self._frame is not None:
            self._holds.drop(self._frame.slot)
            self._frame = None

    def _compare(self) -> None:
        if self._live_said is not None and self._said is not None:
            ours, theirs = _confirmed(self._live_said), _confirmed(self._said)
            self.newest = Agreement().with_frame(ours, theirs)
            self.agreement = self.agreement.plus(self.newest)
            if self._watch is not None:
                self._watch.compared(self.newest, self.agreement)

    def _ended(self, keeper: asyncio.Task[None]) -> None:
        """Of the one that is beside now. The live one's end is the perception's business."""
        if keeper is not self.keeper or keeper.cancelled() or self._watch is None:
            return
        self._progress()
        try:
            keeper.result()
        except ModelUnfit as unfit:
            if self.is_candidate:
                self._watch.unfit(str(unfit))
        except EnvironmentFault as fault:
            self._watch.hindered(str(fault))


def _confirmed(seen: Seen) -> list[SeenTrack]:
    return [track for track in seen.tracks if track.confirmed]
