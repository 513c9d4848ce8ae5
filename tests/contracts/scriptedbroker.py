"""A peer that speaks MQTT 5 over real TLS and says what a test wants: what no proper broker would."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

from ecu.clock import SystemClock
from ecu.disk import RealDisk
from receiver.pki import Authority

HOST: Final = "localhost"
CONNECT: Final = 1
PUBLISH: Final = 3
SUBSCRIBE: Final = 8
HANG_UP: Final = b""

Answer = Callable[[int, bytes], bytes | None]
"""A packet's type and body, and what is answered: None is nothing, HANG_UP ends the connection."""


class ScriptedBroker:
    """`answer` may be replaced at any time."""

    def __init__(self, authority: Authority, answer: Answer) -> None:
        self.port = 0
        self.answer = answer
        self.authority = authority
        self.connections = 0
        self._open: set[asyncio.Task[None]] = set()
        self._last: asyncio.StreamWriter | None = None

    def context(self, name: str) -> ssl.SSLContext:
        """Of a client that it lets in."""
        return self.authority.client_context(name, self.authority.pem)

    def say(self, words: bytes) -> None:
        """Unasked, on the newest connection."""
        assert self._last is not None
        self._last.write(words)

    def hang_up(self) -> None:
        """Ends the newest connection."""
        assert self._last is not None
        self._last.close()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._last = writer
        self._open.add(task := asyncio.ensure_future(self._serve(reader, writer)))
        task.add_done_callback(self._open.discard)

    async def close(self) -> None:
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
                while (said := self.answer(*await _packet(reader))) != HANG_UP:
                    writer.write(said or b"")
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def a_scripted_broker(
    folder: Path, answer: Answer, authority: Authority | None = None
) -> AsyncIterator[ScriptedBroker]:
    """Of an authority of its own, unless it is given one."""
    disk = RealDisk(folder / "scripted")
    disk.make_folder("")
    if authority is None:
        authority = await asyncio.to_thread(Authority, disk, SystemClock(), 14)
    broker = ScriptedBroker(authority, answer)
    context = broker.authority.server_context((HOST,), ssl.CERT_OPTIONAL)
    server = await asyncio.start_server(broker.accept, "127.0.0.1", 0, ssl=context)
    broker.port = server.sockets[0].getsockname()[1]
    async with server:
        try:
            yield broker
        finally:
            await broker.close()


def welcome(kind: int, body: bytes) -> bytes | None:
    """CONNACK and SUBACK as a client hopes for them; nothing else is answered."""
    match kind:
        case 1:
            return connack()
        case 8:
            return suback(body)
        case _:
            return None


def connack(properties: bytes = b"", code: int = 0) -> bytes:
    return _framed(0x20, bytes([0, code, len(properties)]) + properties)


def suback(subscribe: bytes) -> bytes:
    return _framed(0x90, subscribe[:2] + b"\x00\x01")


def receive_maximum(most: int) -> bytes:
    """A property of `connack`."""
    return b"\x21" + most.to_bytes(2, "big")


def puback(publish: bytes, code: int = 0) -> bytes:
    return _framed(0x40, packet_id_of(publish) + bytes([code]))


def publish(topic: str, payload: bytes, properties: bytes = b"") -> bytes:
    """With QoS 0."""
    name = topic.encode()
    return _framed(0x30, len(name).to_bytes(2, "big") + name + bytes([len(properties)]) + properties + payload)


def packet_id_of(publish: bytes) -> bytes:
    """Of a PUBLISH with QoS 1."""
    end = 2 + int.from_bytes(publish[:2], "big")
    return publish[end : end + 2]


def _framed(head: int, body: bytes) -> bytes:
    assert len(body) < 128, "one byte of length is enough for what tests say"
    return bytes([head, len(body)]) + body


async def _packet(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = (await reader.readexactly(1))[0]
    length = shift = 0
    while True:
        byte = (await reader.readexactly(1))[0]
        length |= (byte & 0x7F) << shift
        if byte < 0x80:
            return head >> 4, await reader.readexactly(length)
        shift += 7
