"""HTTP by uvicorn's protocol on our own sockets: the client's certificate reaches the application, and time is bounded.

uvicorn's server would catch our signals, poll, and exit the process by itself; its protocol alone does none of that.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec
import uvicorn
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from receiver.counters import Counters
from telemetry.links.pairing import BadMessage

CLIENT_CERTIFICATE: Final = "outrider.client_certificate"
CONNECTIONS_AT_ONCE: Final = 256
CONNECTION_S: Final = 30.0
VEHICLE_CONNECTION_S: Final = 900.0
"""Who has shown a vehicle's certificate may take its time over a slow network: a block of an update is 1 MiB."""


class TooLarge(Exception):
    """The request's body is more than any of ours."""


class Site:
    """An application, and the connections that are being served, a stranger's for no longer than `connection_s`."""

    def __init__(self, app: ASGIApp, connection_s: float = CONNECTION_S, counters: Counters | None = None) -> None:
        self._connection_s = connection_s
        self._counters = counters or Counters()
        self._state = ServerState()
        self._config = uvicorn.Config(
            app,
            http=_Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            # Nobody is in front of us: who says so in a header is whoever wants to be somebody else.
            proxy_headers=False,
            h11_max_incomplete_event_size=16 * 1024,
        )
        self._config.load()

    def protocol(self) -> asyncio.Protocol:
        """The protocol of a new connection."""
        made: asyncio.Protocol = _Protocol(self._config, self._state, {"connection_s": self._connection_s})
        return made

    def make_room(self) -> bool:
        """For one more connection. Of too many, the oldest that keeps us waiting is ended; False when none does."""
        if len(self._state.connections) < CONNECTIONS_AT_ONCE:
            return True
        waiting = [connection for connection in self._state.connections if connection.keeps_us_waiting]
        if waiting:
            self._counters.crowded_out += 1
            min(waiting, key=lambda connection: connection.since_s).transport.abort()
        return bool(waiting)

    async def close(self) -> None:
        """Lets what is being answered be answered, and closes the rest."""
        for connection in list(self._state.connections):
            connection.shutdown()
        if self._state.tasks:
            await asyncio.wait(self._state.tasks, timeout=CONNECTION_S)


class _Protocol(H11Protocol):  # type: ignore[misc]
    app: ASGIApp

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self.since_s = asyncio.get_running_loop().time()
        tls = transport.get_extra_info("ssl_object")
        der = tls.getpeercert(True) if tls else None
        self.app = _with_certificate(self.app, der)
        # However slowly it speaks: no connection lasts longer.
        longest_s = self.app_state["connection_s"] if der is None else VEHICLE_CONNECTION_S
        self._last_moment = asyncio.get_running_loop().call_later(longest_s, transport.abort)

    @property
    def keeps_us_waiting(self) -> bool:
        """Nothing is being answered: it hasn't asked, or not to the end."""
        return self.cycle is None or self.cycle.response_complete or self.cycle.more_body

    def connection_lost(self, error: Exception | None) -> None:
        self._last_moment.cancel()
        super().connection_lost(error)


def _with_certificate(app: ASGIApp, der: bytes | None) -> ASGIApp:
    async def carrying(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, CLIENT_CERTIFICATE: der}, receive, send)

    return carrying


async def body_of(request: Request, limit: int) -> bytes:
    """The whole body. Raises TooLarge, or BadMessage when the peer went away within it."""
    body = bytearray()
    try:
        async for part in request.stream():
            body += part
            if len(body) > limit:
                raise TooLarge(f"A body here has at most {limit} bytes.")
    except ClientDisconnect as error:
        raise BadMessage("the request ended early") from error
    return bytes(body)


def answer(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """`value` as JSON."""
    return Response(msgspec.json.encode(value), status, headers, media_type="application/json")
