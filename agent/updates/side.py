"""The vehicle's side of a release's life: looked for, brought to flash, tried, kept or given up.

ota/updates.py decides and makes durable, in a thread of its own; here its effects are carried out by the conductor of
the way that the kind is tried. A hint from the network only makes the next look come sooner.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any, Final, TypeVar

import structlog

from agent.media import MediaShelf
from agent.perception import Perception
from agent.status import UpdatesStatus
from agent.updates.beside import Beside
from agent.updates.conduct import TICK_NS, Attempt, Conductor, TrialRules
from agent.updates.doubts import UNHEARD, DoubtHeard
from agent.updates.judge import Judge
from ecu.clock import SECOND_NS, Clock
from ecu.disk import DiskError, DiskFault, state_folder
from ecu.errors import shown
from ota.apart import JUDGES
from ota.errors import DoesNotFit, FetchError, HeldBack, NoRoomForUpdate, OtaError, TrustError
from ota.facts import Budgets
from ota.fitness import Host
from ota.kinds import Kind
from ota.landing import Progress
from ota.machine import INWARD, RESTS, TRANSITIONS, WAYS, Effect, Event, State, Way, can_happen
from ota.report import Signer
from ota.slots import BootRecord, Slot, SlotDamaged
from ota.source import Source
from ota.trial import Step
from ota.trust import Offer, Roots, Vehicle
from ota.updates import Notice, Updates
from telemetry.uplink.allowance import Held

MOST_DOUBLINGS: Final = 4
"""Of the pause between two looks, while each fetches what is then refused or has no room: somebody pays for it."""
MEDIA_LOOK_NS: Final = 5 * SECOND_NS
SMALL: Final = (Kind.CAMPAIGN,)
"""Kinds that wait for no other network, and for no trial: one may take a danger away."""

log = structlog.get_logger()

T = TypeVar("T")


class UpdateSide:
    """`factory` has the packages the runtime was shipped with, of each model kind that this vehicle runs, `others` who
    conducts the trials of other kinds: what nobody conducts isn't tried here. `running` is the runtime's slot that this
    process was started from, `host` what would run a release. `folder` holds everything that updates keep on flash.

    `clock` is real time with the wall clock that is believed. Releases come by `bulk`, if there is one, which may raise
    HeldBack; `until_let` returns when it wouldn't. A medium that is found in `media` is looked at first.
    `signer` is the vehicle's identity: it signs what each notice says of the slots. Raises DiskError, OtaError.

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
        others: Sequence[Conductor] = (),
        running: Slot = Slot.FACTORY,
        host: Host | None = None,
        media: Path | None = None,
        signer: Signer | None = None,
        doubt_heard: DoubtHeard = UNHEARD,
    ) -> None:
        self._notices: deque[Notice] = deque()
        self._flash = ThreadPoolExecutor(max_workers=1, thread_name_prefix="flash")
        self._updates = Updates(
            state_folder(folder), roots, vehicle, clock, self._notices.append, host, self._flash, signer
        )  # fmt: skip
        self._source = source
        self._bulk = bulk or source
        self._until_let = until_let or asyncio.Event().wait
        self._shelf = MediaShelf(media, vehicle.name)
        self._folder = folder
        self._factory = factory
        self._judge = judge
        self._doubt_heard = doubt_heard
        self.rules = rules
        self.clock = clock
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
        self._looks_held = 0
        self._conductors = {kind: conductor for conductor in others for kind in conductor.kinds}
        self._kind = Kind.MODEL
        self._begun: Step | None = None
        self._begin(running)

    def _begin(self, running: Slot) -> None:
        """At most one trial is under way. What nobody conducts here any more is given up. What a launcher started is
        what is good, whatever this process finds of the slot that it passed over."""
        for kind, (_, step) in self._updates.begin(running).items():
            if step is not None and (kind in self._factory or kind in self._conductors):
                self._kind, self._begun = kind, step
            elif step is not None:
                self._updates.give_up(kind, f"this vehicle runs no {kind} any more")
        if Kind.RUNTIME in self._conductors:
            self._updates.keep_running(f"slot {running} runs, since the launcher couldn't start what was good")

    def live_package(self, kind: Kind) -> Path:
        """The good slot's: what perception starts with, and a candidate is compared to."""
        return self._released(kind, self.record(kind).good) or self._factory[kind]

    def taken(self, kind: Kind) -> tuple[Path, ...]:
        """The folders of the releases that whoever uses that kind is to use now, in this order: the one under trial
        where it is tried by being applied, and the good one."""
        record = self.record(kind)
        applied = record.trial if WAYS[kind] is Way.APPLIED else None
        folders = (self._released(kind, slot) for slot in (applied, record.good) if slot is not None)
        return tuple(folder for folder in folders if folder is not None)

    @property
    def looks_held(self) -> int:
        """Looks at the receiver since this start in which both repositories were found, and held."""
        return self._looks_held

    def below_bootable(self) -> str:
        """Why this vehicle is to do nothing but to be updated, in words; "" where it may run."""
        return self._updates.below_bootable()

    # --- life -------------------------------------------------------------------------------------

    async def run(self, perception: Perception | None) -> None:
        """Until cancelled, once the perception has started; without one (None, and no `factory`) no model is tried, and
        what else is released is taken all the same. Raises a group of DiskError (nothing can be tried on a dead disk)
        or NoWayBack."""
        self._tell_notices()
        if perception is not None:
            beside = Beside(perception, tuple(self._factory), self._judge, self._doubt_heard)
            self._conductors |= dict.fromkeys(beside.kinds, beside)
        try:
            async with asyncio.TaskGroup() as self._tasks:
                await self._act(self._begun)
                for conductor in dict.fromkeys(self._conductors.values()):
                    self._tasks.create_task(conductor.start(self))
                self._tasks.create_task(self._conduct())
                self._tasks.create_task(self._tick())
                self._tasks.create_task(self._look_again_and_again())
        finally:
            # A read that waits for the network must not hold up the ignition, nor may a download go on behind it.
            self._is_over = True
            self._source.close()
            for thread in (self._thread, self._flash):
                thread.shutdown(wait=False, cancel_futures=True)

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
            pause_ns = self._rng.randrange(self.rules.poll_ns // 2, self.rules.poll_ns + 1)
            pause_ns <<= min(self._in_vain, MOST_DOUBLINGS)
            began_ns = self.clock.boot_ns()
            await self._hinted_before(began_ns + pause_ns)
            await self.clock.sleep_until(began_ns + min(self.rules.hints_apart_ns, pause_ns))

    async def _hinted_before(self, boot_ns: int) -> None:
        """Also when what waits for another network or day waits no longer."""
        reasons: list[Coroutine[Any, Any, object]] = [self.clock.sleep_until(boot_ns), self._hinted.wait()]
        if self._waits is not None:
            reasons.append(self._until_let())
        if self._shelf.is_wanted:
            reasons.append(self._until_a_medium_comes())
        tasks = [asyncio.ensure_future(reason) for reason in reasons]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()

    async def _until_a_medium_comes(self) -> None:
        while not await asyncio.to_thread(self._shelf.is_new):
            await self.clock.sleep_until(self.clock.boot_ns() + MEDIA_LOOK_NS)

    async def _look(self) -> None:
        """At a medium that is there, then at the receiver: it knows what came after the medium was written."""
        troubles: list[OtaError | DiskError] = []
        try:
            await self._look_at_medium(troubles)
            self._looks_held += await self._look_at(self._source, self._bulk, troubles)
        finally:
            self._progress = None
            self._looks += 1
        self._note(troubles)

    async def _look_at_medium(self, troubles: list[OtaError | DiskError]) -> None:
        if not self._shelf.is_wanted:
            return
        try:
            medium = await asyncio.to_thread(self._shelf.open)
        except (TrustError, FetchError) as trouble:
            troubles.append(trouble)
            if isinstance(trouble, TrustError):
                self._shelf.refuse()
                await self.do(self._updates.refuse, trouble)
            return
        if medium is None:
            return
        try:
            await self._look_at(medium, medium, troubles)
        finally:
            medium.close()
        if any(isinstance(trouble, TrustError) for trouble in troubles):
            self._shelf.refuse()

    async def _look_at(self, source: Source, bulk: Source, troubles: list[OtaError | DiskError]) -> bool:
        """Whether both repositories were there, and held."""
        try:
            offers = await self.do(self._updates.check, source)
            await self._hold_against(self._attempt)
            await self._take(offers, source, bulk, troubles)
        except (OtaError, DiskError) as trouble:
            troubles.append(trouble)
            return False
        return True

    async def _hold_against(self, attempt: Attempt | None) -> None:
        """What is tried, against what the look that just ended says of it and of others."""
        if attempt is None:
            return
        if not self._updates.is_trial_wanted:
            attempt.tell(Event.CANCELLED, "its fleet no longer wants it")
        elif words := await self.do(self._updates.gives_way, tuple(self._conductors)):
            attempt.tell(Event.CANCELLED, words)

    async def _take(
        self, offers: Sequence[Offer], source: Source, bulk: Source, troubles: list[OtaError | DiskError]
    ) -> None:
        """What is wrong with one release keeps no other from its place, but those that it would judge."""
        missing: set[Kind] = set()
        for offer in offers:
            is_run = WAYS[offer.kind] is Way.AT_ONCE or offer.kind in self._conductors
            if not is_run or JUDGES.get(offer.kind) in missing:
                continue
            try:
                await self._install(offer, source if offer.kind in SMALL else bulk)
            except (OtaError, DiskError) as trouble:
                missing.add(offer.kind)
                troubles.append(trouble)

    async def _install(self, offer: Offer, source: Source) -> None:
        async with self._one_step:
            # A trial's steps can't wait for a download, and what it is judged by stays what it was.
            if self._state in RESTS or offer.kind in SMALL:
                self._kind = offer.kind if offer.kind in self._conductors else self._kind
                await self._act(await self.do(self._updates.install, source, offer, self._watch))

    def _note(self, troubles: Sequence[OtaError | DiskError]) -> None:
        """What came of a look. What was fetched and then refused, or had no room, was fetched in vain."""
        waits = [Held(str(trouble), trouble.until_ns) for trouble in troubles if isinstance(trouble, HeldBack)]
        self._waits = next(iter(waits), None)
        troubles = [trouble for trouble in troubles if not isinstance(trouble, HeldBack)]
        for trouble in troubles:
            if isinstance(trouble, (TrustError, DoesNotFit, FetchError, NoRoomForUpdate, DiskError)):
                log.warning("update_not_taken", reason=str(trouble))
            else:
                log.error("updates_refused", reason=str(trouble))
        self._trouble = shown(troubles[0]) if troubles else ""
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
                if attempt is self._attempt and can_happen(WAYS[self._kind], self._state, event):
                    await self._act(await self.do(self._step, event, words))

    async def _tick(self) -> None:
        """Counts eligible powered time, and looks what can be seen of the trial by now."""
        while True:
            await self.clock.sleep_until(self.clock.boot_ns() + TICK_NS)
            # A tick, however long ago the last one was: a computer that slept wasn't powered.
            passed = {kind: conductor.has_time_passed() for kind, conductor in self._conductors.items()}
            async with self._one_step:
                if self._state not in RESTS and passed.get(self._kind, False):
                    await self._act(await self.do(self._updates.spend, self._kind, TICK_NS))
                if self._state not in RESTS:
                    seen = self._conductors[self._kind].seen(self, self._state)
                    if seen is not None:
                        await self._act(await self.do(self._step, *seen))

    def _step(self, event: Event, words: str) -> Step:
        """Before a release is denied for ever its bytes are read again, and the kept ones that run beside them: what
        flash did to them isn't its fault."""
        if Effect.DENY in TRANSITIONS[WAYS[self._kind]][self._state, event][1]:
            try:
                for kind in self._conductors[self._kind].kinds:
                    record = self.record(kind)
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
            assert effect not in INWARD, f"{effect} is made durable before anybody is asked to act"
            # The audit told whoever reports.
            if effect is not Effect.REPORT:
                await self._conductors[self._kind].act(self, self._kind, effect)
        if step.before not in RESTS and step.state in RESTS:
            # What waited for the end of this trial can come now.
            self.hint()

    # --- as the conductors' Ground ----------------------------------------------------------------

    def begin(self, kind: Kind) -> Attempt:
        self._attempt = Attempt(kind, self._told)
        return self._attempt

    def over(self) -> None:
        self._attempt = None

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return self._tasks.create_task(work)

    async def do(self, act: Callable[..., T], *arguments: object) -> T:
        """In the one thread that reads the network and syncs flash for updates."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: act(*arguments))
        finally:
            self._tell_notices()

    async def tell(self, kind: Kind, what: str, words: str) -> None:
        await self.do(self._updates.tell, kind, what, words)

    async def refused(self, kind: Kind, refusal: TrustError) -> None:
        await self.do(self._updates.refused, kind, refusal)

    async def fell_back(self, kind: Kind, digest: str | None, words: str) -> None:
        await self.do(self._updates.fell_back, kind, digest, words)

    def record(self, kind: Kind) -> BootRecord:
        return self._updates.slots(kind).record

    def trial_package(self, kind: Kind) -> Path:
        trial = self.record(kind).trial
        assert trial is not None
        return self._folder / self._updates.slots(kind).path(trial)

    def evaluation(self, kind: Kind) -> Path | None:
        slots = self._updates.slots(JUDGES[kind])
        slots.demand_bootable(slots.record.good)
        if older := self._updates.below_kept(JUDGES[kind]):
            raise SlotDamaged(older)
        return self._released(JUDGES[kind], slots.record.good)

    def budgets(self, kind: Kind) -> Budgets:
        trial = self.record(kind).trial
        manifest = self._updates.slots(kind).manifest(trial) if trial is not None else None
        return manifest.budgets if manifest is not None else Budgets()

    # --- inside -----------------------------------------------------------------------------------

    @property
    def _state(self) -> State:
        return self.record(self._kind).state

    def _released(self, kind: Kind, slot: Slot) -> Path | None:
        return None if slot is Slot.FACTORY else self._folder / self._updates.slots(kind).path(slot)

    def _tell_notices(self) -> None:
        while self._notices:
            self._on_notice(self._notices.popleft())
