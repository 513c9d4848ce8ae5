"""What a receiver has to itself on its computer: its state folder, its ports, its operator's socket."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ecu.errors import EnvironmentFault
from receiver.client import SOCKET
from receiver.config import ReceiverConfig
from receiver.listener import listen

LOCK: Final = "receiver.lock"


@dataclass(frozen=True, slots=True)
class Sockets:
    mqtt: socket.socket
    https: socket.socket
    local: socket.socket


@contextlib.contextmanager
def alone(state: Path) -> Iterator[None]:
    """One receiver a state folder: the audit chain has one writer. Raises EnvironmentFault when there is another."""
    fd = _open_lock(state)
    try:
        _lock(fd, state)
        yield
    finally:
        os.close(fd)


def _open_lock(state: Path) -> int:
    try:
        return os.open(state / LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise EnvironmentFault(f"Can't write in {state}: {error.strerror}. Choose another --state.") from error


def _lock(fd: int, state: Path) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise EnvironmentFault(f"Another receiver runs on {state}. Stop it, or choose another --state.") from error


@contextlib.contextmanager
def sockets(config: ReceiverConfig, state: Path) -> Iterator[Sockets]:
    """Raises EnvironmentFault for a port or a path that can't be had."""
    with contextlib.ExitStack() as stack:
        closing = contextlib.closing
        mqtt = stack.enter_context(closing(listen(config.listen, config.mqtt_port, "[receiver] mqtt_port")))
        https = stack.enter_context(closing(listen(config.listen, config.https_port, "[receiver] https_port")))
        yield Sockets(mqtt, https, stack.enter_context(_local(state / SOCKET)))


@contextlib.contextmanager
def _local(path: Path) -> Iterator[socket.socket]:
    """The operator's socket, 0600. One left by a receiver that was killed is in nobody's use: we hold the lock."""
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        listening.bind(str(path))
    except OSError as error:
        listening.close()
        raise EnvironmentFault(f"Can't make the socket {path}: {error}. Choose a shorter --state.") from error
    finally:
        os.umask(mask)
    with contextlib.closing(listening):
        yield listening
    path.unlink(missing_ok=True)
