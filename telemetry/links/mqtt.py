"""A link over MQTT 5 with mutual TLS: to our receiver's endpoint, or to a broker with the receiver behind it.

Nothing survives a connection: clean start, no session, no queue in the client. What the peer hasn't acknowledged when
the connection ends was not sent.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any

from ecu.clock import Clock
from telemetry.links.arrivals import Arrivals
from telemetry.links.examine import examine
from telemetry.links.link import KEEP_ALIVE_S, Accepted, Acks, Hint, LinkError, Unauthorized, Unreachable
from telemetry.links.pahoclient import PahoConnection, TlsDialer
from telemetry.links.reasons import FAILED, deaf, raise_unless_taken, turned_away
from telemetry.links.stream import ended
from telemetry.links.tls import check_dates, checks_dates, explained, refusal
from telemetry.records import Lane
from telemetry.wire import Receipt, down_topic, status_topic, up_topic


class MqttLink:
    """`context` proves who this vehicle is and knows whom to trust; renewing the identity in it takes effect with the
    next `connect`, and a function is asked for one at each. Up to `in_flight` blocks travel at once, fewer if the peer
    says so; further callers wait.

    With `broker` the peer is a broker with the receiver behind it: `publish` returns when the receiver has answered. By
    `acks` ACCEPTED it returns when the broker has taken the block, and nobody says that it was stored.
    """

    def __init__(
        self,
        host: str,
        port: int,
        vehicle: str,
        context: ssl.SSLContext | Callable[[], ssl.SSLContext],
        clock: Clock,
        *,
        timeout_s: float = 10.0,
        in_flight: int = 16,
        broker: bool = False,
        acks: Acks = Acks.STORED,
    ) -> None:
        self.acks = acks
        self._broker = broker
        self._host = host
        self._port = port
        self._vehicle = vehicle
        self._context = context
        self._clock = clock
        self._timeout_s = timeout_s
        self._in_flight = in_flight
        self._line: PahoConnection | None = None
        self._talk: _Talk | None = None

    async def connect(self) -> None:
        await self.close()
        talk = _Talk(self._in_flight)
        context = self._context if isinstance(self._context, ssl.SSLContext) else self._context()
        line = PahoConnection(self._vehicle, self._dialer(context), self._in_flight, talk)
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._open(line, talk, context)
        except TimeoutError as error:
            self._abandon(line)
            raise Unreachable(f"{self._host} port {self._port} took too long to answer. Check the network.") from error
        except BaseException:
            self._abandon(line)
            raise
        self._line, self._talk = line, talk

    async def publish(self, lane: Lane, block: bytes) -> Accepted:
        sending = self._send(up_topic(self._vehicle, lane), block)
        if self._broker and self.acks is Acks.STORED and self._talk is not None:
            await self._talk.arrivals.answers.settled(block, sending, self._timeout_s)
        else:
            await sending
        return Accepted()

    def receipts(self) -> AsyncIterator[Receipt]:
        return self._talk.arrivals.receipts if self._talk else ended("there is no connection")

    def hints(self) -> AsyncIterator[Hint]:
        return self._talk.arrivals.hints if self._talk else ended("there is no connection")

    async def report(self, status: bytes) -> None:
        await self._send(status_topic(self._vehicle), status)

    async def close(self) -> None:
        line, self._line = self._line, None
        if self._talk is not None:
            self._talk.lost("this side closed the link")
            self._talk = None
        if line is not None:
            await asyncio.to_thread(line.end)

    async def _open(self, line: PahoConnection, talk: _Talk, context: ssl.SSLContext) -> None:
        with explained(self._host, self._port):
            await asyncio.to_thread(line.open, self._host, self._port, KEEP_ALIVE_S)
        try:
            code, words = await talk.greeting
        except Unreachable as error:
            # TLS 1.3 lets us begin before the peer has looked at our certificate: its no comes as an alert.
            raise await self._why(refusal(str(error), self._host), context) from error
        if code >= FAILED:
            raise turned_away(code, words, self._host, self._vehicle)
        line.subscribe(down_topic(self._vehicle, "#"))
        if any(granted >= FAILED for granted in await talk.subscription):
            raise deaf(self._host, self._vehicle)

    async def _why(self, found: LinkError, context: ssl.SSLContext) -> LinkError:
        """An alert gets lost when we were still writing: who only listens hears it."""
        if isinstance(found, Unauthorized):
            return found
        try:
            await asyncio.to_thread(examine, self._host, self._port, context, (), self._timeout_s)
        except Unauthorized as alert:
            return alert
        except LinkError:
            return found
        return found

    async def _send(self, topic: str, payload: bytes) -> None:
        if self._talk is None or self._line is None or self._talk.over is not None:
            raise Unreachable(f"There is no connection to {self._host}. Connect again.")
        talk, line = self._talk, self._line
        try:
            async with asyncio.timeout(self._timeout_s):
                await talk.slots.acquire()
                code, words = await asyncio.shield(talk.send(line, topic, payload))
        except TimeoutError as error:
            words = f"{self._host} didn't acknowledge within {self._timeout_s:g} s"
            talk.lost(words)
            self._drop_line()
            raise Unreachable(f"{words}. Connect again.") from error
        raise_unless_taken(code, words, self.acks if self._broker else None)

    def _dialer(self, context: ssl.SSLContext) -> TlsDialer:
        def check(peer: ssl.SSLSocket) -> None:
            if not checks_dates(context):
                check_dates(peer.getpeercert(True) or b"", self._clock, self._host)

        return TlsDialer(context, self._timeout_s, check)

    def _drop_line(self) -> None:
        if self._line is not None:
            self._abandon(self._line)
            self._line = None

    def _abandon(self, line: PahoConnection) -> None:
        # Not awaited: it may still be in a handshake that nobody answers.
        asyncio.get_running_loop().run_in_executor(None, line.end)


class _Talk:
    """What was said on one connection, in the event loop's thread (pahoclient.Events)."""

    def __init__(self, in_flight: int) -> None:
        loop = asyncio.get_running_loop()
        self.greeting: asyncio.Future[tuple[int, str]] = loop.create_future()
        self.subscription: asyncio.Future[list[int]] = loop.create_future()
        self.arrivals = Arrivals()
        self.slots = asyncio.Semaphore(0)
        self.over: str | None = None
        self._in_flight = in_flight
        self._waiting: dict[int, asyncio.Future[tuple[int, str]]] = {}

    def send(self, line: PahoConnection, topic: str, payload: bytes) -> asyncio.Future[tuple[int, str]]:
        """The acknowledgement to come. Its slot is free again when it has come, whoever still waits for it."""
        answer: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        answer.add_done_callback(lambda _: self.slots.release())
        if self.over is not None:
            answer.set_exception(Unreachable(self.over))
        else:
            self._waiting[line.publish(topic, payload)] = answer
        return answer

    def connected(self, code: int, words: str, receive_maximum: int) -> None:
        self.slots = asyncio.Semaphore(min(self._in_flight, receive_maximum))
        if not self.greeting.done():
            self.greeting.set_result((code, words))

    def subscribed(self, codes: list[int]) -> None:
        if not self.subscription.done():
            self.subscription.set_result(codes)

    def acknowledged(self, packet_id: int, code: int, words: str) -> None:
        answer = self._waiting.pop(packet_id, None)
        if answer is not None and not answer.done():
            answer.set_result((code, words))

    def arrived(self, topic: str, payload: bytes) -> None:
        self.arrivals.arrived(topic, payload)

    def lost(self, words: str) -> None:
        if self.over is None:
            self.over = words
            self.arrivals.end(words)
            self._fail_all(words)

    def _fail_all(self, words: str) -> None:
        waiting: list[asyncio.Future[Any]] = [self.greeting, self.subscription, *self._waiting.values()]
        self._waiting.clear()
        for answer in waiting:
            if not answer.done():
                answer.set_exception(Unreachable(words))
                answer.exception()  # looked at: whoever waited may have given up
