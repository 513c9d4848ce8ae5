"""The signals process as the agent keeps it: started, fed, heard, and started again when it ends.

What it captures is only ever offered to the spool by the agent; what it remembers (rings, windows) ends with it, and
what campaigns may still tell and have told is in its own book on flash.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import structlog

from agent.children import Child
from agent.perception.restart import Restarts
from agent.perception.settings import LOCKSTEP_HANG_NS, Supervision
from agent.signals.messages import (
    Admission,
    Captured,
    Finish,
    FromSignals,
    Item,
    PicturesWanted,
    SignalsFault,
    SignalsReady,
    SignalsStatus,
    TimeHeard,
    Told,
    Values,
    WallTime,
    Wanted,
    Work,
)
from ecu.channel import Advance, Done, Message
from ecu.clock import SECOND_NS
from ecu.errors import EnvironmentFault, UsageFault, shown
from ecu.urgency import Urgency, may_prefer, prefer
from telemetry.records import Lane, Purpose, Record, decode_event

MODULE: Final = "agent.signals.process"
ENDED: Final = "The signals process ended; nothing is captured until it is back."
DEADLY: Final = 3
"""Quick ends in a row, each unexplained and with the same campaigns."""
BARRED: Final = (
    f"The signals process ended {DEADLY} times soon after it had begun with these campaigns: they aren't in force until"
    " the agent starts again, or others are signed."
)
UNFINISHED: Final = "The signals process didn't tell in time all that it had captured before its end; the rest is lost."

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class SignalSideStatus:
    """A reading for status and doctor. `fault` is why nothing is captured, empty when all is well; `refused` why the
    campaigns that were signed last aren't in force, empty when they are."""

    pid: int | None
    fault: str
    refused: str
    revision: int
    ring_bytes: int
    bytes_per_day: int
    replaced: int
    not_understood: int
    untold: int
    told: SignalsStatus | None


class Hears(Protocol):
    """Who is told what comes of signals (agent/signals/room.py)."""

    def on_values(self, t_ns: int, values: dict[str, float]) -> None: ...

    def on_time_heard(self, heard: TimeHeard) -> None: ...

    def on_captured(self, record: Record) -> None: ...

    def on_pictures_wanted(self, wanted: PicturesWanted) -> None: ...

    def on_admission(self, admission: Admission) -> None: ...

    def on_ready(self) -> None: ...

    def on_unusable(self, why: str) -> bool:
        """The plan that it was given is none. True: there is another to begin with, or the bus waits for one."""
        ...


class Campaigns(Protocol):
    """Which campaigns are to be in force (agent/signals/campaigns.py)."""

    def candidates(self) -> tuple[bytes, ...]: ...

    def newest(self) -> bytes: ...

    def settle(self, data: bytes, admission: Admission) -> None: ...


@dataclass(slots=True)
class _Heard:
    """What a grant brought, in lockstep."""

    values: list[Values] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)


class SignalSide:
    """Use `run` (real time), or `begin` and `advance` (lockstep). `look` once more campaigns may have been
    signed."""

    def __init__(
        self,
        work: Callable[[], Work],
        campaigns: Campaigns,
        hears: Hears,
        supervision: Supervision,
        on_health: Callable[[str, str], None],
    ) -> None:
        self._work = work
        self._campaigns = campaigns
        self._hears = hears
        self._environment = supervision.environment
        self._start = supervision.start
        self._restarts = Restarts(supervision.clock, supervision.rng)
        self._on_health = on_health
        self._child: Child[FromSignals] | None = None
        self._ready: asyncio.Future[None] | None = None
        self._gone = asyncio.Event()
        self._done: asyncio.Future[None] | None = None
        self._lockstep = False
        self._telling: list[Message] = []
        """Lockstep: what goes before the next grant, however busy the computer is."""
        self._heard = _Heard()
        self._asked: deque[bytes] = deque()
        self._newest = b""
        self._deaths = 0
        self._suspect = b""
        self._barred: set[bytes] = set()
        self._changing = asyncio.Lock()
        """Lockstep: nobody replaces the process while a grant is out."""
        self._fault = self._why = ""
        """Of its last end, until it is ready again; and what this process says of its own."""
        self._usage = self._of_plan = False
        self._complained = ""
        self._admission = Admission(0, "")
        self._told: SignalsStatus | None = None
        self._not_understood = 0
        self._untold = 0

    # --- life -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keeps a process going until cancelled; the one there is then lives on, for `finish`. Raises UsageFault for a
        source or plan that can't be used."""
        while True:
            await self._live_once()
            await self._restarts.pause()
            self._bar_deadly()

    async def finish(self, t_ns: int, within_s: float) -> bool:
        """What was captured up to `t_ns` is heard; False when that took too long. The process captures nothing after
        it: `stop` it next."""
        if self._child is None or self._gone.is_set():
            return True
        self._done = asyncio.get_running_loop().create_future()
        self._child.send(Finish(t_ns))
        gone = asyncio.ensure_future(self._gone.wait())
        await asyncio.wait((self._done, gone), timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        gone.cancel()
        if not self._done.done():
            self._on_health("signals_lost", UNFINISHED)
        return self._done.done()

    async def restart(self, t_ns: int, within_s: float) -> None:
        """Another process takes over, with other work; what this one captured is heard before."""
        await self.finish(t_ns, within_s)
        await self.stop()
        self._done = None

    async def stop(self) -> None:
        """Ends the process there is, unheard; `run` begins another."""
        if (child := self._child) is not None:
            await child.stop()
            if child is self._child:
                # Of an end of our own making the channel tells nobody.
                self._gone.set()

    async def renew(self) -> None:
        """Another process begins, and knows nothing of what this one retained. Raises UsageFault or EnvironmentFault in
        lockstep."""
        if not self._lockstep:
            await self.stop()
            return
        async with self._changing:
            await self.stop()
            self.taken_records()
            await self.begin()

    def _bar_deadly(self) -> None:
        """A set that nobody gets a process past isn't asked for again; the one before it is."""
        is_unexplained = self._restarts.quick_deaths and self._fault == ENDED and self._newest
        before = self._deaths if self._newest == self._suspect else 0
        self._deaths, self._suspect = (before + 1 if is_unexplained else 0), self._newest
        if self._deaths >= DEADLY:
            self._deaths = 0
            self._barred.add(self._newest)
            self._on_health("campaigns_refused", BARRED)

    async def _live_once(self) -> None:
        try:
            await self._begin_life()
        except EnvironmentFault as error:
            self._fault = str(error)
        else:
            await self._gone.wait()
            assert self._child is not None
            await self._child.reaped()
        if self._usage and not (self._of_plan and self._hears.on_unusable(self._fault)):
            raise UsageFault(self._fault)
        if self._fault != self._complained:
            self._complained = self._fault
            self._on_health("signals_lost", self._fault)

    async def _begin_life(self) -> None:
        self._restarts.begins()
        self._usage, self._of_plan, self._why = False, False, ""
        self._ready = asyncio.get_running_loop().create_future()
        self._asked.clear()
        self._newest = b""
        child = self._child = await self._start(MODULE, [], FromSignals, self._said, self._closed, self._environment)
        self._gone.clear()
        if may_prefer():
            prefer(child.pid, Urgency.ORDINARY)
        child.send(self._work())
        for data in self._campaigns.candidates():
            if data not in self._barred:
                self._ask(data)
        if not self._newest:
            self._admission = Admission(0, "")

    # --- in ---------------------------------------------------------------------------------------

    def look(self) -> None:
        """Which campaigns are signed may have changed."""
        newest = self._campaigns.newest()
        if newest and newest != self._newest and newest not in self._barred:
            self._ask(newest)

    def _ask(self, data: bytes) -> None:
        if self._child is not None and self._child.send(Wanted(data)):
            self._newest = data
            self._asked.append(data)

    def tell(self, t_ns: int, values: Mapping[str, float]) -> None:
        """What the agent knows and no bus tells."""
        if self._child is None or not values:
            return
        told = Told(t_ns, dict(values))
        if self._lockstep:
            self._telling.append(told)
        elif not self._child.send(told):
            self._untold += 1

    def tell_wall(self, wall_s: int) -> None:
        """Seconds since 1970, 0 while there is no reason to believe any."""
        if self._child is not None:
            self._child.send(WallTime(wall_s))

    # --- lockstep ---------------------------------------------------------------------------------

    async def begin(self) -> None:
        """Raises UsageFault or EnvironmentFault."""
        self._lockstep = True
        await self._begin_life()
        assert self._ready is not None
        await self._until(self._ready)

    async def advance(self, t_ns: int) -> tuple[list[Values], list[Record]]:
        """All that comes of what is true up to and including `t_ns`. Raises UsageFault, EnvironmentFault."""
        async with self._changing:
            return await self._advance(t_ns)

    async def _advance(self, t_ns: int) -> tuple[list[Values], list[Record]]:
        assert self._child is not None, "begin first"
        self._done = asyncio.get_running_loop().create_future()
        messages, self._telling = [*self._telling, Advance(t_ns)], []
        delivering = asyncio.ensure_future(self._deliver(self._child, messages))
        try:
            await self._until(self._done)
        finally:
            delivering.cancel()
        return self._heard.values, self.taken_records()

    async def _deliver(self, child: Child[FromSignals], messages: Sequence[Message]) -> None:
        for message in messages:
            await child.deliver(message)

    def taken_records(self) -> list[Record]:
        """Lockstep: those that came since the last time."""
        heard, self._heard = self._heard, _Heard()
        return heard.records

    async def _until(self, done: asyncio.Future[None]) -> None:
        gone = asyncio.ensure_future(self._gone.wait())
        try:
            await asyncio.wait((done, gone), timeout=LOCKSTEP_HANG_NS / SECOND_NS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
        if not done.done() and not self._gone.is_set():
            raise EnvironmentFault("The signals process doesn't answer in lockstep. Run it again.")
        if not done.done():
            raise (UsageFault if self._usage else EnvironmentFault)(self._fault or ENDED)

    # --- out --------------------------------------------------------------------------------------

    def _said(self, child: Child[FromSignals], message: FromSignals) -> None:
        if child is not self._child:
            return
        match message:
            case SignalsReady():
                self._fault = self._complained = ""
                self._hears.on_ready()
                if self._ready is not None and not self._ready.done():
                    self._ready.set_result(None)
            case Admission():
                self._settle(message)
            case Values():
                self._values(message)
            case TimeHeard():
                self._hears.on_time_heard(message)
            case Captured():
                for item in message.items:
                    self._captured(item)
            case PicturesWanted():
                self._hears.on_pictures_wanted(message)
            case SignalsStatus():
                self._told = message
            case SignalsFault():
                self._why, self._usage, self._of_plan = message.reason, message.usage, message.plan
                self._fault = self._why
            case Done():
                if self._done is not None and not self._done.done():
                    self._done.set_result(None)

    def _settle(self, admission: Admission) -> None:
        if self._asked:
            self._campaigns.settle(self._asked.popleft(), admission)
        self._admission = admission
        self._hears.on_admission(admission)

    def _values(self, values: Values) -> None:
        if self._lockstep:
            self._heard.values.append(values)
        else:
            self._hears.on_values(values.t_ns, values.values)

    def _captured(self, item: Item) -> None:
        try:
            record = _record(item)
        except ValueError as error:
            self._not_understood += 1
            log.error("captured_not_understood", reason=shown(str(error)))
            return
        if self._lockstep:
            self._heard.records.append(record)
        else:
            self._hears.on_captured(record)

    def _closed(self, child: Child[FromSignals]) -> None:
        if child is self._child:
            self._fault = self._why or ENDED
            self._gone.set()

    def status(self) -> SignalSideStatus:
        child = self._child
        return SignalSideStatus(
            pid=child.pid if child is not None and not self._gone.is_set() else None,
            fault=self._fault,
            refused=self._admission.refused or (BARRED if self._campaigns.newest() in self._barred else ""),
            revision=self._admission.revision,
            ring_bytes=self._admission.ring_bytes,
            bytes_per_day=self._admission.bytes_per_day,
            replaced=max(0, self._restarts.started - 1),
            not_understood=self._not_understood,
            untold=self._untold,
            told=self._told,
        )


def _record(item: Item) -> Record:
    """Raises ValueError (msgspec's errors are)."""
    return Record(
        Lane(item.lane), Purpose(item.purpose), item.captured_ns, decode_event(item.event), item.keep_s or None
    )
