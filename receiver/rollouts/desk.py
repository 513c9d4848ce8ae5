"""Rollouts as they go: stored reports are counted, the next step is decided, and the director lists what was decided.

Each of these is durable before the next begins, and begun again after a kill: nothing is remembered here that decides
anything.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import Final

import msgspec
import structlog
from sqlalchemy import Connection

from ecu.clock import SECOND_NS, Clock
from ecu.errors import OutriderError, UsageFault
from receiver import admission
from receiver.counters import Counters
from receiver.rollouts import books, overview, reports
from receiver.rollouts.answers import RolloutLine, Signed, SignRequest, StartRequest, StopRequest
from receiver.rollouts.approval import Operators, RolloutRefused, Statement, checked_operator
from receiver.rollouts.books import Release, Turn
from receiver.rollouts.listing import Lister
from receiver.rollouts.rules import checked
from receiver.rollouts.states import Event
from receiver.store import Store, StoreError
from telemetry.wire import Receipt

log = structlog.get_logger()

HINT: Final = "update"
BLOCKS_AT_ONCE: Final = 64
TURNS_AT_ONCE: Final = 25
_EVERY_NS: Final = 5 * SECOND_NS
_RENEW_NS: Final = 3600 * SECOND_NS
_GRACE_NS: Final = 3600 * SECOND_NS
"""After a start nobody counts as silent for so long: what waited for this receiver comes first."""
_UNKNOWN: Final = "unknown"
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
        self._held_up = ""
        self._began_ns = clock.boot_ns()
        self._renew_ns = clock.boot_ns()

    # --- the operator's ---------------------------------------------------------------------------

    async def start(self, asked: StartRequest) -> RolloutLine:
        """Raises RolloutRefused, UsageFault, RepositoryFault."""
        if not _NAME.fullmatch(asked.name):
            raise UsageFault(f"{asked.name!r} can't be a rollout's name: up to 48 of a-z, 0-9, '.' and '-'.")
        by, rules = checked_operator(asked.by), checked(asked.rules)
        release = await asyncio.to_thread(self._director().release, asked.target)
        strata = await self._store.transact(_chosen, asked.strata, asked.of, release, self._clock.wall_ns())
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
        before = await self._store.transact(books.signers, name, asked.act, statement.step)
        keys = {who: self._operators.key_bytes(who) for who in (*before, asked.by)}
        happened = await self._store.transact(
            books.sign, name, asked.act, asked.by, keys, signature, self._clock.wall_ns()
        )
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
        await self._count()
        while await self._decide():
            pass
        while await self._list():
            pass
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
            self._held_up = ""

    async def _count(self) -> None:
        fetched, self._fetched_ns = self._fetched_ns, {}
        await self._store.transact(books.expose, fetched)
        while waiting := await self._store.transact(reports.page, BLOCKS_AT_ONCE):
            told = await asyncio.to_thread(reports.read, waiting)
            news = await self._store.transact(reports.take, waiting, told, self._clock.wall_ns())
            self._counters.rollout_reports += news
            if news:
                await self._decide()
        if self._clock.boot_ns() - self._began_ns >= _GRACE_NS:
            for name in await self._store.transact(books.live):
                await self._store.transact(books.silence, name, self._clock.wall_ns())

    async def _decide(self) -> bool:
        """Whether anything changed."""
        changed = False
        for name in await self._store.transact(books.live):
            decision = await self._store.transact(books.step, name, self._clock.wall_ns())
            if decision is not None:
                changed = True
                log.info("rollout_decided", rollout=name, move=decision.move, reason=decision.words)
        return changed

    async def _list(self) -> bool:
        """The next vehicles' turns; False when there are none."""
        turns = await self._store.transact(books.turns, TURNS_AT_ONCE)
        if not turns:
            return False
        lister = self._director()
        known = await self._remembered(lister, turns)
        await asyncio.to_thread(lister.act, known)
        await self._store.transact(books.listed, known, self._clock.wall_ns())
        self._counters.rollout_listings += len(known)
        for turn in known:
            self._hint(turn.vehicle, HINT)
        return True

    async def _remembered(self, lister: Lister, turns: list[Turn]) -> list[Turn]:
        """With what the director listed before their release did, which is durable from here on."""
        fresh = [turn for turn in turns if turn.before is None]
        before = await asyncio.to_thread(lambda: [(turn, lister.before(turn)) for turn in fresh])
        await self._store.transact(books.remember, before)
        return await self._store.transact(books.turns, TURNS_AT_ONCE) if before else turns

    async def _renew(self) -> None:
        if self._lister is None or self._clock.boot_ns() < self._renew_ns:
            return
        renewed = await asyncio.to_thread(self._lister.renew)
        self._renew_ns = self._clock.boot_ns() + _RENEW_NS
        if renewed:
            log.info("assignments_renewed", vehicles=renewed)

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
            raise UsageFault(
                "This receiver is no director. Name the repository and the folder with the director's keys: "
                "[receiver] updates and director_keys."
            )
        return self._lister


def _chosen(connection: Connection, asked: Mapping[str, str], of: str, release: Release, now_ns: int) -> dict[str, str]:
    """The vehicles and their strata. Raises RolloutRefused."""
    fleet = admission.hardware(connection)
    strata = dict(asked) or {name: hardware or _UNKNOWN for name, hardware in fleet.items()}
    if strangers := sorted(set(strata) - set(fleet)):
        raise RolloutRefused(f"{', '.join(strangers[:20])} aren't of this fleet. Enrol them first, or leave them out.")
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
