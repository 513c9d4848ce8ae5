"""Why a TLS connection didn't come about: asked once more with OpenSSL, which can say so. The SDK can't."""

from __future__ import annotations

import socket
import ssl

from ecu.clock import Clock
from telemetry.links.tls import check_dates, explained

ALERT_WITHIN_S = 1.0
"""Under TLS 1.3 a peer refuses our certificate after the handshake; one that has nothing against it waits for us."""


def examine(host: str, port: int, context: ssl.SSLContext, clocks: tuple[Clock, ...], timeout_s: float) -> None:
    """Returns when it finds nothing wrong. Raises Untrusted, ClockUntrusted, Unauthorized or Unreachable. Blocks.

    `clocks` all judge the peer's dates: the SDK goes by the computer's own, whatever else is believed.
    """
    with explained(host, port), _connected(host, port, context, timeout_s) as peer:
        for clock in clocks:
            check_dates(peer.getpeercert(True) or b"", clock, host)
        peer.settimeout(min(timeout_s, ALERT_WITHIN_S))
        try:
            peer.recv(1)
        except TimeoutError:
            return


def _connected(host: str, port: int, context: ssl.SSLContext, timeout_s: float) -> ssl.SSLSocket:
    plain = socket.create_connection((host, port), timeout_s)
    try:
        return context.wrap_socket(plain, server_hostname=host)
    except BaseException:
        plain.close()
        raise
