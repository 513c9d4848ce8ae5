"""Two computers whose systems can be replaced: one in memory, one with Debian's RAUC under a bus of its own.

RAUC writes into files in the place of partitions. The bootloader is a script, as RAUC's `bootloader=custom` wants it,
that counts starts like U-Boot's environment does; `power_on` is its other half.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ota.system.memory import STARTS, MemorySystem, NothingStarts, memory_bundle
from ota.system.port import InstallerAway, SystemInstaller

CHAINS = ("ours", "foreign")
BOOTNAMES = ("A", "B")


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


def make_chain(folder: Path, name: str) -> None:
    """A self-signed certificate and its key, as PEM files."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    begin = datetime(2020, 1, 1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=36_500))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / f"{name}.key").write_bytes(private)
    (folder / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def demand_rauc() -> None:
    """Skips, saying so, where it can't be met."""
    pytest.importorskip("dbus_fast", reason="dbus-fast isn't installed: RAUC is not asked over D-Bus")
    missing = [name for name in ("rauc", "dbus-daemon", "mksquashfs") if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(f"{', '.join(missing) or 'root'} isn't there: no system is installed by a real RAUC")


BOOT_SCRIPT = """#!/bin/sh
D={folder}
case "$1" in
 get-primary) [ "$(cat $D/starts.$(cat $D/primary))" -gt 0 ] && cat $D/primary;;
 set-primary) printf %s "$2" > $D/primary; printf {starts} > $D/starts.$2;;
 get-state) if [ "$(cat $D/starts.$2)" -gt 0 ]; then echo good; else echo bad; fi;;
 set-state) if [ "$3" = good ]; then printf {starts} > $D/starts.$2; else printf 0 > $D/starts.$2; fi;;
 get-current) cat $D/primary;;
esac
"""
SYSTEM_CONF = """[system]
compatible=car
bootloader=custom
activate-installed={activates}
statusfile={folder}/status.raucs
mountprefix={folder}/mnt
[handlers]
bootloader-custom-backend={folder}/boot.sh
[keyring]
path={folder}/ours.pem
[slot.rootfs.0]
device={folder}/A.img
type=raw
bootname=A
[slot.rootfs.1]
device={folder}/B.img
type=raw
bootname=B
"""
BUS_CONF = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path={folder}/bus</listen><auth>EXTERNAL</auth><policy context="default">
<allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>
"""
MANIFEST = """[update]
compatible={compatible}
version=1.0
[bundle]
format=plain
[image.rootfs]
filename=rootfs.img
"""


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
            (folder / f"starts.{name}").write_text(str(STARTS))
        (folder / "primary").write_text("A")
        values = {"folder": folder, "starts": STARTS, "activates": str(activates).lower()}
        for name, text in (("boot.sh", BOOT_SCRIPT), ("system.conf", SYSTEM_CONF)):
            (folder / name).write_text(text.format(**values))
        (folder / "boot.sh").chmod(0o755)

    def bundle(self, path: Path, payload: bytes, chain: str = "ours", compatible: str = "car") -> Path:
        content = self.folder / f"content-{path.stem}"
        shutil.rmtree(content, ignore_errors=True)
        content.mkdir()
        path.unlink(missing_ok=True)
        (content / "rootfs.img").write_bytes(payload)
        (content / "manifest.raucm").write_text(MANIFEST.format(compatible=compatible))
        signer = (f"--cert={self.folder / chain}.pem", f"--key={self.folder / chain}.key")
        subprocess.run(["rauc", "bundle", *signer, str(content), str(path)], check=True, capture_output=True)
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
        command = ["rauc", "-c", str(self.folder / "system.conf"), f"--override-boot-slot={bootname}", "service"]
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
        return (self.folder / f"{BOOTNAMES[int(slot[-1])]}.img").read_bytes()


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
    (folder / "bus.conf").write_text(BUS_CONF.format(folder=folder))
    command: Sequence[str] = ("dbus-daemon", f"--config-file={folder}/bus.conf", "--nofork", "--nopidfile")
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
