"""A link through AWS IoT Core to the receiver behind it, or, in `accepted` mode, to the broker alone.

Telemetry and receipts are plain MQTT 5 topics; hints come from the named shadow and from Jobs, and what the vehicle
reports goes to the receiver, to the shadow and to the job under way.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator, Coroutine
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ecu.clock import Clock
from telemetry.links.arrivals import Arrivals
from telemetry.links.aws.proof import Door, Greeting, Prover, SdkError, admitted
from telemetry.links.link import Accepted, Acks, Hint, Refused, Unreachable
from telemetry.links.reasons import FAILED, deaf, raise_unless_taken
from telemetry.links.stream import ended
from telemetry.records import Lane
from telemetry.wire import Receipt, down_topic, status_topic, up_topic

if TYPE_CHECKING:
    from telemetry.links.aws.crt import CrtConnection
    from telemetry.links.aws.thing import Thing

MAX_PAYLOAD_BYTES: Final = 128 * 1024
"""What AWS IoT Core takes in one message, topic included (its quotas page)."""
PORT: Final = 8883

T = TypeVar("T")


class AwsLink:
    """`keys` prove who this vehicle is, asked anew at each `connect`: so a renewed identity takes effect. `thing` is
    its name as client and thing. Up to `in_flight` blocks travel at once, fewer if the broker says so; others wait.

    `ca_pem` None trusts the authorities that this computer trusts. With `paced` the SDK keeps within AWS IoT Core's
    quotas of a connection: 100 publishes and 512 KiB a second.
    """

    def __init__(
        self,
        host: str,
        port: int,
        thing: str,
        keys: Prover,
        clock: Clock,
        *,
        ca_pem: str | None = None,
        timeout_s: float = 10.0,
        in_flight: int = 16,
        acks: Acks = Acks.STORED,
        paced: bool = True,
    ) -> None:
        self.acks = acks
        self._door = Door(host, port, ca_pem)
        self._host = host
        self._name = thing
        self._keys = keys
        self._clock = clock
        self._timeout_s = timeout_s
        self._in_flight = in_flight
        self._paced = paced
        self._tls: tuple[bytes, Any] | None = None
        self._talk: _Talk | None = None

    async def connect(self) -> None:
        await self.close()
        sdk = await asyncio.to_thread(_Sdk)
        tls = self._keys.lend_identity(lambda key, certificate: self._tls_of(sdk, key, certificate))
        peer = sdk.crt.Peer(self._host, self._door.port, self._name, tls)
        talk = _Talk(self._in_flight)
        talk.line = sdk.crt.CrtConnection(peer, self._timeout_s, self._paced, talk)
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._open(sdk, talk)
        except TimeoutError as error:
            talk.abandon()
            raise Unreachable(
                f"{self._host} port {self._door.port} took too long to answer. Check the network."
            ) from error
        except BaseException:
            talk.abandon()
            raise
        self._talk = talk

    async def publish(self, lane: Lane, block: bytes) -> Accepted:
        talk = self._talking()
        if len(block) > MAX_PAYLOAD_BYTES:
            raise Refused(f"AWS IoT Core takes {MAX_PAYLOAD_BYTES} bytes in a message; this block has {len(block)}.")
        sending = self._send(talk, up_topic(self._name, lane), block)
        if self.acks is Acks.STORED:
            await talk.arrivals.answers.settled(block, sending, self._timeout_s)
        else:
            await sending
        return Accepted()

    def receipts(self) -> AsyncIterator[Receipt]:
        return self._talk.arrivals.receipts if self._talk else ended("there is no connection")

    def hints(self) -> AsyncIterator[Hint]:
        return self._talk.arrivals.hints if self._talk else ended("there is no connection")

    async def report(self, status: bytes) -> None:
        talk = self._talking()
        await self._send(talk, status_topic(self._name), status)
        if (thing := self._talking().thing) is not None:
            await self._in_time(talk, thing.report(status))

    async def close(self) -> None:
        talk, self._talk = self._talk, None
        if talk is not None:
            talk.lost("this side closed the link")
            await talk.end()

    def _tls_of(self, sdk: _Sdk, key: bytes, certificate: bytes) -> Any:
        """Made once for each identity. A new key has a new certificate."""
        if self._tls is None or self._tls[0] != certificate:
            self._tls = certificate, sdk.crt.client_tls(key, certificate, self._door)
        return self._tls[1]

    async def _open(self, sdk: _Sdk, talk: _Talk) -> None:
        talk.line.start()
        await admitted(talk.greeting, self._door, self._name, self._keys, self._clock, self._timeout_s)
        if await talk.sdk(talk.line.subscribe(down_topic(self._name, "#"))) >= FAILED:
            raise deaf(self._host, self._name)
        await talk.sdk(self._open_thing(sdk, talk))

    async def _open_thing(self, sdk: _Sdk, talk: _Talk) -> None:
        """Raises SdkError when the connection has ended since the SUBACK: a thing on it would wait in vain."""
        if talk.over is not None:
            raise SdkError(talk.over)
        talk.thing = sdk.thing.Thing(talk.line.live(), self._name, self._timeout_s, talk.hinted)
        await talk.thing.open()

    def _talking(self) -> _Talk:
        if self._talk is None or self._talk.over is not None:
            raise Unreachable(f"There is no connection to {self._host}. Connect again.")
        return self._talk

    async def _send(self, talk: _Talk, topic: str, payload: bytes) -> None:
        code, words = await self._in_time(talk, self._published(talk, topic, payload))
        raise_unless_taken(code, words, self.acks)

    async def _published(self, talk: _Talk, topic: str, payload: bytes) -> tuple[int, str]:
        async with talk.slots:
            return await talk.line.publish(topic, payload)

    async def _in_time(self, talk: _Talk, answer: Coroutine[Any, Any, T]) -> T:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await talk.sdk(answer)
        except TimeoutError as error:
            words = f"{self._host} didn't acknowledge within {self._timeout_s:g} s"
            talk.lost(words)
            talk.abandon()
            raise Unreachable(f"{words}. Connect again.") from error


class _Sdk:
    """The modules that load the SDK, some of them slowly: made in a thread, and only where there is a connection to
    make, so that an agent that speaks to no AWS never loads it."""

    def __init__(self) -> None:
        self.crt: Any = importlib.import_module("telemetry.links.aws.crt")
        self.thing: Any = importlib.import_module("telemetry.links.aws.thing")


class _Talk:
    """What was said on one connection, in the event loop's thread (crt.Events)."""

    line: CrtConnection

    def __init__(self, in_flight: int) -> None:
        self.greeting: Greeting = asyncio.get_running_loop().create_future()
        self.arrivals = Arrivals()
        self.slots = asyncio.Semaphore(in_flight)
        self.thing: Thing | None = None
        self.over: str | None = None
        self._in_flight = in_flight

    async def sdk(self, answer: Coroutine[Any, Any, T]) -> T:
        """Its result. An operation that the SDK gives up ends the connection: what became of it nobody knows."""
        try:
            return await answer
        except SdkError as error:
            self.lost(str(error))
            self.abandon()
            raise Unreachable(f"The connection broke: {self.over}. Connect again.") from error

    def abandon(self) -> None:
        self._let_go()
        self.line.abandon()

    async def end(self) -> None:
        self._let_go()
        await self.line.end()

    def hinted(self, kind: str) -> None:
        self.arrivals.hints.put(Hint(kind))

    def connected(self, receive_maximum: int) -> None:
        self.slots = asyncio.Semaphore(min(self._in_flight, receive_maximum))
        if not self.greeting.done():
            self.greeting.set_result(None)

    def failed(self, code: int | None, words: str) -> None:
        if not self.greeting.done():
            self.greeting.set_result((code, words))

    def arrived(self, topic: str, payload: bytes) -> None:
        self.arrivals.arrived(topic, payload)

    def lost(self, words: str) -> None:
        self.failed(None, words)
        if self.over is None:
            self.over = words
            self.arrivals.end(words)
            # The client would connect again by itself, some day.
            self.line.abandon()

    def _let_go(self) -> None:
        thing, self.thing = self.thing, None
        if thing is not None:
            thing.close()
