"""RAUC as a peer: its service on a message bus of its own, two slots that are files, one signed bundle."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Final, Self

from simulator.rauc import BOOTNAMES, BUS_FILE, SYSTEM_FILE, lay_bus, lay_computer, make_bundle, make_chain

_WAIT_S: Final = 20.0
_STARTS: Final = 3
_CHAIN: Final = "bench"


class Rauc:
    """As a context, in `folder`, with one bundle of `payload`."""

    def __init__(self, folder: Path, payload: Path) -> None:
        self._folder = folder
        self._payload = payload
        self._bundle = folder / "bundle.raucb"
        self._environment = {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={folder}/bus"}
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        self._lay()
        self._start(["dbus-daemon", f"--config-file={self._folder / BUS_FILE}", "--nofork"], self._folder / "bus")
        service = ["rauc", "-c", str(self._folder / SYSTEM_FILE), "--override-boot-slot=A", "service"]
        self._start(service, None)
        self._wait_for_service()
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._running):
            process.send_signal(signal.SIGTERM)
            process.wait()

    def install(self) -> None:
        """As an operator does it; it is whole and synced when this returns."""
        self._run(["rauc", "install", str(self._bundle)])

    def _lay(self) -> None:
        folder, inside = self._folder, self._folder / "in"
        inside.mkdir(parents=True)
        (folder / "mnt").mkdir()
        make_chain(folder, _CHAIN)
        lay_bus(folder)
        lay_computer(folder, "bench", _CHAIN, _STARTS)
        for name in BOOTNAMES:
            with (folder / f"{name}.img").open("wb") as file:
                file.truncate(self._payload.stat().st_size)
        shutil.copy(self._payload, inside)
        make_bundle(inside, self._payload.name, self._bundle, "bench", folder / _CHAIN)

    def _start(self, command: list[str], appears: Path | None) -> None:
        quiet = subprocess.DEVNULL
        self._running.append(subprocess.Popen(command, env=self._environment, stdout=quiet, stderr=quiet))
        until = time.monotonic() + _WAIT_S
        while appears is not None and not appears.exists():
            if time.monotonic() > until:
                raise TimeoutError(f"{command[0]} didn't begin within {_WAIT_S:g} s")
            time.sleep(0.01)

    def _wait_for_service(self) -> None:
        until = time.monotonic() + _WAIT_S
        while subprocess.run(["rauc", "status"], env=self._environment, capture_output=True, check=False).returncode:
            if time.monotonic() > until:
                raise TimeoutError(f"rauc's service didn't begin within {_WAIT_S:g} s")
            time.sleep(0.05)

    def _run(self, command: list[str]) -> None:
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command[:3])} ended with {done.returncode}: {done.stderr[-400:]}")
