"""Rollouts as they go: stored reports are counted, the next step is decided, and the director lists what was decided.

Each of these is durable before the next begins, and begun again after a kill: nothing is remembered here that decides
anything.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec
import structlog
from sqlalchemy import Connection

from ecu.clock import SECOND_NS, Clock
from ecu.errors import OutriderError, UsageFault
from receiver.counters import Counters
from receiver.rollouts import books, overview, reports
from receiver.rollouts.answers import NO_DIRECTOR, RoleLine, RolloutLine, Signed, SignRequest, StartRequest, StopRequest
from receiver.rollouts.approval import Operators, RolloutRefused, Statement, checked_operator
from receiver.rollouts.books import Release, Turn
from receiver.rollouts.endings import endings
from receiver.rollouts.hardware import chosen
from receiver.rollouts.listing import Failed, Lister
from receiver.rollouts.rules import checked
from receiver.rollouts.states import Event
from receiver.store import Store, StoreError
from telemetry.wire import Receipt

log = structlog.get_logger()

HINT: Final = "update"
BLOCKS_AT_ONCE: Final = 64
TURNS_AT_ONCE: Final = 100
RENEWED_AT_ONCE: Final = 100
_EVERY_NS: Final = 5 * SECOND_NS
_AGAIN_NS: Final = 600 * SECOND_NS
_RENEW_NS: Final = 3600 * SECOND_NS
_GRACE_NS: Final = 3600 * SECOND_NS
"""After a start nobody counts as silent for so long: what waited for this receiver comes first."""
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,47}", re.ASCII)
_MANIFEST: Final = re.compile(r"targets/[a-z]{1,16}/([0-9a-f]{64})\.[^/]*", re.ASCII)


class RolloutDesk:
    """`deliver` and `served` when something came of vehicles; `run` does the rest. Without a lister nothing can be
    started: this receiver has no repository, or isn't its director."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        counters: Counters,
        operators: Operators,
        lister: Lister | None,
        hint: Callable[[str, str], bool],
    ) -> None:
        self._store = store
        self._clock = clock
        self._counters = counters
        self._operators = operators
        self._lister = lister
        self._hint = hint
        self._news = asyncio.Event()
        self._fetched_ns: dict[tuple[str, str], int] = {}
        self._held_up = self._trouble = ""
        self._put_off_ns: dict[tuple[str, str], int] = {}
        self._began_ns = clock.boot_ns()
        self._renew_ns = clock.boot_ns()

    # --- the operator's ---------------------------------------------------------------------------

    async def start(self, asked: StartRequest) -> RolloutLine:
        """Raises RolloutRefused, UsageFault, RepositoryFault."""
        if not _NAME.fullmatch(asked.name):
            raise UsageFault(f"{asked.name!r} can't be a rollout's name: up to 48 of a-z, 0-9, '.' and '-'.")
        by, rules = checked_operator(asked.by), checked(asked.rules)
        release = await asyncio.to_thread(self._director().release, asked.target)
        strata = await self._store.transact(_chosen, asked.strata, asked.of, release)
        await self._store.transact(books.propose, asked.name, release, rules, strata, by, self._clock.wall_ns())
        return await self._line(asked.name)

    async def statement(self, name: str, act: str) -> Statement:
        """What is to be signed for this act. Raises RolloutRefused."""
        if act not in ("approve", Event.RESUME, Event.GO_ON):
            raise UsageFault(f"{act!r} needs no signature.")
        return await self._store.transact(books.statement, name, act)

    async def sign(self, name: str, asked: SignRequest) -> Signed:
        """Raises RolloutRefused, UsageFault."""
        statement = await self.statement(name, asked.act)
        try:
            signature = bytes.fromhex(asked.signature)
        except ValueError as error:
            raise UsageFault("A signature is hex.") from error
        self._operators.demand_signed(asked.by, statement, signature)
        before = await self._store.transact(books.signers, statement)
        keys = self._operators.keys((*before, asked.by))
        happened = await self._store.transact(books.sign, statement, asked.by, keys, signature, self._clock.wall_ns())
        self._news.set()
        return Signed(happened, await self._line(name))

    async def stop(self, name: str, asked: StopRequest) -> RolloutLine:
        """Raises RolloutRefused."""
        if asked.act not in (Event.PAUSE, Event.CANCEL):
            raise UsageFault(f"{asked.act!r} stops nothing: pause or cancel.")
        words = f"{asked.act} by {checked_operator(asked.by)}"
        await self._store.transact(books.change, name, Event(asked.act), words, self._clock.wall_ns())
        self._news.set()
        return await self._line(name)

    async def lines(self, name: str = "") -> list[RolloutLine]:
        """Raises RolloutRefused for a name that there isn't."""
        found = await self._store.transact(overview.lines, self._clock.wall_ns(), name)
        if name and not found:
            await self._store.transact(books.one, name)
        return [msgspec.structs.replace(line, held_up=self._held_up) for line in found]

    async def repository(self) -> list[RoleLine]:
        """What this receiver's repository says until when; nothing where it has none. Raises RepositoryFault."""
        if self._lister is None:
            return []
        lines = endings(await asyncio.to_thread(self._lister.standings), self._clock.wall_ns())
        self._counters.repository_ending = sum(1 for line in lines if line.words)
        return lines

    # --- what happens by itself -------------------------------------------------------------------

    def deliver(self, vehicle: str, receipt: Receipt) -> None:
        """A receipt for a lane that reports travel in says that there may be some."""
        if any(receipt.lane is lane for lane, _ in reports.PLACES_LOOKED_AT):
            self._news.set()

    def served(self, vehicle: str, path: str) -> None:
        """A vehicle that asks for a manifest begins to fetch that release."""
        if found := _MANIFEST.fullmatch(path):
            self._fetched_ns.setdefault((vehicle, found[1]), self._clock.wall_ns())
            self._news.set()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._remind())
            while True:
                await self._news.wait()
                self._news.clear()
                await self._go_round()

    async def settle(self) -> None:
        """All that can be done now."""
        more = True
        while more:
            # Between two pages, too: a halt must not wait until thousands are listed.
            await self._count()
            while await self._decide():
                pass
            more = await self._list()
        await self._renew()

    async def _go_round(self) -> None:
        try:
            await self.settle()
        except StoreError as error:
            self._counters.store_failures += 1
            log.error("rollouts_put_off", reason=str(error))
        except OutriderError as error:
            # A key, the repository's folder, somebody at the desk: what was decided stays, and is tried again.
            self._held_up = str(error)
            self._counters.rollouts_held_up += 1
            log.error("rollouts_held_up", reason=str(error))
        except Exception:
            # A bug of rollouts' own: receipts go on without them.
            self._counters.rollout_faults += 1
            log.exception("rollout_fault")
        else:
            self._held_up = self._trouble if self._put_off_ns else ""

    async def _count(self) -> None:
        fetched, self._fetched_ns = self._fetched_ns, {}
        names = await self._store.transact(books.expose, fetched, self._clock.wall_ns())
        while waiting := await self._store.transact(reports.page, BLOCKS_AT_ONCE):
            told = await asyncio.to_thread(reports.read, waiting)
            taken = await self._store.transact(reports.take, waiting, told, self._clock.wall_ns())
            self._counters.rollout_reports += taken.news
            self._counters.rollout_reports_unproven += taken.unproven
            self._counters.rollout_blocks_faulty += taken.faults
            if taken.news:
                await self._decide()
        if self._clock.boot_ns() - self._began_ns >= _GRACE_NS:
            for name in names:
                await self._store.transact(books.silence, name, self._clock.wall_ns())

    async def _decide(self) -> bool:
        """Whether anything changed."""
        decisions, alarms = await self._store.transact(books.step_all, self._clock.wall_ns())
        for name, decision in decisions:
            log.info("rollout_decided", rollout=name, move=decision.move, reason=decision.words)
        for name, words in alarms:
            self._counters.rollout_alarms += 1
            log.error("rollout_alarm", rollout=name, reason=words)
        return bool(decisions)

    async def _list(self) -> bool:
        """The next vehicles' turns; False when there are none."""
        turns = await self._due()
        if not turns:
            return False
        lister = self._director()
        known, unread = await asyncio.to_thread(lister.before, turns)
        # Durable before it changes: after a kill the director itself no longer says what was before.
        await self._store.transact(books.remember, known, self._clock.wall_ns())
        done, unsigned = await asyncio.to_thread(lister.act, known)
        await self._store.transact(books.listed, done, self._clock.wall_ns())
        self._counters.rollout_listings += len(done)
        for turn in done:
            self._hint(turn.vehicle, HINT)
        self._put_off([*unread, *unsigned])
        return True

    async def _due(self) -> list[Turn]:
        """Without those that were put off."""
        now_ns = self._clock.boot_ns()
        self._put_off_ns = {key: until_ns for key, until_ns in self._put_off_ns.items() if until_ns > now_ns}
        most = TURNS_AT_ONCE + len(self._put_off_ns)
        turns = await self._store.transact(books.turns, most, self._clock.wall_ns())
        return [turn for turn in turns if (turn.rollout, turn.vehicle) not in self._put_off_ns][:TURNS_AT_ONCE]

    def _put_off(self, failed: Sequence[Failed]) -> None:
        for turn, words in failed:
            self._put_off_ns[turn.rollout, turn.vehicle] = self._clock.boot_ns() + _AGAIN_NS
            self._counters.rollouts_held_up += 1
            self._trouble = words
            log.error("listing_put_off", rollout=turn.rollout, vehicle=turn.vehicle, reason=words)

    async def _renew(self) -> None:
        """A page of what ends soon, once an hour from the first one on, and again while there is more: reports and
        halts come between. Also without any rollout."""
        if self._lister is None or self._clock.boot_ns() < self._renew_ns:
            return
        renewed = await asyncio.to_thread(self._lister.renew, RENEWED_AT_ONCE)
        if renewed.count:
            self._counters.assignments_renewed += renewed.count
            log.info("assignments_renewed", vehicles=renewed.count)
        for vehicle, words in renewed.failed:
            self._counters.rollouts_held_up += 1
            log.error("assignment_not_renewed", vehicle=vehicle, reason=words)
        if renewed.more:
            self._news.set()
            return
        self._renew_ns = self._clock.boot_ns() + _RENEW_NS
        for line in await self.repository():
            if line.words:
                log.error("repository_ends", role=line.role, reason=line.words)

    async def _remind(self) -> None:
        """Time alone decides, too: soaks end, and silence."""
        while True:
            self._news.set()
            await self._clock.sleep_until(self._clock.boot_ns() + _EVERY_NS)

    async def _line(self, name: str) -> RolloutLine:
        (line,) = await self.lines(name)
        return line

    def _director(self) -> Lister:
        if self._lister is None:
            raise UsageFault(NO_DIRECTOR)
        return self._lister


def _chosen(connection: Connection, asked: Mapping[str, str], of: str, release: Release) -> dict[str, str]:
    """The vehicles and their strata. Raises RolloutRefused."""
    strata = chosen(connection, asked, release)
    if not of:
        return strata
    earlier = books.one(connection, of)
    if release.kind != earlier.target.partition("/")[0] or release.release <= earlier.release:
        raise RolloutRefused(
            f"{release.target} is release {release.release}; who had {earlier.target} takes no other than a higher one "
            f"than {earlier.release} of its kind. Add the older files again under such a number."
        )
    had = set(books.holders(connection, of))
    return {name: stratum for name, stratum in strata.items() if name in had}
