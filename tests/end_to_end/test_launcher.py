"""The launcher and real agents: a release that can't start, and a good one whose perception is broken."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.apiclient import ask_status
from agent.folders import SOCKET_NAME
from ecu.disk import RealDisk
from ecu.ownership import NAMES
from ecu.twin import TwinRecord
from tests.ota.launcher.garage import LAUNCHER, note_starts

HOUSE = Path(__file__).parents[2]
WITHIN_S = 60.0


def unpack(slot: Path, spoil: dict[str, str]) -> dict[str, Any]:
    """This very runtime as a release, but for what `spoil` says of its files."""
    files = slot / "files"
    for name in NAMES:
        # What only a model or a drive needs stays out: it is large, and nothing here looks at it.
        shutil.copytree(HOUSE / name, files / name, ignore=shutil.ignore_patterns("__pycache__", "models", "drives"))
    for path, text in spoil.items():
        (files / path).write_text(text)
    names = sorted(str(path.relative_to(files)) for path in files.rglob("*") if path.is_file())
    entries = [{"path": name, "sha256": hashlib.sha256((files / name).read_bytes()).hexdigest()} for name in names]
    manifest = json.dumps({"files": entries}).encode()
    (slot / "bundle.json").write_bytes(manifest)
    return {"digest": hashlib.sha256(manifest).hexdigest(), "release": 1, "title": slot.name}


class Vehicle:
    """`ready` returns once the launcher has told systemd that its agent is."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self.home = self.state / "updates" / "runtime"
        self.home.mkdir(parents=True)
        self._record = TwinRecord(RealDisk(self.home), "boot")
        self._systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._systemd.bind(str(folder / "notify"))
        self._systemd.settimeout(WITHIN_S)
        self._launchers: list[subprocess.Popen[str]] = []

    def write(self, **record: Any) -> None:
        self._record.write_both(json.dumps({"v": 1, "attempts": 0, "state": "committed", **record}).encode())

    def record(self) -> dict[str, Any]:
        record: dict[str, Any] = json.loads(TwinRecord(RealDisk(self.home), "boot").peek() or b"{}")
        return record

    def launch(self) -> None:
        options = ["--state", str(self.state), "--backoff-s", "0.01", "--"]
        agent = [sys.executable, "-m", "agent.process", "--state", str(self.state)]
        environment = {**os.environ, "NOTIFY_SOCKET": self._systemd.getsockname(), "PYTHONPATH": str(HOUSE)}
        self._launchers.append(
            subprocess.Popen(
                [sys.executable, "-I", "-S", str(LAUNCHER), *options, *agent],
                env=environment,
                stderr=subprocess.PIPE,
                text=True,
            )
        )

    def ready(self) -> Any:
        """The status of what runs now."""
        while self._systemd.recv(100) != b"READY=1":
            pass
        return ask_status(self.state / SOCKET_NAME)

    def end(self) -> str:
        launcher = self._launchers.pop()
        launcher.send_signal(signal.SIGTERM)
        _, words = launcher.communicate(timeout=WITHIN_S)
        assert launcher.returncode == 0
        return words

    def close(self) -> None:
        for launcher in self._launchers:
            launcher.kill()
            launcher.communicate(timeout=WITHIN_S)
        self._systemd.close()


@pytest.fixture
def vehicle(tmp_path: Path) -> Iterator[Vehicle]:
    with contextlib.closing(Vehicle(tmp_path)) as vehicle:
        yield vehicle


def test_an_agent_whose_perception_is_broken_goes_on_in_rescue_mode(vehicle: Vehicle) -> None:
    broken = unpack(vehicle.home / "a", {"agent/perception/__init__.py": "import nothing_there"})
    vehicle.write(good="a", slots={"a": broken})
    note_starts(vehicle.home, f"a {broken['digest']}", "exit 1", times=2)
    vehicle.launch()
    status = vehicle.ready()
    assert status["rescue"] == "it ended 3 times within ten minutes: exit 1, exit 1, exit 1"
    assert status["slot"] == "a"
    assert "No module named 'nothing_there'" in vehicle.end()


@pytest.mark.soak
def test_a_release_that_cannot_start_is_given_up_for_the_agent_that_was_shipped(vehicle: Vehicle) -> None:
    broken = unpack(vehicle.home / "b", {"ecu/clock.py": "import nothing_there"})
    vehicle.write(good="factory", trial="b", state="armed", slots={"b": broken})
    vehicle.launch()
    assert "rescue" not in vehicle.ready()
    assert [boot["ended"] for boot in vehicle.record()["boots"]] == ["exit 1"] * 3
    vehicle.end()


@pytest.mark.soak
def test_a_release_runs_from_its_slot_and_leaves_it_as_it_was(vehicle: Vehicle) -> None:
    whole = unpack(vehicle.home / "b", {})
    vehicle.write(good="factory", trial="b", state="armed", slots={"b": whole})
    vehicle.launch()
    pid = vehicle.ready()["pid"]
    assert str(vehicle.home / "b" / "files") in Path(f"/proc/{pid}/environ").read_text()
    vehicle.end()
    assert vehicle.record()["boots"][-1]["ended"] == "stopped"
    vehicle.launch()
    vehicle.ready()
    assert "slot b isn't" not in vehicle.end()
