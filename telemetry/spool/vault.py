"""The keys of data at rest: one random key per lane and purpose, wrapped by the key store.

A segment's cipher is AES-256-GCM under HKDF-SHA256 (RFC 5869) of that key with the segment's salt. Overwriting both
twins of a wrapped key makes everything under it unreadable at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ecu.disk import Disk
from ecu.keys import UnsealError
from ecu.twin import TwinLost, TwinRecord
from telemetry.records import Lane, Purpose, TelemetryError

KEY_BYTES: Final = 32


class KeyLost(TelemetryError):
    """The key of a lane and purpose can't be had: never made, erased, damaged, or sealed by another key store."""


class Sealer(Protocol):
    """What of a KeyStore the spool needs: `ecu.keys`."""

    def seal(self, label: str, plain: bytes) -> bytes: ...

    def unseal(self, label: str, sealed: bytes) -> bytes:
        """Raises UnsealError."""
        ...


def record_name(lane: Lane, purpose: Purpose) -> str:
    return f"key-{lane.name.lower()}-{int(purpose)}"


class Vault:
    """Keys by lane and purpose, made when first written with."""

    def __init__(self, disk: Disk, keys: Sealer, entropy: Callable[[int], bytes]) -> None:
        self._disk = disk
        self._keys = keys
        self._entropy = entropy
        self._known: dict[tuple[Lane, Purpose], bytes] = {}
        self._durable: set[tuple[Lane, Purpose]] = set()

    def cipher(self, lane: Lane, purpose: Purpose, spool_id: bytes, salt: bytes) -> AESGCM:
        """To read what a segment holds; writes nothing. Raises KeyLost."""
        if (lane, purpose) not in self._known:
            self._known[lane, purpose] = self._unwrapped(lane, purpose, self._record(lane, purpose).peek)
        return _derived(self._known[lane, purpose], spool_id, salt)

    def make_sure(self, lane: Lane, purpose: Purpose) -> None:
        """There is a key that no power cut can take: before anything is written under it. Raises DiskError."""
        if (lane, purpose) in self._durable:
            return
        try:
            self._known[lane, purpose] = self._unwrapped(lane, purpose, self._record(lane, purpose).read)
        except KeyLost:
            self._make(lane, purpose)
        self._durable.add((lane, purpose))

    def shred(self, lane: Lane, purpose: Purpose) -> None:
        """What was written under this key can't be read by anybody any more; a new key takes its place."""
        if any(name.startswith(record_name(lane, purpose) + ".") for name in self._disk.names("")):
            self._make(lane, purpose)

    def _record(self, lane: Lane, purpose: Purpose) -> TwinRecord:
        return TwinRecord(self._disk, record_name(lane, purpose))

    def _unwrapped(self, lane: Lane, purpose: Purpose, read: Callable[[], bytes | None]) -> bytes:
        try:
            sealed = read()
            if sealed is None:
                raise KeyLost(f"{record_name(lane, purpose)} was never made")
            return self._keys.unseal(_label(lane, purpose), sealed)
        except (TwinLost, UnsealError) as error:
            raise KeyLost(str(error)) from error

    def _make(self, lane: Lane, purpose: Purpose) -> None:
        self._known.pop((lane, purpose), None)
        key = self._entropy(KEY_BYTES)
        sealed = self._keys.seal(_label(lane, purpose), key)
        record = self._record(lane, purpose)
        try:
            record.write_both(sealed)
        except TwinLost:
            record.start_anew(sealed)
        self._known[lane, purpose] = key


def _label(lane: Lane, purpose: Purpose) -> str:
    return f"spool/{record_name(lane, purpose)}"


def _derived(key: bytes, spool_id: bytes, salt: bytes) -> AESGCM:
    info = b"outrider spool segment v1" + spool_id
    return AESGCM(HKDF(hashes.SHA256(), length=KEY_BYTES, salt=salt, info=info).derive(key))
