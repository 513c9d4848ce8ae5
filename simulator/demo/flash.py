"""What updates keep on a vehicle's flash, read by its documented formats alone (docs/formats): none of the product's
own reading is believed here, nor what its records say of bytes that can be hashed."""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from pathlib import Path
from typing import Any, Final

from ecu.errors import OutriderError


class FlashFault(OutriderError):
    """What lies on flash can't have been left by any order of writes and kills."""


_HEAD: Final = struct.Struct("<4sIIQI")
_CRC_FROM: Final = 12
_DENIED_LINE_BYTES: Final = 74
_NEVER_WRITTEN: Final[dict[str, Any]] = {"good": "factory", "trial": None, "state": "committed", "slots": {}}


def boot_record(kind: Path) -> dict[str, Any]:
    """The newest whole one of the kind's folder. Raises FlashFault when there were some and none is whole."""
    paths = [path for path in (kind / "boot.0", kind / "boot.1") if path.exists()]
    blocks = [block for path in paths if (block := _block(path.read_bytes())) is not None]
    if paths and not blocks:
        raise FlashFault(f"No boot record in {kind} is whole.")
    record: dict[str, Any] = json.loads(max(blocks)[1]) if blocks else {}
    return {**_NEVER_WRITTEN, **record}


def _block(data: bytes) -> tuple[int, bytes] | None:
    if len(data) < _HEAD.size:
        return None
    magic, version, crc, number, length = _HEAD.unpack_from(data)
    end = _HEAD.size + length
    if (magic, version) != (b"OTWN", 1) or zlib.crc32(data[_CRC_FROM:end]) != crc:
        return None
    return number, data[_HEAD.size : end]


def fingerprint(folder: Path) -> str:
    """SHA-256 (hex) over the names and hashes of a flat folder's files."""
    lines = [f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in sorted(folder.iterdir())]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def slot_files(kind: Path, slot: str) -> Path:
    return kind / slot / "files"


def is_whole(kind: Path, slot: str, digest: str) -> bool:
    """Whether the slot holds the manifest of that digest, and the files that it names, and no others."""
    try:
        manifest = (kind / slot / "bundle.json").read_bytes()
    except FileNotFoundError:
        return False
    if hashlib.sha256(manifest).hexdigest() != digest:
        return False
    named = {entry["path"]: entry["sha256"] for entry in json.loads(manifest)["files"]}
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in slot_files(kind, slot).glob("*")}
    return files == named


def denied(updates: Path) -> frozenset[str]:
    """Digests of manifests; lines whose checksum isn't theirs are left out."""
    path = updates / "denied"
    data = path.read_bytes().decode() if path.exists() else ""
    lines = [data[at : at + _DENIED_LINE_BYTES] for at in range(0, len(data), _DENIED_LINE_BYTES)]
    return frozenset(line[:64] for line in lines if line[65:73] == f"{zlib.crc32(line[:64].encode()):08x}")
