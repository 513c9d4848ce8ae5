"""Two computers whose systems can be replaced: one in memory, one with Debian's RAUC under a bus of its own.

RAUC's is laid by simulator/rauc.py; `power_on` is the other half of its bootloader.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import pytest

from ota.system.memory import STARTS, MemorySystem, NothingStarts, memory_bundle
from ota.system.port import InstallerAway, SystemInstaller
from simulator.rauc import BOOTNAMES, BUS_FILE, SYSTEM_FILE, lay_bus, lay_computer, make_bundle, make_chain, missing

CHAINS = ("ours", "foreign")


class SystemWorld(Protocol):
    """A computer with two slots, rootfs.0 and rootfs.1."""

    @property
    def installer(self) -> SystemInstaller: ...

    def bundle(self, path: Path, payload: bytes, chain: str = "ours", compatible: str = "car") -> Path: ...

    async def power_on(self) -> str:
        """The slot that the bootloader starts."""
        ...

    async def cut_while_writing(self, bundle: Path) -> None:
        """The power goes while it is installed, once writing has begun, and comes back."""
        ...

    def content(self, slot: str) -> bytes | None:
        """What lies in it; None where that can't be seen."""
        ...


class MemoryWorld:
    def __init__(self) -> None:
        self.installer: MemorySystem = MemorySystem()

    def bundle(self, path: Path, payload: bytes, chain: str = "ours", compatible: str = "car") -> Path:
        path.write_bytes(memory_bundle(payload, chain, compatible))
        return path

    async def power_on(self) -> str:
        return self.installer.power_on()

    async def cut_while_writing(self, bundle: Path) -> None:
        self.installer.hold = asyncio.Event()
        work = asyncio.create_task(self.installer.install(bundle, lambda percent, what: None))
        await self.installer.writing.wait()
        work.cancel()
        await asyncio.wait({work})
        self.installer.hold = None
        await self.power_on()

    def content(self, slot: str) -> bytes | None:
        return None


def demand_rauc() -> None:
    """Skips, saying so, where it can't be met."""
    pytest.importorskip("dbus_fast", reason="dbus-fast isn't installed: RAUC is not asked over D-Bus")
    if absent := missing():
        pytest.skip(absent)


class RaucWorld:
    """In an empty folder. `address` is its bus's."""

    def __init__(self, folder: Path, address: str, activates: bool = False) -> None:
        from agent.rauc import Rauc

        self.folder = folder
        self.address = address
        self.installer = Rauc(self.address)
        self._service: subprocess.Popen[bytes] | None = None
        for name in CHAINS:
            make_chain(folder, name)
        for name in BOOTNAMES:
            (folder / f"{name}.img").write_bytes(b"delivered".ljust(1 << 16, b"\0"))
        lay_computer(folder, "car", CHAINS[0], STARTS, activates)

    def bundle(self, path: Path, payload: bytes, chain: str = "ours", compatible: str = "car") -> Path:
        content = self.folder / f"content-{path.stem}"
        shutil.rmtree(content, ignore_errors=True)
        content.mkdir()
        path.unlink(missing_ok=True)
        (content / "rootfs.img").write_bytes(payload)
        make_bundle(content, "rootfs.img", path, compatible, self.folder / chain)
        return path

    async def power_on(self) -> str:
        """As a bootloader that looks for what is primary first, and counts before it starts."""
        self.stop()
        primary = (self.folder / "primary").read_text()
        for name in sorted(BOOTNAMES, key=lambda name: name != primary):
            starts = self.folder / f"starts.{name}"
            if int(starts.read_text()) > 0:
                starts.write_text(str(int(starts.read_text()) - 1))
                await self.serve(name)
                return f"rootfs.{BOOTNAMES.index(name)}"
        raise NothingStarts("no slot has starts left")

    async def serve(self, bootname: str) -> None:
        """RAUC's service in a system that was started from there, once it answers."""
        command = ["rauc", "-c", str(self.folder / SYSTEM_FILE), f"--override-boot-slot={bootname}", "service"]
        environment = {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": self.address, "DBUS_STARTER_BUS_TYPE": "system"}
        self._service = started(command, self.folder / "rauc.log", environment)
        await answers(self.installer)

    async def cut_while_writing(self, bundle: Path) -> None:
        writing = asyncio.Event()
        work = asyncio.create_task(
            self.installer.install(bundle, lambda percent, what: writing.set() if "Copying" in what else None)
        )
        await writing.wait()
        self.stop()
        await asyncio.wait({work})
        work.exception()
        unmount(self.folder)
        await self.power_on()

    def stop(self) -> None:
        """At once, as when the power goes."""
        if self._service is not None:
            self._service.kill()
            self._service.wait()
            self._service = None

    def content(self, slot: str) -> bytes | None:
        return self.slot_file(slot).read_bytes()

    def slot_file(self, slot: str) -> Path:
        return self.folder / f"{BOOTNAMES[int(slot[-1])]}.img"


def started(command: Sequence[str], log: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    with log.open("ab") as out:
        return subprocess.Popen(command, env=environment, stdout=out, stderr=out)


def listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as line:
        return line.connect_ex(str(path)) == 0


def unmount(folder: Path) -> None:
    """The bundle that a killed RAUC left mounted, as a start of the computer would."""
    subprocess.run(["umount", str(folder / "mnt/bundle")], check=False, capture_output=True)


async def answers(installer: SystemInstaller) -> None:
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(InstallerAway):
                await installer.read()
                return
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def a_bus(folder: Path) -> AsyncIterator[str]:
    """A system's bus of its own; its address."""
    demand_rauc()
    lay_bus(folder)
    command: Sequence[str] = ("dbus-daemon", f"--config-file={folder / BUS_FILE}", "--nofork", "--nopidfile")
    bus = started(command, folder / "bus.log", os.environ)
    try:
        async with asyncio.timeout(20):
            while not listens(folder / "bus"):
                await asyncio.sleep(0.01)
        yield f"unix:path={folder}/bus"
    finally:
        bus.kill()
        bus.wait()


@contextlib.asynccontextmanager
async def a_rauc_world(folder: Path, activates: bool = False) -> AsyncIterator[RaucWorld]:
    demand_rauc()
    folder.mkdir()
    async with a_bus(folder) as address:
        world = RaucWorld(folder, address, activates)
        try:
            await world.power_on()
            yield world
        finally:
            world.stop()
            unmount(folder)


@contextlib.asynccontextmanager
async def a_system_world(kind: str, folder: Path) -> AsyncIterator[SystemWorld]:
    if kind == "memory":
        memory = MemoryWorld()
        await memory.power_on()
        yield memory
    else:
        async with a_rauc_world(folder) as world:
            yield world
