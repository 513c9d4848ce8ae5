"""RAUC at a desk: what its service and a message bus of its own begin from, and bundles for it.

Files are in the place of partitions: two slots, A.img and B.img. The bootloader is a script, as RAUC's
`bootloader=custom` wants it, that counts starts like U-Boot's environment does. Bundles are `plain`: `verity` needs a
device mapper, which containers lack.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

BOOTNAMES: Final = ("A", "B")
BUS_FILE: Final = "bus.conf"
SYSTEM_FILE: Final = "system.conf"
_BOOT_FILE: Final = "boot.sh"

_BUS: Final = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path={folder}/bus</listen><auth>EXTERNAL</auth><policy context="default">
<allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>
"""
_SYSTEM: Final = """[system]
compatible={compatible}
bootloader=custom
activate-installed={activates}
statusfile={folder}/status.raucs
mountprefix={folder}/mnt
[handlers]
bootloader-custom-backend={folder}/boot.sh
[keyring]
path={folder}/{keyring}.pem
[slot.rootfs.0]
device={folder}/A.img
type=raw
bootname=A
[slot.rootfs.1]
device={folder}/B.img
type=raw
bootname=B
"""
_BOOT: Final = """#!/bin/sh
D={folder}
case "$1" in
 get-primary) [ "$(cat $D/starts.$(cat $D/primary))" -gt 0 ] && cat $D/primary;;
 set-primary) printf %s "$2" > $D/primary; printf {starts} > $D/starts.$2;;
 get-state) if [ "$(cat $D/starts.$2)" -gt 0 ]; then echo good; else echo bad; fi;;
 set-state) if [ "$3" = good ]; then printf {starts} > $D/starts.$2; else printf 0 > $D/starts.$2; fi;;
 get-current) cat $D/primary;;
esac
"""
_MANIFEST: Final = """[update]
compatible={compatible}
version=1.0
[bundle]
format=plain
[image.rootfs]
filename={image}
"""


def missing() -> str | None:
    """Why no real RAUC can install here, in words; None where it can."""
    absent = [name for name in ("rauc", "dbus-daemon", "mksquashfs") if shutil.which(name) is None]
    if absent:
        return f"{', '.join(absent)} not installed here (apt-get install rauc dbus)"
    return None if os.geteuid() == 0 else "rauc mounts bundles, and only root may"


def lay_bus(folder: Path) -> None:
    """What dbus-daemon begins from; its bus is `folder`/bus."""
    (folder / BUS_FILE).write_text(_BUS.format(folder=folder))


def lay_computer(folder: Path, compatible: str, keyring: str, starts: int, activates: bool = True) -> None:
    """What `rauc service` begins from, and its bootloader, which starts a slot so many times that nobody called good.
    The slots' files are the caller's. Believed is what the chain of that name in `folder` signed."""
    values = {"folder": folder, "compatible": compatible, "keyring": keyring, "starts": starts}
    values["activates"] = str(activates).lower()
    (folder / SYSTEM_FILE).write_text(_SYSTEM.format(**values))
    (folder / _BOOT_FILE).write_text(_BOOT.format(**values))
    (folder / _BOOT_FILE).chmod(0o755)
    (folder / "primary").write_text(BOOTNAMES[0])
    for name in BOOTNAMES:
        (folder / f"starts.{name}").write_text(str(starts))


def make_bundle(content: Path, image: str, to: Path, compatible: str, chain: Path) -> None:
    """Of the one file in `content`, signed by the chain whose files are `chain`.key and `chain`.pem."""
    (content / "manifest.raucm").write_text(_MANIFEST.format(compatible=compatible, image=image))
    signer = (f"--cert={chain}.pem", f"--key={chain}.key")
    subprocess.run(["rauc", "bundle", *signer, str(content), str(to)], check=True, capture_output=True)


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
