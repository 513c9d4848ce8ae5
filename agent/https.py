"""One HTTPS connection to the receiver with the vehicle's certificate, kept as long as it lasts.

It blocks, each wait within its time-out and each answer within a pace: one thread uses it. Another may interrupt
whoever waits in it.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import io
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final, Protocol

from ecu.clock import SECOND_NS, Clock
from ecu.tcp import carried_bytes
from telemetry.links.link import LinkError, Unreachable
from telemetry.links.tls import check_dates, explained

TIMEOUT_S: Final = 15.0
PATIENCE_S: Final = 60
SLOWEST_BYTES_PER_S: Final = 1000
"""An answer that is waited for longer than the patience and its bytes at this pace is given up: somebody who sends a
byte now and then could hold the caller for ever (slow retrieval, TUF specification section 1.5.2)."""
BULK_TRAFFIC_CLASS: Final = 8 << 2
"""DSCP CS1, the class for what may wait (RFC 4594, section 4.10)."""
MOST_HEAD_BYTES: Final = 64 * 1024
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


class Toll(Protocol):
    """Counts what a connection costs. Quick, and never raises."""

    def carried(self, size: int) -> None:
        """So many bytes more went over it, both ways."""
        ...

    def failed(self, failure: LinkError) -> None:
        """It came to nothing."""
        ...


class VehicleLine:
    """`context` proves this vehicle; the receiver's dates are judged by `clock`. `is_bulk` asks the network to let
    it go last; `toll` is told what goes over it, read or not. Raises Unreachable, Untrusted, ClockUntrusted or
    Unauthorized."""

    def __init__(
        self,
        host: str,
        port: int,
        context: ssl.SSLContext,
        clock: Clock,
        timeout_s: float = TIMEOUT_S,
        *,
        is_bulk: bool = False,
        toll: Toll | None = None,
    ) -> None:
        self.host = host
        self._port = port
        self._context = context
        self._clock = clock
        self._timeout_s = timeout_s
        self._is_bulk = is_bulk
        self._toll = toll
        self._carried = 0
        self._connection: http.client.HTTPSConnection | None = None
        self._wire: socket.socket | None = None
        self._last: http.client.HTTPResponse | None = None
        self._in_use = threading.RLock()
        self._interrupted = False
        self._ended = False

    def ask(
        self, method: str, path: str, headers: Mapping[str, str] = _NOTHING, body: bytes | None = None
    ) -> http.client.HTTPResponse:
        """The answer's head; its body must be read to the end, or the answer left, before the next question.

        A kept connection that the receiver has closed since is made anew, once, and the question asked again: it must
        mean the same when it is heard twice.
        """
        with self._in_use:
            self._interrupted = False
            self._demand_wanted()
            if self._last is not None:
                self.leave(self._last)
                self._last = None
            if self._connection is not None:
                try:
                    return self._answer(self._connection, method, path, headers, body)
                except LinkError:
                    self._let_go()
                    if self._interrupted:
                        raise
            self._connection = self._connect()
            try:
                return self._answer(self._connection, method, path, headers, body)
            except LinkError:
                self._let_go()
                raise

    def read(self, response: http.client.HTTPResponse, most: int) -> bytes:
        """Up to `most` bytes of an answer's body; none at its end. Raises Unreachable when it ends before."""
        with self._in_use:
            try:
                with self._told():
                    data = response.read(most)
                    if not data and most and response.length:
                        raise http.client.IncompleteRead(data, response.length)
                self._pay()
                return data
            except LinkError:
                self._let_go()
                raise

    def leave(self, response: http.client.HTTPResponse) -> None:
        """Nobody reads on: a connection with the rest of an answer on it can't be asked again."""
        with self._if_free() as free:
            if free and not response.isclosed():
                self._let_go()

    def interrupt(self) -> None:
        """From any thread: whoever waits for an answer is told that the connection broke, and asks nothing more. Who
        is still connecting does so within the time-out."""
        self._interrupted = True
        if (wire := self._wire) is not None:
            # Not SSLSocket's own: that forgets the encryption first, and a sender in its loop would go on without it.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(wire, socket.SHUT_RDWR)

    def end(self) -> None:
        """From any thread, and for good: as `interrupt`, and every later question is told the same."""
        self._ended = True
        self.interrupt()
        with self._if_free() as free:
            # Else whoever waits in it closes it: it must not be pulled away from under another thread.
            if free:
                self._let_go()

    def close(self) -> None:
        """Idempotent; the next question connects again."""
        with self._in_use:
            self._let_go()

    @contextlib.contextmanager
    def _if_free(self) -> Iterator[bool]:
        """Whether no other thread waits in it; none does as long as this lasts."""
        free = self._in_use.acquire(blocking=False)
        try:
            yield free
        finally:
            if free:
                self._in_use.release()

    def _let_go(self) -> None:
        self._pay()
        connection, last, self._wire = self._connection, self._last, None
        self._connection = self._last = None
        if last is not None:
            # Of an answer that is the connection's last it isn't the connection any more that holds the wire.
            last.close()
        if connection is not None:
            connection.close()

    def _connect(self) -> http.client.HTTPSConnection:
        connection = http.client.HTTPSConnection(self.host, self._port, timeout=self._timeout_s, context=self._context)
        # By itself it would connect again whenever it was closed, and nobody would look at the dates.
        connection.auto_open = 0
        connection.response_class = functools.partial(_Answer, self._clock, self._pay)  # type: ignore[assignment]
        try:
            with explained(self.host, self._port):
                connection.connect()
                certificate = _certificate_of(connection)
            check_dates(certificate, self._clock, self.host)
        except LinkError as failure:
            connection.close()
            if self._toll is not None:
                self._toll.failed(failure)
            raise
        if self._is_bulk:
            _mark_bulk(connection.sock)
        self._wire, self._carried = connection.sock, 0
        return connection

    def _pay(self) -> None:
        """By the kernel's word, so that the handshake counts, and what came and nobody will read."""
        if self._toll is None or self._wire is None:
            return
        carried = carried_bytes(self._wire)
        if carried > self._carried:
            self._toll.carried(carried - self._carried)
            self._carried = carried

    def _answer(
        self,
        connection: http.client.HTTPSConnection,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes | None,
    ) -> http.client.HTTPResponse:
        self._demand_wanted()
        with self._told():
            connection.request(method, path, body, dict(headers))
            response = self._last = connection.getresponse()
        if response.length is None:
            # Chunks, or until it hangs up: a receiver's answers are never so, and a cut looks like an end.
            raise Unreachable(f"{self.host} didn't say how long its answer is. Is that port the receiver's?")
        return response

    def _demand_wanted(self) -> None:
        if self._interrupted or self._ended:
            raise Unreachable(f"Nothing more is asked of {self.host} now.")

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            with explained(self.host, self._port):
                yield
        except http.client.HTTPException as error:
            raise Unreachable(f"The connection to {self.host} broke, or isn't a receiver's: {error!r}.") from error


def _mark_bulk(wire: socket.socket) -> None:
    """A network that doesn't care drops the mark; a kernel that refuses it is no reason to send nothing."""
    with contextlib.suppress(OSError):
        if wire.family == socket.AF_INET6:
            wire.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, BULK_TRAFFIC_CLASS)
        else:
            wire.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, BULK_TRAFFIC_CLASS)


class _Answer(http.client.HTTPResponse):
    """One that comes at a pace, with a head that ends. `pay` is called while its connection can still be asked."""

    def __init__(
        self, clock: Clock, pay: Callable[[], None], wire: socket.socket, *arguments: Any, **named: Any
    ) -> None:
        super().__init__(wire, *arguments, **named)
        self._paced = _Paced(self.fp.detach(), clock, pay)
        self.fp = io.BufferedReader(self._paced)

    def begin(self) -> None:
        super().begin()
        self._paced.is_head = False


class _Paced(io.RawIOBase):
    def __init__(self, raw: io.RawIOBase, clock: Clock, pay: Callable[[], None]) -> None:
        self.is_head = True
        self._raw = raw
        self._clock = clock
        self._pay = pay
        self._came = 0
        self._waited_ns = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        began_ns = self._clock.boot_ns()
        count = self._raw.readinto(buffer)
        self._waited_ns += self._clock.boot_ns() - began_ns
        self._came += count or 0
        if self._waited_ns > PATIENCE_S * SECOND_NS + self._came * SECOND_NS // SLOWEST_BYTES_PER_S:
            raise TimeoutError
        if self.is_head and self._came > MOST_HEAD_BYTES:
            raise http.client.HTTPException(f"a head of more than {MOST_HEAD_BYTES} bytes")
        return count

    def close(self) -> None:
        # Of an answer that is the connection's last this closes the wire, and with it the kernel's count.
        self._pay()
        self._raw.close()
        super().close()


def _certificate_of(connection: http.client.HTTPSConnection) -> bytes:
    assert isinstance(connection.sock, ssl.SSLSocket)
    der = connection.sock.getpeercert(True)
    assert der is not None, "TLS without a certificate was ruled out by the context"
    return der
