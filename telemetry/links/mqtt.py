"""A link over MQTT 5 with mutual TLS: to our receiver's endpoint, or to a broker with the receiver behind it.

Nothing survives a connection: clean start, no session, no queue in the client. What the peer hasn't acknowledged when
the connection ends was not sent.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from typing import Any, Final

from ecu.clock import Clock
from telemetry.links.link import Accepted, Acks, Hint, Refused, Throttled, Unauthorized, Unreachable
from telemetry.links.pahoclient import PahoConnection, TlsDialer
from telemetry.links.stream import Stream, ended
from telemetry.links.tls import check_dates, checks_dates, explained, refusal
from telemetry.records import Lane
from telemetry.wire import MAX_HINT_CHARACTERS, BadBlock, Receipt, down_topic, status_topic, unpack_receipt, up_topic

KEEP_ALIVE_S: Final = 30
RECEIPTS_KEPT: Final = 1024
HINTS_KEPT: Final = 8
THROTTLED_S: Final = 2.0
NOBODY_BEHIND_S: Final = 30.0

# Reason codes, MQTT 5 section 2.4.
_NO_SUBSCRIBERS: Final = 0x10
_FAILED: Final = 0x80
_NOT_WELCOME: Final = (0x86, 0x87, 0x8A)  # bad user name or password, not authorized, banned
_QUOTA: Final = 0x97


class MqttLink:
    """`context` proves who this vehicle is and knows whom to trust; renewing the identity in it takes effect with the
    next `connect`. Up to `in_flight` blocks travel at once, fewer if the peer says so; further callers wait."""

    def __init__(
        self,
        host: str,
        port: int,
        vehicle: str,
        context: ssl.SSLContext,
        clock: Clock,
        *,
        timeout_s: float = 10.0,
        in_flight: int = 16,
        acks: Acks = Acks.STORED,
    ) -> None:
        self.acks = acks
        self.ignored = 0  # messages of the receiver that made no sense
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
        talk = _Talk(self)
        line = PahoConnection(self._vehicle, self._dialer(), self._in_flight, talk)
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._open(line, talk)
        except TimeoutError as error:
            self._abandon(line)
            raise Unreachable(f"{self._host} port {self._port} took too long to answer. Check the network.") from error
        except BaseException:
            self._abandon(line)
            raise
        self._line, self._talk = line, talk

    async def publish(self, lane: Lane, block: bytes) -> Accepted:
        await self._send(up_topic(self._vehicle, lane), block)
        return Accepted()

    def receipts(self) -> AsyncIterator[Receipt]:
        return self._talk.receipts if self._talk else ended("there is no connection")

    def hints(self) -> AsyncIterator[Hint]:
        return self._talk.hints if self._talk else ended("there is no connection")

    async def report(self, status: bytes) -> None:
        await self._send(status_topic(self._vehicle), status)

    async def close(self) -> None:
        line, self._line = self._line, None
        if self._talk is not None:
            self._talk.lost("this side closed the link")
            self._talk = None
        if line is not None:
            await asyncio.to_thread(line.end)

    async def _open(self, line: PahoConnection, talk: _Talk) -> None:
        with explained(self._host, self._port):
            await asyncio.to_thread(line.open, self._host, self._port, KEEP_ALIVE_S)
        try:
            code, words = await talk.greeting
        except Unreachable as error:
            # TLS 1.3 lets us begin before the peer has looked at our certificate: its no comes as an alert.
            raise refusal(str(error), self._host) from error
        if code >= _FAILED:
            raise self._turned_away(code, words)
        line.subscribe(down_topic(self._vehicle, "#"))
        if any(granted >= _FAILED for granted in await talk.subscription):
            raise Unauthorized(
                f"{self._host} doesn't let {self._vehicle} hear its own receipts. Pair the vehicle again."
            )

    def _turned_away(self, code: int, words: str) -> Unauthorized | Unreachable:
        if code in _NOT_WELCOME:
            return Unauthorized(f"{self._host} turned {self._vehicle} away: {words}")
        return Unreachable(f"{self._host} can't take {self._vehicle} now: {words}. The link will try again.")

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
        _raise_unless_taken(code, words)

    def _dialer(self) -> TlsDialer:
        def check(peer: ssl.SSLSocket) -> None:
            if not checks_dates(self._context):
                check_dates(peer.getpeercert(True) or b"", self._clock, self._host)

        return TlsDialer(self._context, self._timeout_s, check)

    def _drop_line(self) -> None:
        if self._line is not None:
            self._abandon(self._line)
            self._line = None

    def _abandon(self, line: PahoConnection) -> None:
        # Not awaited: it may still be in a handshake that nobody answers.
        asyncio.get_running_loop().run_in_executor(None, line.end)


class _Talk:
    """What was said on one connection, in the event loop's thread (pahoclient.Events)."""

    def __init__(self, link: MqttLink) -> None:
        loop = asyncio.get_running_loop()
        self.greeting: asyncio.Future[tuple[int, str]] = loop.create_future()
        self.subscription: asyncio.Future[list[int]] = loop.create_future()
        self.receipts: Stream[Receipt] = Stream(RECEIPTS_KEPT)
        self.hints: Stream[Hint] = Stream(HINTS_KEPT)
        self.slots = asyncio.Semaphore(0)
        self.over: str | None = None
        self._link = link
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
        self.slots = asyncio.Semaphore(min(self._link._in_flight, receive_maximum))
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
        try:
            self._sort(topic.rpartition("/")[2], payload)
        except (BadBlock, UnicodeDecodeError):
            self._link.ignored += 1

    def lost(self, words: str) -> None:
        if self.over is None:
            self.over = words
            self.receipts.end(words)
            self.hints.end(words)
            self._fail_all(words)

    def _sort(self, kind: str, payload: bytes) -> None:
        match kind:
            case "receipt":
                self.receipts.put(unpack_receipt(payload))
            case "hint":
                self.hints.put(Hint(payload[:MAX_HINT_CHARACTERS].decode("ascii")))
            case _:
                self._link.ignored += 1

    def _fail_all(self, words: str) -> None:
        waiting: list[asyncio.Future[Any]] = [self.greeting, self.subscription, *self._waiting.values()]
        self._waiting.clear()
        for answer in waiting:
            if not answer.done():
                answer.set_exception(Unreachable(words))
                answer.exception()  # looked at: whoever waited may have given up


def _raise_unless_taken(code: int, words: str) -> None:
    """A PUBACK's reason as the decision it calls for."""
    if code == _NO_SUBSCRIBERS:
        raise Throttled("The broker has no receiver behind it and would drop the block.", NOBODY_BEHIND_S)
    if code < _FAILED:
        return
    if code == _QUOTA:
        raise Throttled(f"The receiver asks for patience: {words}.", THROTTLED_S)
    if code in _NOT_WELCOME:
        raise Unauthorized(f"This vehicle may not publish there: {words}.")
    raise Refused(f"The receiver will never take these bytes: {words}.")
