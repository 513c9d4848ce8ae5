"""The vehicle's side of a release's life: looked for, brought to flash, tried beside the live model, kept or given up.

ota/updates.py decides and makes durable, in a thread of its own; here its effects are carried out on the perception. A
hint from the network only makes the next look come sooner.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final, Protocol, TypeVar, assert_never

import structlog

from agent.perception import Perception, Role, TrialOver
from agent.status import UpdatesStatus
from ecu.clock import SECOND_NS, Clock
from ecu.disk import DiskError, DiskFault, state_folder
from ecu.errors import EnvironmentFault, shown
from ota.errors import FetchError, HeldBack, NoRoomForUpdate, OtaError, TrustError
from ota.fetch import Progress
from ota.kinds import Kind
from ota.machine import RESTS, TRANSITIONS, Effect, Event, State
from ota.report import Signer
from ota.slots import Slot, SlotDamaged
from ota.source import Source
from ota.trial import Step
from ota.trust import Offer, Roots, Vehicle
from ota.updates import TRIED, Notice, Updates
from telemetry.uplink.allowance import Held

TICK_NS: Final = SECOND_NS
HINTS_APART_NS: Final = 10 * SECOND_NS
MOST_DOUBLINGS: Final = 4
"""Of the pause between two looks, while each fetches what is then refused or has no room: somebody pays for it."""
MOST_WORDS: Final = 4000
_ROLES: Final = {Kind.MODEL: Role.OBJECTS, Kind.STATE: Role.STATES}
SMALL: Final = (Kind.CAMPAIGN,)
"""Kinds that wait for no other network: one may take a danger away."""
_JUDGED_BY: Final = {Kind.MODEL: Kind.EVALUATION, Kind.STATE: Kind.CROPS}

log = structlog.get_logger()

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TrialRules:
    """How long a candidate is watched: frames seen beside the live model, then frames seen while live. A model that
    can't take over within `swap_within_s` doesn't. A hint never makes two looks closer than `hints_apart_ns`."""

    poll_ns: int
    shadow_frames: int
    prove_frames: int
    swap_within_s: float = 10.0
    hints_apart_ns: int = HINTS_APART_NS


@dataclass(frozen=True, slots=True)
class Opinion:
    """What the judge says: PASSED, FAILED or UNDECIDED, and why in words."""

    event: Event
    words: str


class Judge(Protocol):
    """Compares two packages on a labelled set (owned here; inference has the one that ships)."""

    async def judge(self, live: Path, candidate: Path, evaluation: Path | None) -> Opinion:
        """Whatever keeps it from an opinion is UNDECIDED. Cancelled when the trial ends before."""
        ...


class NoWayBack(EnvironmentFault):
    """What was good before can't take over from a candidate that was given up. A start boots it."""


class Attempt:
    """One beginning of a trial of that kind. What is told of it once it is over says nothing about the next one.

    `live_from` is how many frames had been processed when the candidate took over; None until then.
    """

    def __init__(self, kind: Kind, told: asyncio.Queue[tuple[Attempt, Event, str]]) -> None:
        self.kind = kind
        self._told = told
        self.judging: asyncio.Task[None] | None = None
        self.live_from: int | None = None

    def tell(self, event: Event, words: str) -> None:
        """`words` may quote what a model's author wrote."""
        self._told.put_nowait((self, event, shown(words)[:MOST_WORDS]))

    # --- as the perception's TrialWatch -----------------------------------------------------------

    def loaded(self) -> None:
        self.tell(Event.LOADED, "its golden vectors hold here")

    def unfit(self, words: str) -> None:
        self.tell(Event.UNFIT, words)

    def crashed(self, words: str) -> None:
        self.tell(Event.CRASHED, words)

    def hindered(self, words: str) -> None:
        self.tell(Event.EXPIRED, words)


class UpdateSide:
    """`factory` has the packages the runtime was shipped with, of each kind that this vehicle runs: no other is tried.
    `folder` holds everything that updates keep on flash.

    `clock` is real time with the wall clock that is believed. Releases come by `bulk`, if there is one, which may raise
    HeldBack; `until_let` returns when it wouldn't. `signer` is the vehicle's identity: it signs what each notice says
    of the slots. Raises DiskError, OtaError.

    A step is made durable and carried out before the next one begins, whoever asked for it: what flash says and what
    runs never get apart.
    """

    def __init__(
        self,
        folder: Path,
        roots: Roots,
        vehicle: Vehicle,
        source: Source,
        factory: Mapping[Kind, Path],
        judge: Judge,
        rules: TrialRules,
        clock: Clock,
        rng: Random,
        on_notice: Callable[[Notice], None],
        bulk: Source | None = None,
        until_let: Callable[[], Coroutine[Any, Any, object]] | None = None,
        signer: Signer | None = None,
    ) -> None:
        self._notices: deque[Notice] = deque()
        self._updates = Updates(state_folder(folder), roots, vehicle, clock, self._notices.append, signer)
        self._source = source
        self._bulk = bulk or source
        self._until_let = until_let or asyncio.Event().wait
        self._folder = folder
        self._factory = factory
        self._judge = judge
        self._rules = rules
        self._clock = clock
        self._rng = rng
        self._on_notice = on_notice
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="updates")
        self._told: asyncio.Queue[tuple[Attempt, Event, str]] = asyncio.Queue()
        self._attempt: Attempt | None = None
        self._one_step = asyncio.Lock()
        self._hinted = asyncio.Event()
        self._is_over = False
        self._progress: Progress | None = None
        self._trouble = ""
        self._waits: Held | None = None
        self._in_vain = 0
        self._looks = 0
        self._kind = Kind.MODEL
        self._begun: Step | None = None
        for kind, (_, step) in self._updates.begin().items():
            if step is not None and kind in factory:
                self._kind, self._begun = kind, step
            elif step is not None and step.state not in RESTS:
                self._updates.handle(kind, Event.CANCELLED, f"this vehicle runs no {kind} any more")

    def live_package(self, kind: Kind) -> Path:
        """The good slot's: what perception starts with, and a candidate is compared to."""
        good = self._updates.slots(kind).record.good
        return self._factory[kind] if good is Slot.FACTORY else self._folder / self._updates.slots(kind).path(good)

    def taken(self, kind: Kind) -> Path | None:
        """The folder of the release that takes effect without a trial; None before the first."""
        good = self._updates.slots(kind).record.good
        return None if good is Slot.FACTORY else self._folder / self._updates.slots(kind).path(good)

    # --- life -------------------------------------------------------------------------------------

    async def run(self, perception: Perception | None) -> None:
        """Until cancelled, once the perception has started; without one (None, and no `factory`) nothing is tried, and
        what takes effect without a trial is taken all the same. Raises a group of DiskError (nothing can be tried on a
        dead disk) or NoWayBack."""
        self._tell_notices()
        try:
            async with asyncio.TaskGroup() as self._tasks:
                if perception is not None:
                    await self._try(perception)
                self._tasks.create_task(self._look_again_and_again())
        finally:
            # A read that waits for the network must not hold up the ignition, nor may a download go on behind it.
            self._is_over = True
            self._source.close()
            self._thread.shutdown(wait=False, cancel_futures=True)

    async def _try(self, perception: Perception) -> None:
        self._perception = perception
        if self._begun is not None:
            await self._act(self._begun)
        self._tasks.create_task(self._conduct())
        self._tasks.create_task(self._spend())

    def hint(self) -> None:
        """Somebody says that there is something new. That is all a hint can say."""
        self._hinted.set()

    def status(self) -> UpdatesStatus:
        progress = self._progress or Progress(0, 0, 0)
        fetched = progress.kept + progress.fetched
        return UpdatesStatus(self._updates.status(), self._trouble, progress.whole, fetched, self._looks, self._waits)

    # --- looking ----------------------------------------------------------------------------------

    async def _look_again_and_again(self) -> None:
        while True:
            self._hinted.clear()
            await self._look()
            # Not all at once: a fleet that was switched on together must not return together.
            pause_ns = self._rng.randrange(self._rules.poll_ns // 2, self._rules.poll_ns + 1)
            pause_ns <<= min(self._in_vain, MOST_DOUBLINGS)
            began_ns = self._clock.boot_ns()
            await self._hinted_before(began_ns + pause_ns)
            await self._clock.sleep_until(began_ns + min(self._rules.hints_apart_ns, pause_ns))

    async def _hinted_before(self, boot_ns: int) -> None:
        """Also when what waits for another network or day waits no longer."""
        reasons: list[Coroutine[Any, Any, object]] = [self._clock.sleep_until(boot_ns), self._hinted.wait()]
        if self._waits is not None:
            reasons.append(self._until_let())
        tasks = [asyncio.ensure_future(reason) for reason in reasons]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()

    async def _look(self) -> None:
        troubles: list[OtaError | DiskError] = []
        try:
            offers = await self._do(self._updates.check, self._source)
            if self._attempt is not None and not self._updates.is_trial_wanted:
                self._attempt.tell(Event.CANCELLED, "its fleet no longer wants it")
            await self._take(offers, troubles)
        except (OtaError, DiskError) as trouble:
            troubles.append(trouble)
        finally:
            self._progress = None
            self._looks += 1
        self._note(troubles)

    async def _take(self, offers: Sequence[Offer], troubles: list[OtaError | DiskError]) -> None:
        """What is wrong with one release keeps no other from its place, but those that it would judge."""
        missing: set[Kind] = set()
        for offer in offers:
            is_run = offer.kind not in TRIED or offer.kind in self._factory
            if not is_run or _JUDGED_BY.get(offer.kind) in missing:
                continue
            try:
                await self._install(offer)
            except (TrustError, FetchError, NoRoomForUpdate) as trouble:
                missing.add(offer.kind)
                troubles.append(trouble)

    async def _install(self, offer: Offer) -> None:
        async with self._one_step:
            # A trial's steps can't wait for a download, and what it is judged by stays what it was.
            if self._state in RESTS:
                self._kind = offer.kind if offer.kind in TRIED else self._kind
                source = self._source if offer.kind in SMALL else self._bulk
                await self._act(await self._do(self._updates.install, source, offer, self._watch))

    def _note(self, troubles: Sequence[OtaError | DiskError]) -> None:
        """What came of a look. What was fetched and then refused, or had no room, was fetched in vain."""
        waits = [Held(str(trouble), trouble.until_ns) for trouble in troubles if isinstance(trouble, HeldBack)]
        self._waits = next(iter(waits), None)
        troubles = [trouble for trouble in troubles if not isinstance(trouble, HeldBack)]
        for trouble in troubles:
            if isinstance(trouble, (TrustError, FetchError, NoRoomForUpdate, DiskError)):
                log.warning("update_not_taken", reason=str(trouble))
            else:
                log.error("updates_refused", reason=str(trouble))
        self._trouble = str(troubles[0]) if troubles else ""
        if any(isinstance(trouble, (TrustError, NoRoomForUpdate)) for trouble in troubles):
            self._in_vain += 1
        elif not troubles:
            self._in_vain = 0

    def _watch(self, progress: Progress) -> None:
        if self._is_over:
            raise FetchError("The agent ends. The download goes on at its next start.")
        self._progress = progress

    # --- trying -----------------------------------------------------------------------------------

    async def _conduct(self) -> None:
        """Takes what is told of the trial, one thing after the other. What comes too late says nothing any more."""
        while True:
            attempt, event, words = await self._told.get()
            async with self._one_step:
                if attempt is self._attempt and (self._state, event) in TRANSITIONS:
                    await self._act(await self._do(self._step, event, words))

    async def _spend(self) -> None:
        """Counts powered time with frames coming in, and looks whether a live candidate has proven itself."""
        frames = 0
        while True:
            await self._clock.sleep_until(self._clock.boot_ns() + TICK_NS)
            seen = self._perception.status().frames.processed
            flow, frames = seen > frames, seen
            async with self._one_step:
                if flow and self._state not in RESTS:
                    # A tick, however long ago the last one was: a computer that slept wasn't powered.
                    await self._act(await self._do(self._updates.spend, self._kind, TICK_NS))
                proof = self._proof()
                if proof is not None:
                    await self._act(await self._do(self._step, Event.PROVEN, proof))

    def _proof(self) -> str | None:
        """What a live candidate has shown, once it is enough to keep it."""
        status, attempt = self._perception.status(), self._attempt
        if attempt is None or attempt.live_from is None:
            return None
        looked_at = status.frames.processed - attempt.live_from
        if status.trial is None or not status.trial.is_live or looked_at < self._rules.prove_frames:
            return None
        return f"{looked_at} frames live, {status.trial.deaths} deaths"

    def _step(self, event: Event, words: str) -> Step:
        """Before a release is denied for ever its bytes are read again, and the kept ones that its worker loads beside
        them: what flash did to them isn't its fault."""
        if Effect.DENY in TRANSITIONS[self._state, event][1]:
            try:
                for kind in self._factory:
                    record = self._updates.slots(kind).record
                    slot = record.trial if kind is self._kind else record.good
                    assert slot is not None
                    self._updates.slots(kind).demand_bootable(slot)
            except (SlotDamaged, DiskFault) as damage:
                return self._updates.handle(self._kind, Event.EXPIRED, f"{damage} It was found: {words}")
        return self._updates.handle(self._kind, event, words)

    async def _act(self, step: Step | None) -> None:
        if step is None:
            return
        for effect in step.effects:
            log.info("update_effect", effect=effect.value, state=step.state.value)
            match effect:
                case Effect.START_SHADOW:
                    self._attempt = Attempt(self._kind, self._told)
                    self._perception.try_beside(self._trial_package(), self._attempt, _ROLES[self._kind])
                case Effect.START_JUDGE:
                    attempt = self._attempt_under_way
                    attempt.judging = self._tasks.create_task(self._have_judged(attempt, self._trial_package()))
                case Effect.SWITCH:
                    await self._switch(self._attempt_under_way)
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

    async def _switch(self, attempt: Attempt) -> None:
        try:
            async with asyncio.timeout(self._rules.swap_within_s):
                first = await self._perception.swap()
        except (TimeoutError, TrialOver):
            attempt.tell(Event.EXPIRED, f"it couldn't take over within {self._rules.swap_within_s:g} s")
            return
        attempt.live_from = self._perception.status().frames.processed
        log.info("model_switched", first_frame_id=first)

    async def _switch_back(self) -> None:
        trial = self._perception.status().trial
        if trial is None or not trial.is_live:
            return
        try:
            async with asyncio.timeout(self._rules.swap_within_s):
                first = await self._perception.swap()
        except (TimeoutError, TrialOver) as late:
            raise NoWayBack(
                f"The model that was good before couldn't take over within {self._rules.swap_within_s:g} s. The agent "
                "ends here; its next start begins with that model."
            ) from late
        log.info("model_switched_back", first_frame_id=first)

    async def _stop_beside(self) -> None:
        attempt, self._attempt = self._attempt, None
        if attempt is not None and attempt.judging is not None:
            attempt.judging.cancel()
            await asyncio.wait({attempt.judging})
        await self._perception.leave_beside()

    async def _have_judged(self, attempt: Attempt, candidate: Path) -> None:
        """The judge's opinion, once the candidate has also seen enough of this vehicle's own road."""
        try:
            evaluation = await self._do(self._evaluation, attempt.kind)
        except (SlotDamaged, DiskError) as damage:
            opinion = Opinion(Event.UNDECIDED, f"there is nothing to judge it by: {damage}")
        else:
            opinion = await self._judge.judge(self.live_package(attempt.kind), candidate, evaluation)
        while (trial := self._perception.status().trial) is None or trial.looked_at < self._rules.shadow_frames:
            await self._clock.sleep_until(self._clock.boot_ns() + TICK_NS // 10)
        words = f"{opinion.words}; {trial.looked_at} frames beside the live one, agreement {trial.agreement.f1:.2f}"
        attempt.tell(opinion.event, words)

    # --- inside -----------------------------------------------------------------------------------

    @property
    def _state(self) -> State:
        return self._updates.slots(self._kind).record.state

    @property
    def _attempt_under_way(self) -> Attempt:
        assert self._attempt is not None
        return self._attempt

    def _trial_package(self) -> Path:
        trial = self._updates.slots(self._kind).record.trial
        assert trial is not None
        return self._folder / self._updates.slots(self._kind).path(trial)

    def _evaluation(self, kind: Kind) -> Path | None:
        """What that kind is judged by, re-hashed just now. Raises SlotDamaged, DiskError."""
        slots = self._updates.slots(_JUDGED_BY[kind])
        slots.demand_bootable(slots.record.good)
        return self.taken(_JUDGED_BY[kind])

    async def _do(self, act: Callable[..., T], *arguments: object) -> T:
        """In the one thread that reads the network and syncs flash for updates."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: act(*arguments))
        finally:
            self._tell_notices()

    def _tell_notices(self) -> None:
        while self._notices:
            self._on_notice(self._notices.popleft())
