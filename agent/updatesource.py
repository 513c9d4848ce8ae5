"""Updates from the receiver over HTTPS: one connection with the vehicle's certificate, kept as long as it lasts.

It blocks, each read within its time-out: give it a thread. What comes over it is believed by its signatures alone.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
from collections.abc import Iterator
from typing import Final

from ecu.clock import Clock
from ota.errors import FetchError, NotThere
from ota.source import PART_BYTES
from telemetry.links.link import LinkError
from telemetry.links.tls import check_dates, explained

UPDATES_PATH: Final = "/v1/updates"
TIMEOUT_S: Final = 15.0


class ReceiverSource:
    """The paths of ota/layout.py at `host`. `context` proves this vehicle; the dates are judged by `clock`."""

    def __init__(
        self, host: str, port: int, context: ssl.SSLContext, clock: Clock, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._host = host
        self._port = port
        self._context = context
        self._clock = clock
        self._timeout_s = timeout_s
        self._connection: http.client.HTTPSConnection | None = None

    def read(self, path: str, offset: int, most: int) -> Iterator[bytes]:
        response = self._asked(path, {"range": f"bytes={offset}-{offset + most - 1}"} if most else {})
        skip = 0 if response.status == http.client.PARTIAL_CONTENT else offset
        whole = False
        try:
            while most > 0 and (part := self._part(response)):
                passed, skip = part[skip:][:most], max(0, skip - len(part))
                most -= len(passed)
                yield passed
            whole = response.isclosed()
        finally:
            # A connection with the rest of an answer on it can't be asked again.
            if not whole:
                self.close()

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            # Closing alone wouldn't wake a thread that waits for bytes.
            with contextlib.suppress(OSError):
                if connection.sock is not None:
                    connection.sock.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _asked(self, path: str, headers: dict[str, str]) -> http.client.HTTPResponse:
        """The answer's head. A kept connection that the receiver has closed since is made anew, once."""
        if self._connection is not None:
            try:
                return self._answer(self._connection, path, headers)
            except FetchError as error:
                if isinstance(error, NotThere):
                    raise
                self.close()
        self._connection = self._connect()
        return self._answer(self._connection, path, headers)

    def _connect(self) -> http.client.HTTPSConnection:
        connection = http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout_s, context=self._context)
        try:
            with explained(self._host, self._port):
                connection.connect()
            check_dates(_certificate_of(connection), self._clock, self._host)
        except LinkError as error:
            connection.close()
            raise FetchError(str(error)) from error
        return connection

    def _answer(
        self, connection: http.client.HTTPSConnection, path: str, headers: dict[str, str]
    ) -> http.client.HTTPResponse:
        try:
            connection.request("GET", f"{UPDATES_PATH}/{path}", headers=headers)
            response = connection.getresponse()
            if response.status in (http.client.OK, http.client.PARTIAL_CONTENT):
                return response
            response.read(PART_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise self._lost(path, error) from error
        if response.status in (http.client.NOT_FOUND, http.client.REQUESTED_RANGE_NOT_SATISFIABLE):
            raise NotThere(f"{self._host} has no {path}, or not that much of it.")
        raise FetchError(f"{self._host} answered {response.status} for {path}. It is asked again later.")

    def _part(self, response: http.client.HTTPResponse) -> bytes:
        try:
            return response.read(PART_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise self._lost("a file", error) from error

    def _lost(self, path: str, error: Exception) -> FetchError:
        return FetchError(f"The connection to {self._host} broke while {path} was read: {error!r}. It goes on later.")


def _certificate_of(connection: http.client.HTTPSConnection) -> bytes:
    assert isinstance(connection.sock, ssl.SSLSocket)
    der = connection.sock.getpeercert(True)
    assert der is not None, "TLS without a certificate was ruled out by the context"
    return der
