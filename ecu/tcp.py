"""What a TCP connection carried, by the kernel's own count: handshakes, what nobody read, and what was sent twice."""

from __future__ import annotations

import socket
import struct
from typing import Final

_COUNTS: Final = struct.Struct("=QQII")
_COUNTS_AT: Final = 120
"""tcpi_bytes_acked, tcpi_bytes_received, tcpi_segs_out and tcpi_segs_in of struct tcp_info (linux/tcp.h, since 4.2)."""
_SENT: Final = struct.Struct("=Q")
_SENT_AT: Final = 200
"""tcpi_bytes_sent (since 4.19): what had to be sent again counts again."""
_INFO_BYTES: Final = 256
_HEADERS_BYTES: Final = {socket.AF_INET: 20 + 20 + 12, socket.AF_INET6: 40 + 20 + 12}
"""IP, TCP, and TCP's timestamps (RFC 7323), of each packet."""


def carried_bytes(wire: socket.socket) -> int:
    """Both ways, packets' headers included; 0 of one that was never connected, or is closed."""
    try:
        info = wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
    except OSError:
        return 0
    if len(info) < _COUNTS_AT + _COUNTS.size:
        return 0
    acknowledged, received, packets_out, packets_in = _COUNTS.unpack_from(info, _COUNTS_AT)
    sent = _SENT.unpack_from(info, _SENT_AT)[0] if len(info) >= _SENT_AT + _SENT.size else 0
    headers = (packets_out + packets_in) * _HEADERS_BYTES.get(wire.family, 0)
    return int(max(acknowledged, sent) + received + headers)
