"""The vehicle's side of a release's life: looked for, brought to flash, tried beside the live model, kept or given up.

ota/updates.py decides and makes durable, in a thread of its own; here its effects are carried out on the perception. A
hint from the network only makes the next look come sooner.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final, Protocol, TypeVar, assert_never

import structlog

from agent.perception import Perception, TrialOver
from agent.status import UpdatesStatus
from ecu.clock import SECOND_NS, Clock
from ecu.disk import DiskError, state_folder
from ota.errors import FetchError, NoRoomForUpdate, OtaError, TrustError
from ota.fetch import Progress
from ota.kinds import Kind
from ota.machine import RESTS, TRANSITIONS, Effect, Event, State
from ota.slots import Slot
from ota.source import Source
from ota.trial import Step
from ota.trust import Roots, Vehicle
from ota.updates import Notice, Updates

TICK_NS: Final = SECOND_NS
HINTS_APART_NS: Final = 10 * SECOND_NS
SWAP_WITHIN_S: Final = 10.0

log = structlog.get_logger()

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TrialRules:
    """How long a candidate is watched: frames seen beside the live model, then frames seen while live."""

    poll_ns: int
    shadow_frames: int
    prove_frames: int


@dataclass(frozen=True, slots=True)
class Opinion:
    """What the judge says: PASSED, FAILED or UNDECIDED, and why in words."""

    event: Event
    words: str


class Judge(Protocol):
    """Compares two packages on a labelled set (owned here; inference has the one that ships)."""

    async def judge(self, live: Path, candidate: Path, evaluation: Path | None) -> Opinion:
        """Cancelled when the trial ends before."""
        ...


class UpdateSide:
    """`factory` is the package the runtime was shipped with; `folder` holds everything that updates keep on flash.

    `clock` is real time with the wall clock that is believed. Raises DiskError, OtaError.
    """

    def __init__(
        self,
        folder: Path,
        roots: Roots,
        vehicle: Vehicle,
        source: Source,
        factory: Path,
        judge: Judge,
        rules: TrialRules,
        clock: Clock,
        rng: Random,
        on_notice: Callable[[Notice], None],
    ) -> None:
        self._notices: deque[Notice] = deque()
        self._updates = Updates(state_folder(folder), roots, vehicle, clock, self._notices.append)
        self._source = source
        self._folder = folder
        self._factory = factory
        self._judge = judge
        self._rules = rules
        self._clock = clock
        self._rng = rng
        self._on_notice = on_notice
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="updates")
        self._events: asyncio.Queue[tuple[Event, str]] = asyncio.Queue()
        self._hinted = asyncio.Event()
        self._judging: asyncio.Task[None] | None = None
        self._live_from = 0
        self._progress: Progress | None = None
        self._trouble = ""
        _, self._begun = self._updates.begin(Kind.MODEL)

    @property
    def live_package(self) -> Path:
        """The good slot's: what perception starts with, and a candidate is compared to."""
        return self._package_of(self._updates.slots(Kind.MODEL).record.good)

    # --- life -------------------------------------------------------------------------------------

    async def run(self, perception: Perception) -> None:
        """Until cancelled, once the perception has started. Raises DiskError: nothing can be tried on a dead disk."""
        self._perception = perception
        self._tell_notices()
        try:
            if self._begun is not None:
                await self._act(self._begun)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._look_again_and_again())
                group.create_task(self._conduct())
                group.create_task(self._spend())
        finally:
            if self._judging is not None:
                self._judging.cancel()
            # A read that waits for the network must not hold up the ignition.
            self._source.close()
            self._thread.shutdown(wait=False, cancel_futures=True)

    def hint(self) -> None:
        """Somebody says that there is something new. That is all a hint can say."""
        self._hinted.set()

    def status(self) -> UpdatesStatus:
        progress = self._progress or Progress(0, 0, 0)
        return UpdatesStatus(self._updates.status(), self._trouble, progress.whole, progress.kept + progress.fetched)

    # --- looking ----------------------------------------------------------------------------------

    async def _look_again_and_again(self) -> None:
        while True:
            self._hinted.clear()
            await self._look()
            # Not all at once: a fleet that was switched on together must not return together.
            pause_ns = self._rng.randrange(self._rules.poll_ns // 2, self._rules.poll_ns)
            began_ns = self._clock.boot_ns()
            asleep = asyncio.create_task(self._clock.sleep_until(began_ns + pause_ns))
            hinted = asyncio.create_task(self._hinted.wait())
            await asyncio.wait({asleep, hinted}, return_when=asyncio.FIRST_COMPLETED)
            for waiter in (asleep, hinted):
                waiter.cancel()
            await self._clock.sleep_until(began_ns + min(HINTS_APART_NS, pause_ns))

    async def _look(self) -> None:
        try:
            offers = await self._do(self._updates.check, self._source)
            if not self._updates.is_trial_wanted:
                self._events.put_nowait((Event.CANCELLED, "its fleet no longer wants it"))
            for offer in offers:
                step = await self._do(self._updates.install, self._source, offer, self._watch)
                if step is not None:
                    await self._act(step)
            self._trouble = ""
        except (TrustError, FetchError, NoRoomForUpdate, DiskError) as trouble:
            self._trouble = str(trouble)
            log.warning("update_not_taken", reason=self._trouble)
        except OtaError as trouble:
            self._trouble = str(trouble)
            log.error("updates_refused", reason=self._trouble)
        finally:
            self._progress = None

    def _watch(self, progress: Progress) -> None:
        self._progress = progress

    # --- trying -----------------------------------------------------------------------------------

    def loaded(self) -> None:
        self._events.put_nowait((Event.LOADED, "its golden vectors hold here"))

    def unfit(self, words: str) -> None:
        self._events.put_nowait((Event.UNFIT, words))

    def crashed(self, words: str) -> None:
        self._events.put_nowait((Event.CRASHED, words))

    def hindered(self, words: str) -> None:
        self._events.put_nowait((Event.EXPIRED, words))

    async def _conduct(self) -> None:
        """Takes what happens to the trial, one event after the other. One that comes too late says nothing any more."""
        while True:
            event, words = await self._events.get()
            if (self._state, event) in TRANSITIONS:
                await self._act(await self._do(self._updates.handle, Kind.MODEL, event, words))

    async def _spend(self) -> None:
        """Counts powered time with frames coming in, and looks whether a live candidate has proven itself."""
        frames = 0
        while True:
            before_ns = self._clock.boot_ns()
            await self._clock.sleep_until(before_ns + TICK_NS)
            seen = self._perception.status().frames.processed
            if seen > frames and self._state not in RESTS:
                step = await self._do(self._updates.spend, Kind.MODEL, self._clock.boot_ns() - before_ns)
                if step is not None:
                    await self._act(step)
            frames = seen
            self._look_whether_proven()

    def _look_whether_proven(self) -> None:
        status = self._perception.status()
        if self._state is State.SWITCHED and status.trial is not None and status.trial.is_live:
            looked_at = status.frames.processed - self._live_from
            if looked_at >= self._rules.prove_frames:
                self._events.put_nowait((Event.PROVEN, f"{looked_at} frames live, {status.trial.deaths} deaths"))

    async def _act(self, step: Step) -> None:
        for effect in step.effects:
            log.info("update_effect", effect=effect.value, state=step.state.value)
            match effect:
                case Effect.START_SHADOW:
                    await self._perception.leave_beside()
                    self._perception.try_beside(self._trial_package(), self)
                case Effect.START_JUDGE:
                    self._judging = asyncio.create_task(self._have_judged())
                case Effect.SWITCH:
                    await self._switch()
                case Effect.SWITCH_BACK:
                    await self._switch_back()
                case Effect.STOP_BESIDE:
                    await self._stop_beside()
                case Effect.REPORT:
                    pass  # the audit told whoever reports
                case Effect.COUNT_ATTEMPT | Effect.MARK_GOOD | Effect.RAISE_FLOOR | Effect.DENY:
                    raise AssertionError(f"{effect} is made durable before anybody is asked to act")
                case _:
                    assert_never(effect)

    async def _switch(self) -> None:
        try:
            async with asyncio.timeout(SWAP_WITHIN_S):
                first = await self._perception.swap()
        except (TimeoutError, TrialOver):
            self._events.put_nowait((Event.EXPIRED, f"it couldn't take over within {SWAP_WITHIN_S:.0f} s"))
            return
        self._live_from = self._perception.status().frames.processed
        log.info("model_switched", first_frame_id=first)

    async def _switch_back(self) -> None:
        trial = self._perception.status().trial
        if trial is not None and trial.is_live:
            first = await self._perception.swap()
            log.info("model_switched_back", first_frame_id=first)

    async def _stop_beside(self) -> None:
        judging, self._judging = self._judging, None
        if judging is not None:
            judging.cancel()
            await asyncio.gather(judging, return_exceptions=True)
        await self._perception.leave_beside()

    async def _have_judged(self) -> None:
        """The judge's opinion, once the candidate has also seen enough of this vehicle's own road."""
        opinion = await self._judge.judge(self.live_package, self._trial_package(), self._evaluation())
        while (trial := self._perception.status().trial) is None or trial.looked_at < self._rules.shadow_frames:
            await self._clock.sleep_until(self._clock.boot_ns() + TICK_NS // 10)
        words = f"{opinion.words}; {trial.looked_at} frames beside the live one, agreement {trial.agreement.f1:.2f}"
        self._events.put_nowait((opinion.event, words))

    # --- inside -----------------------------------------------------------------------------------

    @property
    def _state(self) -> State:
        return self._updates.slots(Kind.MODEL).record.state

    def _trial_package(self) -> Path:
        trial = self._updates.slots(Kind.MODEL).record.trial
        assert trial is not None
        return self._folder / self._updates.slots(Kind.MODEL).path(trial)

    def _package_of(self, slot: Slot) -> Path:
        return self._factory if slot is Slot.FACTORY else self._folder / self._updates.slots(Kind.MODEL).path(slot)

    def _evaluation(self) -> Path | None:
        slots = self._updates.slots(Kind.EVALUATION)
        good = slots.record.good
        return None if good is Slot.FACTORY else self._folder / slots.path(good)

    async def _do(self, act: Callable[..., T], *arguments: object) -> T:
        """In the one thread that reads the network and syncs flash for updates."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: act(*arguments))
        finally:
            self._tell_notices()

    def _tell_notices(self) -> None:
        while self._notices:
            self._on_notice(self._notices.popleft())
