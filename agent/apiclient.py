"""Asking a running agent: the client side of agent/api.py."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from ecu.errors import EnvironmentFault

ANSWER_WITHIN_S = 5.0


class AgentNotRunning(EnvironmentFault):
    """Nobody answers on the agent's socket."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("agent", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def ask_status(socket_path: Path) -> Any:
    """The agent's status as JSON values. Raises AgentNotRunning."""
    connection = _UnixConnection(socket_path, ANSWER_WITHIN_S)
    try:
        connection.request("GET", "/status")
        return msgspec.json.decode(connection.getresponse().read())
    except (OSError, http.client.HTTPException) as error:
        raise AgentNotRunning(
            f"No agent answers on {socket_path}. Start it with: outrider agent run --state {socket_path.parent}"
        ) from error
    finally:
        connection.close()


def follow_events(socket_path: Path, timeout_s: float) -> Iterator[tuple[str, Any]]:
    """(kind, value) of each event until the agent ends; raises AgentNotRunning when none is there at the start."""
    end = socket.socket(socket.AF_UNIX)
    end.settimeout(timeout_s)
    try:
        end.connect(str(socket_path))
    except OSError as error:
        end.close()
        raise AgentNotRunning(f"No agent answers on {socket_path}.") from error
    with end, end.makefile("rwb") as stream:
        stream.write(b"GET /events HTTP/1.1\r\n\r\n")
        stream.flush()
        kind = ""
        for line in stream:
            if line.startswith(b"event: "):
                kind = line[7:].strip().decode()
            elif line.startswith(b"data: "):
                yield kind, msgspec.json.decode(line[6:])
