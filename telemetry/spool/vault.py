"""The keys of data at rest: one random key per lane and purpose, wrapped by the key store, all in one twin record.

A segment's or object's cipher is AES-256-GCM under HKDF-SHA256 (RFC 5869) of that key with its own salt. Writing both
twins without a wrapped key makes everything under it unreadable at once, in all lanes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ecu.disk import Disk
from ecu.keys import UnsealError
from ecu.twin import TwinLost, TwinRecord
from telemetry.records import Lane, Purpose, TelemetryError
from telemetry.spool.ciphers import Aead, MakeAead, aes_gcm

NAME: Final = "keys"
KEY_BYTES: Final = 32
_CAPACITY: Final = 8192

Use = tuple[Lane, Purpose]


class KeyLost(TelemetryError):
    """The key of a lane and purpose can't be had: never made, erased, damaged, or sealed by another key store."""


class Sealer(Protocol):
    """What of a KeyStore the spool needs: `ecu.keys`."""

    def seal(self, label: str, plain: bytes) -> bytes: ...

    def unseal(self, label: str, sealed: bytes) -> bytes:
        """Raises UnsealError."""
        ...


class _Wrapped(msgspec.Struct, frozen=True, array_like=True):
    lane: int
    purpose: int
    sealed: bytes


_decoder = msgspec.msgpack.Decoder(list[_Wrapped])


@dataclass(frozen=True, slots=True)
class Realm:
    """What a vault's keys are for: no key of one is ever a key of another. `label` is what they are sealed under."""

    label: str
    info: bytes


SEGMENTS: Final = Realm("spool", b"outrider spool segment v1")


class Vault:
    """Keys by lane and purpose, made when first written with. `open` it to write, `peek` to look."""

    def __init__(
        self,
        disk: Disk,
        keys: Sealer,
        entropy: Callable[[int], bytes],
        realm: Realm = SEGMENTS,
        aead: MakeAead = aes_gcm,
    ) -> None:
        self._aead = aead
        self._keys = keys
        self._entropy = entropy
        self._realm = realm
        self._record = TwinRecord(disk, NAME, _CAPACITY)
        self._wrapped: dict[Use, bytes] = {}
        self._plain: dict[Use, bytes] = {}

    def open(self) -> None:
        """Reads the keys, so that neither a power cut nor a flipped bit takes them, and sees that a later one needs no
        space."""
        try:
            data = self._record.read_both()
        except TwinLost:
            self._record.start_anew(_encode({}))
            return
        if data is None:
            self._record.write_both(_encode({}))
        else:
            self._wrapped = _decode(data)

    def peek(self) -> None:
        """Reads the keys, touching nothing."""
        try:
            self._wrapped = _decode(self._record.peek() or _encode({}))
        except TwinLost:
            self._wrapped = {}

    def cipher(self, lane: Lane, purpose: Purpose, whose: bytes, salt: bytes) -> Aead:
        """For one segment or object: `whose` says which spool or which content. Raises KeyLost."""
        info = self._realm.info + whose
        key = self._key((lane, purpose))
        return self._aead(HKDF(hashes.SHA256(), length=KEY_BYTES, salt=salt, info=info).derive(key))

    @property
    def purposes(self) -> frozenset[Purpose]:
        """Those that there is a key of: of all others nothing on this disk can be read."""
        return frozenset(purpose for _, purpose in self._wrapped)

    def make_sure(self, lane: Lane, purpose: Purpose) -> None:
        """There is a key, durable in both twins: before anything is written under it. Raises DiskError."""
        try:
            self._key((lane, purpose))
        except KeyLost:
            self._make((lane, purpose))

    def shred(self, purpose: Purpose) -> None:
        """What was written for this purpose can't be read by anybody any more."""
        self._put({use: sealed for use, sealed in self._wrapped.items() if use[1] is not purpose})

    def _key(self, use: Use) -> bytes:
        if use not in self._plain:
            if use not in self._wrapped:
                raise KeyLost(f"{self._label(use)} isn't there")
            try:
                self._plain[use] = self._keys.unseal(self._label(use), self._wrapped[use])
            except UnsealError as error:
                raise KeyLost(str(error)) from error
        return self._plain[use]

    def _make(self, use: Use) -> None:
        key = self._entropy(KEY_BYTES)
        self._put({**self._wrapped, use: self._keys.seal(self._label(use), key)})
        self._plain[use] = key

    def _put(self, wrapped: dict[Use, bytes]) -> None:
        self._record.write_both(_encode(wrapped))
        self._wrapped = wrapped
        self._plain = {use: key for use, key in self._plain.items() if use in wrapped}

    def _label(self, use: Use) -> str:
        lane, purpose = use
        return f"{self._realm.label}/{lane.name.lower()}/{int(purpose)}"


def digest_of_keys(disk: Disk) -> str:
    """SHA-256 of both twins of a folder's keys, hex; empty where there are none. Raises DiskError."""
    twins = [name for name in (f"{NAME}.0", f"{NAME}.1") if disk.exists(name)]
    return hashlib.sha256(b"".join(map(disk.read, twins))).hexdigest() if twins else ""


def _encode(wrapped: dict[Use, bytes]) -> bytes:
    return msgspec.msgpack.encode([_Wrapped(int(lane), int(p), sealed) for (lane, p), sealed in wrapped.items()])


def _decode(data: bytes) -> dict[Use, bytes]:
    return {(Lane(key.lane), Purpose(key.purpose)): key.sealed for key in _decoder.decode(data)}
