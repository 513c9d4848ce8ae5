"""What the endpoint is held against: the floor of the same transport, and mosquitto, each in a process of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.pairing import load_paired
from ecu.clock import SystemClock
from ecu.disk import RealDisk
from receiver.config import ReceiverConfig
from receiver.pki import Authority
from simulator.bench.link.fleet import RunningFleet

MOSQUITTO: Final = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
_READY_WITHIN_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Peer:
    pid: int
    port: int


@contextlib.contextmanager
def an_echo(fleet: RunningFleet) -> Iterator[Peer]:
    told, tell = os.pipe()
    command = [sys.executable, "-m", "simulator.bench.link.echo", str(fleet.state), str(tell)]
    process = subprocess.Popen(command, pass_fds=[tell])
    os.close(tell)
    with _ended(process), os.fdopen(told, "rb") as pipe:
        yield Peer(process.pid, int(pipe.readline()))


@contextlib.contextmanager
def a_mosquitto(fleet: RunningFleet, folder: Path) -> Iterator[Peer]:
    """Without storage; it takes the fleet's vehicles, and as many messages in flight as the receiver does."""
    assert MOSQUITTO is not None
    port = _free_port()
    file = folder / "mosquitto.conf"
    file.write_text(_mosquitto_conf(fleet, folder, port))
    with (folder / "mosquitto.log").open("wb") as log:
        process = subprocess.Popen([MOSQUITTO, "-c", str(file)], stdout=log, stderr=log)
    with _ended(process):
        _await_port(port)
        yield Peer(process.pid, port)


def _mosquitto_conf(fleet: RunningFleet, folder: Path, port: int) -> str:
    config = ReceiverConfig()
    server = Authority(RealDisk(fleet.state), SystemClock(), config.certificate_days).server_file(config.hosts)
    ca = folder / "ca.pem"
    ca.write_text(load_paired(RealDisk(fleet.vehicles[0])).ca)
    lines = [
        "per_listener_settings false", "persistence false", "set_tcp_nodelay true", "allow_anonymous false",
        f"max_inflight_messages {config.receive_maximum}", "max_queued_messages 0", "log_type error",
        f"listener {port} 127.0.0.1", f"cafile {ca}", f"certfile {server}", f"keyfile {server}",
        "require_certificate true", "use_identity_as_username true",
    ]  # fmt: skip
    # Started as root it becomes a user that may not read our files, unless told to stay.
    return "\n".join([*lines, *(["user root"] if os.geteuid() == 0 else [])]) + "\n"


@contextlib.contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def _await_port(port: int) -> None:
    """It tells nobody when it is ready."""
    deadline_s = time.monotonic() + _READY_WITHIN_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
        except OSError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.02)
        else:
            return
