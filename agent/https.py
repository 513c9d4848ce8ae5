"""One HTTPS connection to the receiver with the vehicle's certificate, kept as long as it lasts.

It blocks, each wait within its time-out: one thread uses it. Another may interrupt whoever waits in it.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

from ecu.clock import Clock
from telemetry.links.link import LinkError, Unreachable
from telemetry.links.tls import check_dates, explained

TIMEOUT_S: Final = 15.0
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


class VehicleLine:
    """`context` proves this vehicle; the receiver's dates are judged by `clock`. Raises Unreachable, Untrusted,
    ClockUntrusted or Unauthorized."""

    def __init__(
        self, host: str, port: int, context: ssl.SSLContext, clock: Clock, timeout_s: float = TIMEOUT_S
    ) -> None:
        self.host = host
        self._port = port
        self._context = context
        self._clock = clock
        self._timeout_s = timeout_s
        self._connection: http.client.HTTPSConnection | None = None
        self._interrupted = False

    def ask(
        self, method: str, path: str, headers: Mapping[str, str] = _NOTHING, body: bytes | None = None
    ) -> http.client.HTTPResponse:
        """The answer's head; its body must be read to the end, or the line closed, before the next question.

        A kept connection that the receiver has closed since is made anew, once, and the question asked again: it must
        mean the same when it is heard twice.
        """
        self._interrupted = False
        if self._connection is not None:
            try:
                return self._answer(self._connection, method, path, headers, body)
            except Unreachable:
                self.close()
                if self._interrupted:
                    raise
        self._connection = self._connect()
        try:
            return self._answer(self._connection, method, path, headers, body)
        except LinkError:
            self.close()
            raise

    def read(self, response: http.client.HTTPResponse, most: int) -> bytes:
        """Up to `most` bytes of an answer's body; none at its end."""
        with self._told():
            return response.read(most)

    def interrupt(self) -> None:
        """From any thread: whoever waits for an answer is told that the connection broke, and asks nothing more. Who
        is still connecting does so within the time-out."""
        self._interrupted = True
        connection = self._connection
        wire = connection.sock if connection is not None else None
        if wire is not None:
            # Not SSLSocket's own: that forgets the encryption first, and a sender in its loop would go on without it.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(wire, socket.SHUT_RDWR)

    def close(self) -> None:
        """Idempotent; the next question connects again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _connect(self) -> http.client.HTTPSConnection:
        connection = http.client.HTTPSConnection(self.host, self._port, timeout=self._timeout_s, context=self._context)
        # By itself it would connect again whenever it was closed, and nobody would look at the dates.
        connection.auto_open = 0
        try:
            with explained(self.host, self._port):
                connection.connect()
            check_dates(_certificate_of(connection), self._clock, self.host)
        except LinkError:
            connection.close()
            raise
        return connection

    def _answer(
        self,
        connection: http.client.HTTPSConnection,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes | None,
    ) -> http.client.HTTPResponse:
        if self._interrupted:
            raise Unreachable(f"Nothing more is asked of {self.host} now.")
        with self._told():
            connection.request(method, path, body, dict(headers))
            return connection.getresponse()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            with explained(self.host, self._port):
                yield
        except http.client.HTTPException as error:
            raise Unreachable(f"The connection to {self.host} broke, or isn't a receiver's: {error!r}.") from error


def _certificate_of(connection: http.client.HTTPSConnection) -> bytes:
    assert isinstance(connection.sock, ssl.SSLSocket)
    der = connection.sock.getpeercert(True)
    assert der is not None, "TLS without a certificate was ruled out by the context"
    return der
