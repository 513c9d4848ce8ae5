"""A model tried beside the live one: another worker that sees the same frames, a judge, a swap between two frames."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import structlog

from agent.perception import MAX_DEATHS, Agreement, Perception, Role, TrialOver
from agent.updates.conduct import TICK_NS, Attempt, Ground, NoWayBack
from agent.updates.doubts import UNHEARD, DoubtHeard, Doubts
from agent.updates.judge import Judge, Opinion
from agent.updates.memory import judge_memory
from ecu.disk import DiskError
from ota.facts import Budgets
from ota.kinds import Kind
from ota.machine import Effect, Event, State
from ota.slots import SlotDamaged

_ROLES: Final = {Kind.MODEL: Role.OBJECTS, Kind.STATE: Role.STATES}

log = structlog.get_logger()


class Watched:
    """As the perception's TrialWatch. `live_from` is how many frames had been processed when the candidate took over,
    `enough_at` when those that it had to see were first found to be; None until then."""

    def __init__(self, attempt: Attempt, doubts: Doubts) -> None:
        self._attempt = attempt
        self._doubts = doubts
        self.judging: asyncio.Task[None] | None = None
        self.live_from: int | None = None
        self.enough_at: int | None = None

    def tell(self, event: Event, words: str) -> None:
        self._attempt.tell(event, words)

    def loaded(self) -> None:
        self.tell(Event.LOADED, "its golden vectors hold here")

    def unfit(self, words: str) -> None:
        self.tell(Event.UNFIT, words)

    def crashed(self, words: str) -> None:
        self.tell(Event.CRASHED, words)

    def hindered(self, words: str) -> None:
        self.tell(Event.EXPIRED, words)

    def compared(self, newest: Agreement, whole: Agreement) -> None:
        self._doubts.note(newest, whole)


class Beside:
    """`kinds` are those whose factory packages run here; `heard` is told where the two disagree. Raises NoWayBack."""

    def __init__(
        self, perception: Perception, kinds: tuple[Kind, ...], judge: Judge, heard: DoubtHeard = UNHEARD
    ) -> None:
        self._perception = perception
        self._kinds = kinds
        self._judge = judge
        self._heard = heard
        self._watched: Watched | None = None
        self._frames = 0

    @property
    def kinds(self) -> tuple[Kind, ...]:
        return self._kinds

    async def start(self, ground: Ground) -> None: ...

    async def act(self, ground: Ground, kind: Kind, effect: Effect) -> None:
        match effect:
            case Effect.START_SHADOW:
                self._watched = Watched(ground.begin(kind), Doubts(_title(ground, kind), self._heard))
                self._perception.try_beside(ground.trial_package(kind), self._watched, _ROLES[kind])
            case Effect.START_JUDGE:
                watched = self._under_way
                judged = self._have_judged(ground, kind, watched, ground.trial_package(kind))
                watched.judging = ground.spawn(judged)
            case Effect.SWITCH:
                await self._switch(ground, self._under_way)
            case Effect.SWITCH_BACK:
                await self._switch_back(ground)
            case Effect.STOP_BESIDE:
                await self._stop(ground)
            case _:
                raise AssertionError(f"{effect} is nothing for what is tried beside")

    def has_time_passed(self) -> bool:
        """While frames come in."""
        before, self._frames = self._frames, self._perception.status().frames.processed
        return self._frames > before

    def seen(self, ground: Ground, state: State) -> tuple[Event, str] | None:
        """That a live candidate was live for long enough, and answered whatever it was asked until then."""
        status, watched = self._perception.status(), self._watched
        if watched is None or watched.live_from is None or status.trial is None or not status.trial.is_live:
            return None
        processed, deaths = status.frames.processed, status.trial.deaths
        looked_at = processed - watched.live_from
        if deaths >= MAX_DEATHS:
            return Event.CRASHED, f"its worker ended {deaths} times"
        if looked_at < ground.rules.prove_frames:
            return None
        if deaths:
            return Event.EXPIRED, f"{looked_at} frames live, {_not_kept(deaths)}"
        if watched.enough_at is None:
            watched.enough_at = processed
        # The frame that was looked at then may have been one to hang at: the next answer shows that it wasn't.
        return (Event.PROVEN, f"{looked_at} frames live, {deaths} deaths") if processed > watched.enough_at else None

    # --- inside -----------------------------------------------------------------------------------

    @property
    def _under_way(self) -> Watched:
        assert self._watched is not None
        return self._watched

    async def _switch(self, ground: Ground, watched: Watched) -> None:
        try:
            first = await self._swap(ground)
        except (TimeoutError, TrialOver):
            watched.tell(Event.EXPIRED, f"it couldn't take over within {ground.rules.swap_within_s:g} s")
            return
        watched.live_from = self._perception.status().frames.processed
        log.info("model_switched", first_frame_id=first)

    async def _switch_back(self, ground: Ground) -> None:
        trial = self._perception.status().trial
        if trial is None or not trial.is_live:
            return
        try:
            first = await self._swap(ground)
        except (TimeoutError, TrialOver) as late:
            raise NoWayBack(
                f"The model that was good before couldn't take over within {ground.rules.swap_within_s:g} s. The agent "
                "ends here; its next start begins with that model."
            ) from late
        log.info("model_switched_back", first_frame_id=first)

    async def _swap(self, ground: Ground) -> int:
        async with asyncio.timeout(ground.rules.swap_within_s):
            return await self._perception.swap()

    async def _stop(self, ground: Ground) -> None:
        watched, self._watched = self._watched, None
        ground.over()
        if watched is not None and watched.judging is not None:
            watched.judging.cancel()
            await asyncio.wait({watched.judging})
        await self._perception.leave_beside()

    async def _have_judged(self, ground: Ground, kind: Kind, watched: Watched, candidate: Path) -> None:
        """The judge's opinion, once the candidate has also seen enough of this vehicle's own road."""
        try:
            evaluation = await ground.do(ground.evaluation, kind)
            budgets = await ground.do(ground.budgets, kind)
        except (SlotDamaged, DiskError) as damage:
            opinion, budgets = Opinion(Event.UNDECIDED, f"there is nothing to judge it by: {damage}"), Budgets()
        else:
            live = ground.live_package(kind)
            opinion = await self._judge.judge(live, candidate, evaluation, budgets.cpu_relative)
        while (trial := self._perception.status().trial) is None or trial.looked_at < ground.rules.shadow_frames:
            await ground.clock.sleep_until(ground.clock.boot_ns() + TICK_NS // 10)
        words = f"{opinion.words}; {trial.looked_at} frames beside the live one, agreement {trial.agreement.f1:.2f}"
        watched.tell(*self._also_found(ground, opinion.event, words, trial.deaths, budgets))

    def _also_found(self, ground: Ground, event: Event, words: str, deaths: int, budgets: Budgets) -> tuple[Event, str]:
        """What its worker showed here, once the judge let it pass."""
        if event is not Event.PASSED:
            return event, words
        if deaths:
            return Event.UNDECIDED, f"{words}; {_not_kept(deaths)}"
        judged = judge_memory(*self._perception.peak_memory(), ground.rules.memory_ratio_at_most, budgets.memory_bytes)
        return judged.event, f"{words}; {judged.words}"


def _not_kept(deaths: int) -> str:
    """Once may be the computer's fault, so it isn't denied for it."""
    return f"its worker died or hung {deaths} times: such a one isn't kept"


def _title(ground: Ground, kind: Kind) -> str:
    record = ground.record(kind)
    release = record.installed(record.trial) if record.trial is not None else None
    return release.title if release is not None else str(kind)
