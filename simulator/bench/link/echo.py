"""The floor: an asyncio TLS server that finds where each packet ends, acknowledges it and does nothing else.

`python -m simulator.bench.link.echo RECEIVER_STATE READY_FD` shows the receiver's own certificate to its own vehicles.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
from pathlib import Path

import mqtt5

from ecu.clock import SystemClock
from ecu.disk import RealDisk
from ecu.process import enter_child
from receiver.config import ReceiverConfig
from receiver.pki import Authority

_PUBLISH = 3
_CONNECT = 1


class _Echo(asyncio.Protocol):
    def __init__(self) -> None:
        self._unread = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        data = self._unread + data
        at, size, answers = 0, len(data), list[bytes]()
        while at + 3 <= size:
            length, start = data[at + 1], at + 2
            if length >= 0x80:
                length, start = (length & 0x7F) | data[start] << 7, start + 1
            if start + length > size:
                break
            if data[at] >> 4 == _PUBLISH:
                topic = int.from_bytes(data[start : start + 2], "big")
                answers.append(b"\x40\x02" + data[start + 2 + topic : start + 4 + topic])
            elif data[at] >> 4 == _CONNECT:
                answers.append(mqtt5.ConnAckPacket(receive_max=ReceiverConfig().receive_maximum).write())
            at = start + length
        self._unread = data[at:]
        self._transport.write(b"".join(answers))


async def _serve(state: Path, ready_fd: int) -> None:
    config = ReceiverConfig()
    authority = Authority(RealDisk(state), SystemClock(), config.certificate_days)
    context = authority.server_context(config.hosts, ssl.CERT_REQUIRED)
    server = await asyncio.get_running_loop().create_server(_Echo, config.listen, 0, ssl=context)
    os.write(ready_fd, f"{server.sockets[0].getsockname()[1]}\n".encode())
    await server.serve_forever()


if __name__ == "__main__":
    enter_child()
    asyncio.run(_serve(Path(sys.argv[1]), int(sys.argv[2])))
