"""A vehicle with a launcher: slots on a real file system, real processes, and a line to whatever was started."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecu.clock import SECOND_NS, SystemClock, boot_id
from ecu.disk import RealDisk
from ecu.twin import TwinRecord

LAUNCHER = Path(__file__).parents[3] / "ota" / "launcher.py"
RUNTIME = (Path(__file__).parent / "runtime.py").read_text()
WITHIN_S = 20.0


def note_starts(home: Path, of: str, ended: str, times: int) -> None:
    """As the launcher does, of this boot and just now: each start takes its time."""
    now_s = SystemClock().boot_ns() / SECOND_NS
    start = {
        "of": of,
        "boot_id": boot_id(),
        "rescue": "",
        "ended": ended,
        "began_s": now_s,
        "at_s": now_s,
        "ran_s": 0.0,
    }
    book = json.dumps({"starts": [start] * times}).encode()
    TwinRecord(RealDisk(home), "launcher").write_both(book)


@dataclass(frozen=True)
class Started:
    """A runtime that has said hello."""

    slot: str
    trial: str
    rescue: str
    pid: int
    folder: Path
    line: socket.socket

    def do(self, python: str) -> None:
        with contextlib.suppress(BrokenPipeError):
            self.line.sendall(python.encode() + b"\n")

    def says(self) -> Any:
        return ast.literal_eval(_read_line(self.line).decode())

    def gone(self) -> None:
        """Returns once it has ended."""
        with contextlib.suppress(ConnectionResetError):
            while self.line.recv(4096):
                pass


def _read_line(line: socket.socket) -> bytes:
    data = b""
    while not data.endswith(b"\n"):
        part = line.recv(1)
        if not part:
            raise EOFError(data)
        data += part
    return data


class Garage:
    """`options` are the launcher's; it runs `under` another program, where there is one."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.state = folder / "state"
        self.home = self.state / "updates" / "runtime"
        self.home.mkdir(parents=True)
        self._options = options
        self._shipped = folder / "shipped"
        self._shipped.mkdir()
        (self._shipped / "runtime.py").write_text(RUNTIME)
        self._door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._door.bind(str(folder / "talk"))
        self._door.listen(16)
        self._door.settimeout(WITHIN_S)
        self._environment = {"TALK": str(folder / "talk"), "PYTHONPATH": str(self._shipped), "PATH": os.environ["PATH"]}
        self._slots: dict[str, dict[str, Any]] = {}
        self._lines: list[socket.socket] = []
        self.launchers: list[subprocess.Popen[str]] = []
        self.under: list[str] = []

    # --- slots and record ---

    def install(self, slot: str, source: str = RUNTIME, **others: str) -> str:
        """The digest of what lies in the slot now."""
        files = self.home / slot / "files"
        entries = []
        for path, text in sorted({"runtime.py": source, **others}.items()):
            (files / path).parent.mkdir(parents=True, exist_ok=True)
            (files / path).write_text(text)
            entries.append({"path": path, "sha256": hashlib.sha256(text.encode()).hexdigest()})
        manifest = json.dumps({"files": entries}).encode()
        (self.home / slot / "bundle.json").write_bytes(manifest)
        digest = hashlib.sha256(manifest).hexdigest()
        self._slots[slot] = {"digest": digest, "release": 1, "title": slot}
        return digest

    def write(self, **changes: Any) -> None:
        """As the agent does."""
        record = {"v": 1, "good": "factory", "trial": None, "state": "committed", "attempts": 0, "slots": self._slots}
        TwinRecord(RealDisk(self.home), "boot").write_both(json.dumps(record | changes).encode())

    def record(self) -> dict[str, Any]:
        payload = TwinRecord(RealDisk(self.home), "boot").peek()
        assert payload is not None
        record: dict[str, Any] = json.loads(payload)
        return record

    def ends(self) -> list[str]:
        """How the attempts ended."""
        return [boot["ended"] for boot in self.record()["boots"]]

    def arm(self, slot: str = "b") -> None:
        self.write(trial=slot, state="armed")

    # --- processes ---

    def launch(self, **environment: str) -> subprocess.Popen[str]:
        command = [
            *self.under,
            sys.executable,
            "-I",
            "-S",
            str(LAUNCHER),
            "--state",
            str(self.state),
            *self._options,
            "--",
        ]
        process = subprocess.Popen(
            [*command, sys.executable, "-S", "-m", "runtime"],
            env=self._environment | environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.launchers.append(process)
        return process

    def next(self) -> Started:
        """The runtime that says hello next."""
        line, _ = self._door.accept()
        line.settimeout(WITHIN_S)
        self._lines.append(line)
        slot, trial, rescue, pid, folder = ast.literal_eval(_read_line(line).decode())
        return Started(slot, trial, rescue, pid, Path(folder), line)

    def next_or_none(self) -> Started | None:
        """As `next`; None once the last launcher has ended."""
        with selectors.DefaultSelector() as selector:
            over = os.pidfd_open(self.launchers[-1].pid)
            selector.register(over, selectors.EVENT_READ)
            selector.register(self._door, selectors.EVENT_READ)
            try:
                ready = {key.fileobj for key, _ in selector.select(WITHIN_S)}
            finally:
                os.close(over)
        return self.next() if self._door in ready else None

    def end(self) -> str:
        """Ignition off; what the last launcher said."""
        launcher = self.launchers[-1]
        launcher.send_signal(signal.SIGTERM)
        _, words = launcher.communicate(timeout=WITHIN_S)
        return words

    def close(self) -> None:
        for launcher in self.launchers:
            launcher.kill()
            print(launcher.communicate(timeout=WITHIN_S)[1])
        for line in (self._door, *self._lines):
            line.close()


@contextlib.contextmanager
def a_garage(folder: Path, *options: str) -> Iterator[Garage]:
    garage = Garage(folder, "--backoff-s", "0.01", *options)
    try:
        yield garage
    finally:
        garage.close()
