"""What can be read off the disks when the drive is over, by somebody who trusts neither agent nor receiver."""

from __future__ import annotations

import base64
import re
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from numpy.typing import NDArray

from inference.detector import detector_of
from inference.fidelity import Agreement, compare_at, decode_reference
from inference.manifest import DetectManifest
from inference.package import find_package, load_package
from inference.session import Session
from telemetry.confirmations import Confirmation
from telemetry.records import Stored, record_digest
from telemetry.wire import unpack_block, unpack_body

_PEM_KEY: Final = re.compile(rb"-----BEGIN PRIVATE KEY-----.+?-----END PRIVATE KEY-----", re.DOTALL)
_PEM_CERTIFICATE: Final = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_LINE_BREAKS: Final = re.compile(rb"\s+|\\[nr]")
_URL_SAFE: Final = bytes.maketrans(b"-_", b"+/")
BOOTSTRAP_SEED: Final = 20


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """One record as the receiver has it."""

    lane: int
    epoch: bytes
    seq: int
    received_ns: int
    record: Stored

    @property
    def confirmation(self) -> Confirmation:
        return Confirmation(self.lane, self.epoch, self.seq, record_digest(self.record))


def stored_records(database: Path, vehicle: str) -> Iterator[StoredRecord]:
    """Every record of every committed inbox row of the vehicle, by the SQL of the file itself. Raises BadBlock."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        rows = connection.execute(
            "select lane, epoch, base_seq, received_ns, block from inbox where vehicle = ? "
            "order by lane, epoch, base_seq",
            (vehicle,),
        )
        for lane, epoch, base_seq, received_ns, block in rows:
            header, body = unpack_block(block)
            for offset, record in enumerate(unpack_body(header, body)):
                yield StoredRecord(lane, epoch, base_seq + offset, received_ns, record)
    finally:
        connection.close()


def stored_blocks(database: Path, vehicle: str) -> int:
    """Committed inbox rows of the vehicle, whatever is in them."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        (rows,) = connection.execute("select count(*) from inbox where vehicle = ?", (vehicle,)).fetchone()
        return int(rows)
    finally:
        connection.close()


@dataclass(frozen=True, slots=True)
class KeyWatch:
    """Where the vehicle's private key was found. `held` counts copies in its own folder: none would prove nothing."""

    held: int
    leaks: tuple[Path, ...]
    certified: bool


def watch_key(root: Path, vehicle_folder: Path) -> KeyWatch:
    """Looks for the private key, in every form it could be written down in, in all files below `root`.

    `certified` says that the vehicle's certificate is for that key.
    """
    blobs = [path.read_bytes() for path in _files(vehicle_folder / "keys")]
    # A twin record holds a key twice: one key.
    pems = {pem for blob in blobs for pem in _PEM_KEY.findall(blob)}
    keys = [serialization.load_pem_private_key(pem, None) for pem in pems]
    certificates = [x509.load_pem_x509_certificate(pem) for blob in blobs for pem in _PEM_CERTIFICATE.findall(blob)]
    secrets = [_scalar(key) for key in keys if isinstance(key, ec.EllipticCurvePrivateKey)]
    leaks = tuple(
        path for path in _files(root) if vehicle_folder not in path.parents and _holds_any(path.read_bytes(), secrets)
    )
    public = [key.public_key() for key in keys if isinstance(key, ec.EllipticCurvePrivateKey)]
    certified = bool(certificates) and all(certificate.public_key() in public for certificate in certificates)
    return KeyWatch(len(pems), leaks, certified)


def _scalar(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_numbers().private_value.to_bytes(32, "big")


def _holds_any(data: bytes, secrets: list[bytes]) -> bool:
    """As bytes (in DER, too), as hex, or in base64 (PEM, JSON web keys), also where line breaks part it."""
    lower, text = data.lower(), _LINE_BREAKS.sub(b"", data).translate(_URL_SAFE)
    return any(
        secret in data or secret.hex().encode() in lower or any(form in text for form in _base64_forms(secret))
        for secret in secrets
    )


def _base64_forms(secret: bytes) -> Iterator[bytes]:
    """Whatever comes before it, the secret begins at one of three places in a group of base64."""
    for before in range(3):
        shared = before + (before > 0)
        yield base64.b64encode(bytes(before) + secret)[shared:-4]


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def drive_frames(drive: Path, every: int) -> Iterator[NDArray[np.uint8]]:
    """Every `every`-th frame of the drive, from its first."""
    capture = cv2.VideoCapture(str(drive.absolute()), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    index = 0
    while capture.grab():
        if index % every == 0:
            yield np.asarray(capture.retrieve()[1], np.uint8)
        index += 1
    capture.release()


def fidelity(model: str, drive: Path, every: int, scores: Iterable[float], referee: str) -> dict[float, Agreement]:
    """The model against the fp32 reference that `referee`'s package holds, on every `every`-th frame of the default
    drive."""
    package, holder = load_package(find_package(model)), load_package(find_package(referee))
    entry = holder.manifest_of(DetectManifest).reference
    assert entry is not None
    reference = decode_reference(holder.read(entry)).detections()
    detector = detector_of(Session(package))
    wanted = sorted(scores)
    seen = [detector.detect(frame, wanted[0]) for frame in drive_frames(drive, every)]
    return compare_at(reference[::every], seen, wanted, BOOTSTRAP_SEED)
