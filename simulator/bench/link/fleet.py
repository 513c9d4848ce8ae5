"""A receiver in a process of its own, as it is run for a fleet, and vehicles paired with it."""

from __future__ import annotations

import contextlib
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from agent.pairing import KEYS_FOLDER, Paired, load_paired, pair, tls_context
from ecu.clock import SystemClock
from ecu.disk import RealDisk
from ecu.keys import FileKeyStore
from receiver.client import OperatorClient

_CONFIG: Final = "[receiver]\nmqtt_port = 0\nhttps_port = 0\n"


class _Ready(msgspec.Struct, frozen=True):
    mqtt_port: int


@dataclass(frozen=True, slots=True)
class RunningFleet:
    """`vehicles` are their state folders; `commits()` how many transactions took blocks so far."""

    pid: int
    port: int
    state: Path
    vehicles: list[Path]

    def commits(self) -> int:
        return OperatorClient(self.state).stats()["commits"]


@contextlib.contextmanager
def a_fleet(folder: Path, vehicles: int) -> Iterator[RunningFleet]:
    """Defaults but for the ports."""
    config, state = folder / "outrider.toml", folder / "receiver"
    config.write_text(_CONFIG)
    told, tell = os.pipe()
    command = [sys.executable, "-m", "outrider", "receiver", "run", "--ready-fd", str(tell)]
    with (folder / "receiver.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--config", str(config), "--state", str(state)], pass_fds=[tell], stdout=log, stderr=log
        )
    os.close(tell)
    try:
        with os.fdopen(told, "rb") as pipe:
            ready = msgspec.json.decode(pipe.readline(), type=_Ready)
        paired = [_paired(state, folder / f"bench-{number:03}") for number in range(vehicles)]
        yield RunningFleet(process.pid, ready.mqtt_port, state, paired)
    finally:
        process.terminate()
        process.wait()


def vehicle_in(folder: Path) -> tuple[Paired, ssl.SSLContext]:
    """Whom a vehicle's state folder is paired with, and the TLS that proves it."""
    paired = load_paired(RealDisk(folder))
    return paired, tls_context(paired, FileKeyStore.open(folder / KEYS_FOLDER))


def _paired(state: Path, folder: Path) -> Path:
    disk = RealDisk(folder)
    disk.make_folder("")
    pair(OperatorClient(state).enrol(folder.name), FileKeyStore.open(folder / KEYS_FOLDER), disk, SystemClock())
    return folder
