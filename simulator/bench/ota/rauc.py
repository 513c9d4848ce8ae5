"""RAUC as a peer: its service on a message bus of its own, two slots that are files, one signed bundle.

A `plain` bundle: `verity` needs a device mapper, which containers lack.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Final, Self

_WAIT_S: Final = 20.0

_BUS: Final = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path={folder}/bus</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/>
<allow own="*"/></policy>
</busconfig>
"""
_SYSTEM: Final = """[system]
compatible=bench
bootloader=custom
statusfile={folder}/status.raucs
mountprefix={folder}/mnt
[handlers]
bootloader-custom-backend={folder}/boot.sh
[keyring]
path={folder}/cert.pem
[slot.app.0]
device={folder}/slot0.img
type=raw
bootname=A
[slot.app.1]
device={folder}/slot1.img
type=raw
bootname=B
"""
_MANIFEST: Final = """[update]
compatible=bench
version=1.0
[bundle]
format=plain
[image.app]
filename=payload.img
"""
_BOOT: Final = """#!/bin/sh
case "$1" in
 get-primary) cat {folder}/primary;;
 set-primary) printf %s "$2" > {folder}/primary;;
 get-state) cat "{folder}/state.$2";;
 set-state) printf %s "$3" > "{folder}/state.$2";;
 get-current) echo A;;
esac
"""


class Rauc:
    """As a context, in `folder`, with one bundle of `payload`."""

    def __init__(self, folder: Path, payload: Path) -> None:
        self._folder = folder
        self._payload = payload
        self._bundle = folder / "bundle.raucb"
        self._environment = {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={folder}/bus"}
        self._running: list[subprocess.Popen[bytes]] = []

    @staticmethod
    def missing() -> str | None:
        """What isn't installed here, in words."""
        absent = [name for name in ("rauc", "dbus-daemon", "openssl", "mksquashfs") if shutil.which(name) is None]
        return f"{', '.join(absent)} not installed here (apt-get install rauc dbus)" if absent else None

    def __enter__(self) -> Self:
        self._lay()
        self._start(["dbus-daemon", f"--config-file={self._folder}/bus.conf", "--nofork"], self._folder / "bus")
        service = ["rauc", "-c", str(self._folder / "sys.conf"), "--override-boot-slot=A", "service"]
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
        folder = self._folder
        inside = folder / "in"
        (folder / "mnt").mkdir(parents=True)
        inside.mkdir()
        shutil.copy(self._payload, inside / "payload.img")
        (inside / "manifest.raucm").write_text(_MANIFEST)
        for name, text in (("bus.conf", _BUS), ("sys.conf", _SYSTEM), ("boot.sh", _BOOT)):
            (folder / name).write_text(text.replace("{folder}", str(folder)))
        (folder / "boot.sh").chmod(0o700)
        for name, text in (("primary", "A"), ("state.A", "good"), ("state.B", "good")):
            (folder / name).write_text(text)
        for slot in ("slot0.img", "slot1.img"):
            with (folder / slot).open("wb") as file:
                file.truncate(self._payload.stat().st_size)
        certificate = ["-keyout", f"{folder}/key.pem", "-out", f"{folder}/cert.pem", "-subj", "/O=bench/CN=bench"]
        self._run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *certificate])
        self._run(
            ["rauc", f"--cert={folder}/cert.pem", f"--key={folder}/key.pem", "bundle", str(inside), str(self._bundle)]
        )

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
