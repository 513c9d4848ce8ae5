"""Why a TLS connection didn't come about, asked once more by somebody who only listens: an SDK may not tell, and an
alert gets lost under what was being written."""

from __future__ import annotations

import socket
import ssl

from ecu.clock import Clock
from telemetry.links.tls import check_dates, explained

ALERT_WITHIN_S = 1.0
"""Under TLS 1.3 a peer refuses our certificate after the handshake; one that has nothing against it waits for us."""


def examine(host: str, port: int, context: ssl.SSLContext, clocks: tuple[Clock, ...], timeout_s: float) -> None:
    """Returns when it finds nothing wrong. Raises Untrusted, ClockUntrusted, Unauthorized or Unreachable. Blocks.

    All `clocks` judge the peer's dates.
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
