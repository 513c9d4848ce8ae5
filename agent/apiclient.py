"""Asking a running agent: the client side of agent/api.py."""

from __future__ import annotations

import http
import http.client
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from ecu.errors import EnvironmentFault, OutriderError

ANSWER_WITHIN_S = 5.0
PURGED_WITHIN_S = 120.0


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


class NotDone(OutriderError):
    """The agent was asked to do something, and says why it hasn't."""


def ask_status(socket_path: Path) -> Any:
    """The agent's status as JSON values. Raises AgentNotRunning."""
    return _asked(socket_path, "GET", "/status", None, ANSWER_WITHIN_S)[1]


def ask_purge(socket_path: Path, purposes: Iterable[str]) -> Any:
    """What a purge took, as JSON values. Raises AgentNotRunning, NotDone."""
    body = msgspec.json.encode({"purposes": sorted(purposes)})
    code, answer = _asked(socket_path, "POST", "/purge", body, PURGED_WITHIN_S)
    if code != http.HTTPStatus.OK:
        raise NotDone(str(answer["error"]))
    return answer


def _asked(socket_path: Path, method: str, path: str, body: bytes | None, within_s: float) -> tuple[int, Any]:
    connection = _UnixConnection(socket_path, within_s)
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, msgspec.json.decode(response.read())
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
