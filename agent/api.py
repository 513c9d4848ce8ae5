"""The local API: HTTP/1.1 on the Unix socket `<state>/agent.sock`, for status, doctor and a head unit's display.

`GET /status` answers one JSON object; `POST /purge` with {"purposes": [...]} erases what is kept for them, and answers
what it took when that is done; `GET /events` streams what happens as server-sent events (WHATWG HTML, section 9.2),
newest kept: a slow reader loses old events, never delays the agent. Only this user and root may connect.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from ecu.errors import EnvironmentFault, OutriderError, UsageFault

MAX_REQUEST_BYTES = 4096
MAX_SUBSCRIBERS = 8
EVENTS_KEPT = 256
REQUEST_WITHIN_S = 5.0


class LocalApi:
    """`status` is what `GET /status` answers. `purge` erases, and answers what it took; it raises UsageFault for a
    purpose that is none, and OutriderError for what couldn't be done. None: this agent purges nothing."""

    def __init__(
        self, path: Path, status: Callable[[], object], purge: Callable[[list[str]], Awaitable[object]] | None = None
    ) -> None:
        self._path = path
        self._status = status
        self._purge = purge
        self._server: asyncio.Server | None = None
        self._subscribers: set[asyncio.Queue[bytes]] = set()
        self._conversations: set[asyncio.Task[None]] = set()
        self.events_dropped = 0

    async def start(self) -> None:
        """Raises EnvironmentFault when the socket can't be made, or another agent answers on it."""
        if await _answers(self._path):
            raise EnvironmentFault(
                f"Another agent is running with this state: it answers on {self._path}. Stop it first, or name "
                "another --state."
            )
        self._path.unlink(missing_ok=True)
        try:
            self._server = await asyncio.start_unix_server(self._greet, self._path, limit=MAX_REQUEST_BYTES)
        except OSError as error:
            raise EnvironmentFault(
                f"The local API can't listen on {self._path}: {error.strerror}. A socket's path has at most 107 "
                "characters and its folder must be writable: choose another --state."
            ) from error
        self._path.chmod(0o600)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            for conversation in self._conversations:
                conversation.cancel()
            await asyncio.gather(*self._conversations, return_exceptions=True)
            self._path.unlink(missing_ok=True)

    def publish(self, kind: str, event: object) -> None:
        """Tells the subscribers; costs nothing when there are none."""
        if not self._subscribers:
            return
        line = b"event: " + kind.encode() + b"\ndata: " + msgspec.json.encode(event) + b"\n\n"
        for queue in self._subscribers:
            if queue.full():
                queue.get_nowait()
                self.events_dropped += 1
            queue.put_nowait(line)

    def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversation = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._conversations.add(conversation)
        conversation.add_done_callback(self._conversations.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if not _may_connect(writer.get_extra_info("socket")):
                await _answer(writer, "403 Forbidden", b'{"error": "only the agent\'s user and root may ask"}')
                return
            async with asyncio.timeout(REQUEST_WITHIN_S):
                head = await reader.readuntil(b"\r\n\r\n")
            await self._route(head, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
            pass  # whoever asked is gone, or never asked properly
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _route(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        match head.split(b"\r\n", 1)[0].decode("latin-1").split(" "):
            case ["GET", "/status", _]:
                await _answer(writer, "200 OK", msgspec.json.encode(self._status()))
            case ["GET", "/events", _] if len(self._subscribers) < MAX_SUBSCRIBERS:
                await self._stream(reader, writer)
            case ["GET", "/events", _]:
                await _answer(writer, "503 Service Unavailable", b'{"error": "too many subscribers"}')
            case ["POST", "/purge", _] if self._purge is not None:
                async with asyncio.timeout(REQUEST_WITHIN_S):
                    body = await reader.readexactly(_length_of(head))
                await _answer(writer, *await _purged(self._purge, body))
            case _:
                await _answer(writer, "404 Not Found", b'{"error": "known: GET /status, GET /events, POST /purge"}')

    async def _stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until the subscriber hangs up."""
        queue: asyncio.Queue[bytes] = asyncio.Queue(EVENTS_KEPT)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n\r\n")
        self._subscribers.add(queue)
        hung_up = asyncio.ensure_future(reader.read())
        telling = asyncio.ensure_future(_tell(queue, writer))
        try:
            await asyncio.wait((hung_up, telling), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._subscribers.discard(queue)
            for task in (hung_up, telling):
                task.cancel()
            await asyncio.gather(hung_up, telling, return_exceptions=True)


class _PurgeRequest(msgspec.Struct, forbid_unknown_fields=True):
    purposes: list[str]


async def _purged(purge: Callable[[list[str]], Awaitable[object]], body: bytes) -> tuple[str, bytes]:
    """Status and answer."""
    try:
        request = msgspec.json.decode(body, type=_PurgeRequest)
        return "200 OK", msgspec.json.encode(await purge(request.purposes))
    except (msgspec.DecodeError, UnicodeDecodeError, UsageFault) as error:
        return "400 Bad Request", msgspec.json.encode({"error": str(error)})
    except OutriderError as error:
        return "503 Service Unavailable", msgspec.json.encode({"error": str(error)})


def _length_of(head: bytes) -> int:
    """What Content-Length says; 0 when it says nothing that can be."""
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length" and value.strip().isdigit():
            return min(int(value), MAX_REQUEST_BYTES)
    return 0


async def _tell(queue: asyncio.Queue[bytes], writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(await queue.get())
        await writer.drain()


async def _answer(writer: asyncio.StreamWriter, status: str, body: bytes) -> None:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    writer.write(head.encode() + b"Connection: close\r\n\r\n" + body)
    await writer.drain()


def _may_connect(peer: socket.socket) -> bool:
    # The file's mode keeps others out already; a socket handed over by a careless parent doesn't.
    credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", credentials)
    return uid in (0, os.getuid())


async def _answers(path: Path) -> bool:
    try:
        _, writer = await asyncio.open_unix_connection(path)
    except OSError:
        return False
    writer.close()
    return True
