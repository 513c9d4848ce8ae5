"""The receiver behind a broker: a client of it that takes what vehicles publish, and answers on their own topics.

Who published, only the broker knows: its policy must let a certificate publish under its own name alone, since the
vehicle's id is taken from the topic. Several receivers share the work by a shared subscription.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Final, Protocol

import structlog

from ecu.clock import SECOND_NS, Clock
from ecu.errors import UsageFault
from receiver import admission
from receiver.counters import Counters
from receiver.inbox import Outcome, Verdict
from receiver.store import Store, StoreError
from receiver.unsettled import VEHICLES_KEPT, Unsettled
from telemetry.backoff import backoff_s
from telemetry.links.link import LinkError, Unreachable
from telemetry.links.pahoclient import PahoConnection, TlsDialer
from telemetry.links.reasons import FAILED
from telemetry.links.tls import check_dates, explained
from telemetry.records import Lane
from telemetry.wire import (
    TOPIC_ROOT,
    Decision,
    Receipt,
    Refusal,
    block_name,
    down_topic,
    pack_receipt,
    pack_refusal,
)

SHARED: Final = f"$share/outrider/{TOPIC_ROOT}/+/up/#"
KEEP_ALIVE_S: Final = 30
OPEN_WITHIN_S: Final = 15.0
AGAIN_BASE_S: Final = 0.5
AGAIN_CAP_S: Final = 30.0
WELCOME_FOR_NS: Final = 10 * SECOND_NS
"""How long it goes unasked whether a vehicle is still welcome; a revocation here is heeded at once."""
MOST_WAITING: Final = 4096
"""Answers that the broker hasn't acknowledged, and as many that it doesn't take yet."""

_TOPIC: Final = re.compile(rf"{re.escape(TOPIC_ROOT)}/([a-z0-9][a-z0-9-]{{2,62}})/up/([a-z0-9]+)")
_LANES: Final = {lane.name.lower(): lane for lane in Lane}
DECISION: Final = {
    Outcome.BAD: Decision.REFUSED,
    Outcome.CONFLICT: Decision.REFUSED,
    Outcome.UNSETTLED: Decision.THROTTLED,
    Outcome.THROTTLED: Decision.THROTTLED,
}
"""What a vehicle is told of a block that wasn't stored."""
STRANGER: Final = "it has no certificate of this receiver that is neither revoked nor expired"

log = structlog.get_logger()


class Desk(Protocol):
    """Who takes what came (receiver.endpoint.Endpoint)."""

    def submit(self, vehicle: str, lane: Lane, block: bytes) -> asyncio.Future[Verdict]: ...

    def report(self, vehicle: str, status: bytes) -> asyncio.Future[Verdict]: ...


@dataclass(frozen=True, slots=True)
class Broker:
    """Where it is, and what proves this receiver to it, asked for anew at each connect. `client_id` is unique among its
    receivers."""

    host: str
    port: int
    context: Callable[[], ssl.SSLContext]
    client_id: str


class Behind:
    """Connects again and again until cancelled. Vehicles that it has heard of are told here. At most `unsettled_bytes`
    wait for the store's word on their senders."""

    def __init__(
        self,
        broker: Broker,
        store: Store,
        desk: Desk,
        clock: Clock,
        rng: Random,
        counters: Counters,
        unsettled_bytes: int,
    ) -> None:
        self.ready = asyncio.Event()
        self._broker = broker
        self._store = store
        self._desk = desk
        self._clock = clock
        self._rng = rng
        self._counters = counters
        self._welcome: OrderedDict[str, int] = OrderedDict()  # until when; heard last, last
        self._unsettled = Unsettled(unsettled_bytes)
        self._asking: set[asyncio.Task[None]] = set()
        self._shift: _Shift | None = None

    async def run(self) -> None:
        failures = 0
        try:
            while True:
                failures = 0 if await self._once() else failures + 1
                pause_s = backoff_s(failures, self._rng, AGAIN_BASE_S, AGAIN_CAP_S)
                await self._clock.sleep_until(self._clock.boot_ns() + int(pause_s * SECOND_NS))
        finally:
            for task in self._asking:
                task.cancel()

    def deliver(self, vehicle: str, receipt: Receipt) -> None:
        if vehicle in self._welcome:
            self._tell(vehicle, "receipt", pack_receipt(receipt))

    def hint(self, vehicle: str, kind: str) -> bool:
        """Whether the broker is there to tell it; whether the vehicle is, only the broker knows."""
        return self._tell(vehicle, "hint", kind.encode())

    def forget(self, vehicle: str) -> None:
        """It was revoked, or let in again: ask the store about its next block."""
        if vehicle in self._welcome:
            self._welcome[vehicle] = 0

    # --- the connection ---------------------------------------------------------------------------

    async def _once(self) -> bool:
        """One connection, to its end; whether it was open for so long that what ended it is news."""
        shift = _Shift(self._arrived)
        try:
            dialer = self._dialer()
        except UsageFault as error:
            # Its files were right at the start: somebody may be changing them just now.
            log.error("broker_identity_unreadable", reason=str(error))
            return False
        line = shift.line = PahoConnection(self._broker.client_id, dialer, MOST_WAITING, shift)
        try:
            async with asyncio.timeout(OPEN_WITHIN_S):
                await self._open(line, shift)
        except (LinkError, TimeoutError) as error:
            log.warning("broker_unreachable", host=self._broker.host, reason=str(error) or "it took too long")
            return False
        else:
            self._shift, since_ns = shift, self._clock.boot_ns()
            self.ready.set()
            log.info("broker_connected", host=self._broker.host)
            log.warning("broker_lost", host=self._broker.host, reason=await shift.over)
            return self._clock.boot_ns() - since_ns > AGAIN_CAP_S * SECOND_NS
        finally:
            self._shift = None
            shift.lost("this side ended it")
            self._counters.broker_dropped += shift.unsent
            self.ready.clear()
            await asyncio.shield(asyncio.to_thread(line.end))

    async def _open(self, line: PahoConnection, shift: _Shift) -> None:
        host, port = self._broker.host, self._broker.port
        with explained(host, port):
            await asyncio.to_thread(line.open, host, port, KEEP_ALIVE_S)
        code, words = await shift.answered(shift.greeting)
        if code >= FAILED:
            raise Unreachable(f"{host} turned this receiver away: {words}. Look at its policy.")
        line.subscribe(SHARED)
        if any(granted >= FAILED for granted in await shift.answered(shift.subscription)):
            raise Unreachable(f"{host} doesn't let this receiver subscribe to {SHARED}. Look at its policy.")

    def _dialer(self) -> TlsDialer:
        broker = self._broker

        def check(peer: ssl.SSLSocket) -> None:
            check_dates(peer.getpeercert(True) or b"", self._clock, broker.host)

        return TlsDialer(broker.context(), OPEN_WITHIN_S, check)

    # --- what vehicles publish --------------------------------------------------------------------

    def _arrived(self, topic: str, payload: bytes) -> None:
        if (named := _TOPIC.fullmatch(topic)) is None:
            self._counters.broker_ignored += 1
            return
        self._counters.broker_messages += 1
        vehicle, kind = named.groups()
        is_asked = vehicle in self._unsettled
        if not is_asked and self._welcome.get(vehicle, 0) > self._clock.boot_ns():
            self._take(vehicle, kind, payload)
        elif not self._unsettled.keep(vehicle, kind, payload):
            self._counters.broker_dropped += 1  # its sender gets no answer, and sends it again later
        elif not is_asked:
            task = asyncio.ensure_future(self._admit(vehicle))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)

    async def _admit(self, vehicle: str) -> None:
        try:
            welcome = await self._store.transact(admission.welcome, {vehicle}, self._clock.wall_ns())
        except StoreError as error:
            # No answer: the vehicle keeps its blocks and comes again.
            log.error("admission_failed", vehicle=vehicle, reason=str(error))
            self._unsettled.take(vehicle)
            return
        messages = self._unsettled.take(vehicle)
        if not welcome.get(vehicle, False):
            self._counters.not_admitted += 1
            self._welcome.pop(vehicle, None)
            for _, payload in messages:
                self._refuse(vehicle, payload, Decision.UNAUTHORIZED, STRANGER)
            return
        self._heard(vehicle)
        for kind, payload in messages:
            self._take(vehicle, kind, payload)

    def _heard(self, vehicle: str) -> None:
        self._welcome[vehicle] = self._clock.boot_ns() + WELCOME_FOR_NS
        self._welcome.move_to_end(vehicle)
        if len(self._welcome) > VEHICLES_KEPT:
            self._welcome.popitem(last=False)

    def _take(self, vehicle: str, kind: str, payload: bytes) -> None:
        if kind == "status":
            self._desk.report(vehicle, payload)
        elif (lane := _LANES.get(kind)) is not None:
            answer = self._desk.submit(vehicle, lane, payload)
            answer.add_done_callback(lambda done: self._settle(vehicle, payload, done))
        else:
            self._counters.broker_ignored += 1

    def _settle(self, vehicle: str, block: bytes, done: asyncio.Future[Verdict]) -> None:
        if done.cancelled() or (verdict := done.result()).is_stored:
            return  # its receipt comes by itself
        self._refuse(vehicle, block, DECISION[verdict.outcome], verdict.words)

    def _refuse(self, vehicle: str, block: bytes, decision: Decision, words: str) -> None:
        self._tell(vehicle, "refusal", pack_refusal(Refusal(block_name(block), decision, words)))

    def _tell(self, vehicle: str, kind: str, payload: bytes) -> bool:
        told = self._shift is not None and self._shift.tell(down_topic(vehicle, kind), payload)
        self._counters.broker_dropped += not told
        return told


class _Shift:
    """One connection, in the event loop's thread (pahoclient.Events)."""

    line: PahoConnection

    def __init__(self, on_message: Callable[[str, bytes], None]) -> None:
        loop = asyncio.get_running_loop()
        self.greeting: asyncio.Future[tuple[int, str]] = loop.create_future()
        self.subscription: asyncio.Future[list[int]] = loop.create_future()
        self.over: asyncio.Future[str] = loop.create_future()
        self._on_message = on_message
        self._untaken: set[int] = set()
        self._most_untaken = MOST_WAITING
        self._waiting: deque[tuple[str, bytes]] = deque()

    async def answered(self, question: asyncio.Future[Any]) -> Any:
        """Its answer. Raises Unreachable when the connection ends before."""
        await asyncio.wait({question, self.over}, return_when=asyncio.FIRST_COMPLETED)
        if not question.done():
            raise Unreachable(self.over.result())
        return question.result()

    def tell(self, topic: str, payload: bytes) -> bool:
        """False when the connection is over, or the broker takes too little. What is beyond its receive maximum waits:
        a broker ends the connection of who doesn't heed that (MQTT 5, section 3.2.2.3.3)."""
        if self.over.done() or len(self._waiting) >= MOST_WAITING:
            return False
        self._waiting.append((topic, payload))
        self._send()
        return True

    @property
    def unsent(self) -> int:
        """How many of what it was told to tell were never sent."""
        return len(self._waiting)

    def _send(self) -> None:
        while self._waiting and len(self._untaken) < self._most_untaken:
            self._untaken.add(self.line.publish(*self._waiting.popleft()))

    def connected(self, code: int, words: str, receive_maximum: int) -> None:
        self._most_untaken = min(MOST_WAITING, receive_maximum)
        if not self.greeting.done():
            self.greeting.set_result((code, words))

    def subscribed(self, codes: list[int]) -> None:
        if not self.subscription.done():
            self.subscription.set_result(codes)

    def acknowledged(self, packet_id: int, code: int, words: str) -> None:
        self._untaken.discard(packet_id)
        if not self.over.done():
            self._send()

    def arrived(self, topic: str, payload: bytes) -> None:
        self._on_message(topic, payload)

    def lost(self, words: str) -> None:
        if not self.over.done():
            self.over.set_result(words)
