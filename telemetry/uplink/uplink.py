"""The uplink: connects, lets a Connection work, and decides how long to stay away after it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from random import Random

from ecu.clock import SECOND_NS, Clock
from ecu.errors import UsageFault
from telemetry.links.link import Acks, ClockUntrusted, Hint, Link, LinkError, Throttled, Unauthorized
from telemetry.records import Lane, TelemetryError
from telemetry.uplink.away import Away
from telemetry.uplink.backlog import Backlog
from telemetry.uplink.config import UplinkConfig
from telemetry.uplink.connection import Connection
from telemetry.uplink.ledger import Ledger
from telemetry.uplink.meter import Meter
from telemetry.uplink.schedule import Schedule
from telemetry.uplink.status import Board, UplinkState, UplinkStatus


class AcceptanceIsNotStorage(TelemetryError, UsageFault):
    """The link can only say that a broker took a block, and nobody configured that this is enough."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """What the uplink's owner wants to hear of.

    `clock_untrusted` may fetch trusted time, and raise LinkError when it can't. `connecting` runs before each connect,
    `connected` after it, `hint` for each hint; all must be quick. Without `hint` the link's hints are left alone.
    """

    clock_untrusted: Callable[[], Awaitable[None]] | None = None
    connecting: Callable[[], None] | None = None
    connected: Callable[[], None] | None = None
    hint: Callable[[Hint], None] | None = None


class Uplink:
    """Carries a backlog over a link for as long as `run` runs; everything it can't carry stays in the backlog.

    Raises AcceptanceIsNotStorage for a link that gives no receipts, unless `free_on_acceptance` is configured.
    """

    def __init__(
        self,
        link: Link,
        backlog: Backlog,
        clock: Clock,
        rng: Random,
        config: UplinkConfig | None = None,
        hooks: Hooks | None = None,
        meter: Meter | None = None,
    ) -> None:
        self._config = config or UplinkConfig()
        if link.acks is Acks.ACCEPTED and not self._config.free_on_acceptance:
            raise AcceptanceIsNotStorage(
                "This link only tells that a broker took a record, not that anybody stored it, so nothing could ever "
                "be freed. Put the receiver behind it, or set [uplink] free_on_acceptance = true and accept that "
                "records can get lost after the broker took them."
            )
        self._link = link
        self._backlog = backlog
        self._clock = clock
        self._rng = rng
        self._away = Away(clock, rng, self._config)
        self._hooks = hooks or Hooks()
        self._board = Board(since_ns=clock.boot_ns())
        self._schedule = Schedule()
        self._ledger = Ledger()
        self._meter = meter or Meter(clock)

    def status(self) -> UplinkStatus:
        return self._board.status(self._link.acks is Acks.STORED, self._meter.status())

    def nudge(self) -> None:
        """Something changed for the better (a network, a certificate): try again now. A throttled link stays so."""
        self._away.nudge()

    async def run(self) -> None:
        """Until cancelled; closes the link then. What isn't a LinkError ends it, in an ExceptionGroup."""
        try:
            while True:
                await self._until_anything_may_go()
                await self._stay_away(await self._one_connection())
        finally:
            self._board.enter(UplinkState.STOPPED, "stopped", self._clock.boot_ns())
            await self._link.close()

    async def last_call(self, within_s: float) -> None:
        """The ignition went off and `run` has ended. P0 that waits goes out over one connection, if there is a network,
        for so long at most; then all is quiet. What had no receipt by then stays in the backlog."""
        self._backlog.rewind()
        if self._backlog.next_unsent(Lane.P0) is None or self._meter.held(Lane.P0) is not None:
            return
        over = asyncio.Event()
        calling = asyncio.ensure_future(self._call(over))
        calling.add_done_callback(lambda _: over.set())
        try:
            await self._meter.first(over, self._meter.after_ns(within_s))
        finally:
            calling.cancel()
            await asyncio.wait((calling,))
            await self._link.close()
            self._enter(UplinkState.STOPPED)
        if not calling.cancelled():
            calling.result()

    async def _call(self, over: asyncio.Event) -> None:
        """Sets `over` when the receiver has all of P0; returns when it can't have it now."""
        if await self._connect() is not None:
            return
        connection = self._connection((Lane.P0,))
        connection.emptied = over
        try:
            await connection.run()
        except* LinkError as errors:
            self._enter(UplinkState.WAITING, errors)

    async def _until_anything_may_go(self) -> None:
        """A connection costs bytes, too: none is made for a day whose last ones are gone."""
        while (held := self._meter.held(Lane.P0)) is not None:
            self._board.enter(UplinkState.WAITING, held.words, self._clock.boot_ns())
            await self._meter.until_news(held.until_ns)

    async def _one_connection(self) -> LinkError:
        """Connects and works until it's over; why it is."""
        self._enter(UplinkState.CONNECTING)
        self._board.count(attempts=1)
        self._away.forget_nudge()
        if (failure := await self._connect()) is not None:
            return failure
        self._away.forget_nudge()
        return await self._work()

    async def _connect(self) -> LinkError | None:
        """Why it came to nothing, if it did."""
        if self._hooks.connecting is not None:
            self._hooks.connecting()
        failure: LinkError | None = None
        try:
            await self._link.connect()
        except LinkError as error:
            failure = error
        self._meter.attempted(failure)
        await self._meter.written()
        return failure

    async def _work(self) -> LinkError:
        self._enter(UplinkState.CONNECTED)
        began_ns = self._clock.boot_ns()
        connection = self._connection(tuple(Lane))
        over: list[LinkError] = []
        try:
            await connection.run()
        except* LinkError as errors:
            over = [error for error in errors.exceptions if isinstance(error, LinkError)]
        _heed_cancellation()
        lasted_s = (self._clock.boot_ns() - began_ns) / SECOND_NS
        if connection.progressed or lasted_s >= self._config.backoff_cap_s:
            self._away.attempt = 0
        return max(over, key=_gravity)

    def _connection(self, lanes: Sequence[Lane]) -> Connection:
        if self._hooks.connected is not None:
            self._hooks.connected()
        return Connection(
            self._link,
            self._backlog,
            self._clock,
            self._rng,
            self._config,
            self._board,
            self._schedule,
            self._ledger,
            self._meter,
            self._hooks.hint,
            lanes,
        )

    async def _stay_away(self, error: LinkError) -> None:
        match error:
            case Unauthorized():
                self._enter(UplinkState.UNAUTHORIZED, error)
            case ClockUntrusted():
                self._enter(UplinkState.CLOCK_UNTRUSTED, error)
                await self._ask_for_time()
            case _:
                self._enter(UplinkState.WAITING, error)
        await self._away.after(error)

    async def _ask_for_time(self) -> None:
        if self._hooks.clock_untrusted is None:
            return
        attempt = self._away.attempt
        try:
            await self._hooks.clock_untrusted()
        except LinkError as error:
            self._enter(UplinkState.CLOCK_UNTRUSTED, error)
        # A hook that nudges must not turn dates that stay untrusted into a spin.
        self._away.attempt = attempt
        self._away.forget_nudge()

    def _enter(self, state: UplinkState, error: Exception | None = None) -> None:
        self._board.enter(state, "" if error is None else str(error), self._clock.boot_ns())


def _heed_cancellation() -> None:
    """Before Python 3.13 a TaskGroup forgets that it was cancelled when one of its tasks failed at the same time."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _gravity(error: LinkError) -> int:
    """Several tasks of one connection can fail at once: what asks for the longest pause decides."""
    for gravity, kind in enumerate((Unauthorized, ClockUntrusted, Throttled)):
        if isinstance(error, kind):
            return -gravity
    return -3
