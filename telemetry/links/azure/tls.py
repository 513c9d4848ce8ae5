"""TLS to a hub: ours, not the SDK's, so that the vehicle's key stays in its store, dates are judged by the Clock that
we trust, and no handshake lasts longer than we allow."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator
from typing import Any

from ecu.clock import Clock
from telemetry.links.pahoclient import TlsDialer
from telemetry.links.tls import NO_CHECK_TIME, check_dates, checks_dates


def hub_context(ca_pem: str = "") -> ssl.SSLContext:
    """TLS 1.2 to a hub whose authority is in `ca_pem`, or, when empty, one that this computer trusts: a hub's
    certificate is public. Its dates are left to `check_dates`. An identity must still be loaded into it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Both ways: under 1.3 a peer refuses our certificate only after the handshake, where the old paho dies of it.
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags |= NO_CHECK_TIME
    context.sslsocket_class = _Wire
    if ca_pem:
        context.load_verify_locations(cadata=ca_pem)
    else:
        context.load_default_certs()
    return context


class HubDialer(TlsDialer):
    """Remembers the wire, to be cut under whoever waits in it."""

    def __init__(self, context: ssl.SSLContext, clock: Clock, host: str, timeout_s: float) -> None:
        def check(peer: ssl.SSLSocket) -> None:
            if not checks_dates(context):
                check_dates(peer.getpeercert(True) or b"", clock, host)

        super().__init__(context, timeout_s, check)
        self._wire: socket.socket | None = None
        self._is_cut = False

    def wrap_socket(self, plain: socket.socket, server_hostname: str, do_handshake_on_connect: bool) -> ssl.SSLSocket:
        # A second handle: the first belongs to the TLS socket once it is made.
        self._wire = plain.dup()
        if self._is_cut:
            self.cut()
        return super().wrap_socket(plain, server_hostname, do_handshake_on_connect)

    def cut(self) -> None:
        """From any thread, and for good: a handshake that nobody answers ends, and so does a connection."""
        self._is_cut = True
        if (wire := self._wire) is not None:
            with contextlib.suppress(OSError):
                wire.shutdown(socket.SHUT_RDWR)
            wire.close()


class _Wire(ssl.SSLSocket):
    """A TLS error on an open connection is a broken connection: the old paho's thread would die of any other."""

    def recv(self, *arguments: Any) -> bytes:
        with _as_connection_error():
            return super().recv(*arguments)

    def send(self, *arguments: Any) -> int:
        with _as_connection_error():
            return super().send(*arguments)


@contextlib.contextmanager
def _as_connection_error() -> Iterator[None]:
    try:
        yield
    except (ssl.SSLWantReadError, ssl.SSLWantWriteError, ssl.SSLZeroReturnError):
        raise
    except ssl.SSLError as error:
        raise ConnectionError(str(error)) from error
