"""The kernel's count of a connection: what nobody read counts, and what was sent, with each packet's headers."""

from __future__ import annotations

import socket

from ecu.tcp import carried_bytes


def test_what_went_and_came_counts_read_or_not_and_a_closed_connection_tells_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
        begun = carried_bytes(ours)
        assert 100 <= begun <= 500, "the three packets of a handshake"
        ours.sendall(bytes(3000))
        theirs.recv(3000, socket.MSG_WAITALL)
        theirs.sendall(bytes(20_000))
        ours.recv(20_000, socket.MSG_WAITALL | socket.MSG_PEEK)
        assert 23_000 <= carried_bytes(ours) - begun <= 26_000
        theirs.close()
        ours.close()
        assert carried_bytes(ours) == 0
