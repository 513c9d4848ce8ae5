"""The vehicle version manifest: what lies in a vehicle's good slots, signed by its identity key.

Uptane standard 2.1.0, section 5.4.2.1.1, with one ECU, which is the primary. docs/formats/version-manifest.md has its
form. It goes with each report of an update; a receiver believes no vehicle's success without one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Final, Protocol

import msgspec

from ecu.disk import Disk
from ecu.errors import shown
from ecu.twin import TwinRecord
from ota.errors import OtaError
from ota.kinds import Kind

DOMAIN: Final = b"outrider version manifest 1\n"
"""Before the signed bytes: what the identity key signs elsewhere is no manifest, nor the other way round."""
MAX_MANIFEST_BYTES: Final = 8 * 1024
MOST_ATTACK_WORDS: Final = 200
_COUNTER: Final = "report.counter"

Verify = Callable[[bytes, bytes], bool]
"""(message, signature) -> whether a key that was certified for the vehicle made it."""

_Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
_Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]


class NotBelieved(OtaError):
    """Not a manifest, or not this vehicle's, or one that was seen before."""


class Signer(Protocol):
    """Of the vehicle's identity."""

    def sign(self, message: bytes) -> bytes:
        """ECDSA P-256 with SHA-256, DER (RFC 3279 section 2.2.3)."""
        ...


class Image(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A release in a good slot, by its target: the bundle's manifest, its length in bytes and its SHA-256."""

    target: Annotated[str, msgspec.Meta(max_length=128)]
    length: _Count
    sha256: _Digest
    release: _Count


class VersionManifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`installed` by kind, without those of the factory; `attack` are the words of what is refused at present, empty
    when nothing is; `verified_at_s` is the latest second that signed metadata vouches for. `counter` grows with every
    manifest."""

    v: Annotated[int, msgspec.Meta(ge=1, le=1)]
    vehicle: Annotated[str, msgspec.Meta(max_length=64)]
    hardware: Annotated[str, msgspec.Meta(max_length=64)]
    counter: _Count
    verified_at_s: _Count
    attack: Annotated[str, msgspec.Meta(max_length=MOST_ATTACK_WORDS)]
    installed: dict[Kind, Image]

    def holds(self, digest: str) -> bool:
        """Whether a release of this digest is in a good slot."""
        return any(image.sha256 == digest for image in self.installed.values())


class SignedManifest(msgspec.Struct, frozen=True, array_like=True):
    """`payload` is the manifest's JSON; the signature is over DOMAIN and these very bytes."""

    payload: bytes
    signature: bytes


class Reporter:
    """Makes manifests, each with a counter above the last one's, whatever the power does. Raises DiskError."""

    def __init__(self, disk: Disk, vehicle: str, hardware: str, signer: Signer) -> None:
        self._counter = TwinRecord(disk, _COUNTER)
        self._vehicle = vehicle
        self._hardware = hardware
        self._signer = signer

    def manifest(self, installed: Mapping[Kind, Image], attack: str, verified_at_s: int) -> bytes:
        """Signed, as it goes into a report. Raises what the signer raises."""
        manifest = VersionManifest(
            v=1,
            vehicle=self._vehicle,
            hardware=self._hardware,
            counter=self._next(),
            verified_at_s=verified_at_s,
            attack=shown(attack)[:MOST_ATTACK_WORDS],
            installed=dict(installed),
        )
        payload = msgspec.json.encode(manifest, order="deterministic")
        return msgspec.msgpack.encode(SignedManifest(payload, self._signer.sign(DOMAIN + payload)))

    def _next(self) -> int:
        """Durable before it is told to anybody."""
        counter = int.from_bytes(self._counter.read() or b"", "little") + 1
        self._counter.write_both(counter.to_bytes(8, "little"))
        return counter


def believed(data: bytes, vehicle: str, verify: Verify, seen: int) -> VersionManifest:
    """What `vehicle` says, when it says it itself, and for the first time: `seen` is the highest counter so far. Raises
    NotBelieved."""
    signed = _decoded(data)
    if not verify(DOMAIN + signed.payload, signed.signature):
        raise NotBelieved(f"The version manifest isn't signed by {vehicle}.")
    manifest = _manifest(signed.payload)
    if manifest.vehicle != vehicle:
        raise NotBelieved(f"{vehicle} sent a version manifest of {shown(manifest.vehicle)}.")
    if manifest.counter <= seen:
        raise NotBelieved(f"{vehicle} sent version manifest {manifest.counter}, and {seen} came before.")
    return manifest


def _decoded(data: bytes) -> SignedManifest:
    if len(data) > MAX_MANIFEST_BYTES:
        raise NotBelieved(f"A version manifest has {len(data)} bytes, more than {MAX_MANIFEST_BYTES}.")
    try:
        return msgspec.msgpack.decode(data, type=SignedManifest)
    except (msgspec.DecodeError, RecursionError) as error:
        raise NotBelieved(f"This is no signed version manifest: {shown(error)}.") from error


def _manifest(payload: bytes) -> VersionManifest:
    try:
        return msgspec.json.decode(payload, type=VersionManifest)
    except (msgspec.DecodeError, RecursionError) as error:
        raise NotBelieved(f"This is no version manifest: {shown(error)}.") from error
