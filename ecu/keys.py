"""The KeyStore port: what this computer can prove and hide, without its private keys ever being handed out.

KeyStoreError
├── NoIdentity          nothing to prove with: pair this vehicle
├── WrongCertificate    the certificate isn't for the key it came with: ask for another
├── RenewalUnfinished   the last identity hasn't proved itself yet: retire the one before, or revert to it
├── KeysExposed         others can read the key files: the message has the chmod
├── KeysLost            the key files are damaged beyond their copies: pair again; what was sealed is lost
└── UnsealError         sealed by another store, under another label, or altered: never retry these bytes
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import ssl
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.x509.oid import NameOID

from ecu.disk import Disk, DiskFault, RealDisk
from ecu.errors import EnvironmentFault
from ecu.twin import TwinLost, TwinRecord

T = TypeVar("T")

ROOT_BYTES = 32
_NONCE_BYTES = 12
_SEALED_VERSION = b"\x01"
_CREDENTIAL_CAPACITY = 32 * 1024  # a key and a certificate with its chain


class KeyStoreError(EnvironmentFault):
    """The key store couldn't do it; the subclass says what its caller decides."""


class NoIdentity(KeyStoreError):
    """This vehicle has no identity yet, or none to go back to."""


class WrongCertificate(KeyStoreError):
    """The certificate doesn't belong to the key it was offered for."""


class RenewalUnfinished(KeyStoreError):
    """A new identity can't begin while the one before the current is still kept."""


class KeysExposed(KeyStoreError):
    """Somebody else on this computer can read or replace the keys."""


class KeysTaken(KeyStoreError):
    """Another process uses these keys; two would overwrite each other's."""


class KeysLost(KeyStoreError):
    """The key files are damaged beyond their copies."""


class UnsealError(KeyStoreError):
    """These bytes weren't sealed by this store under this label, or were altered since."""


@dataclass(frozen=True, slots=True, repr=False)
class PendingIdentity:
    """A new key that isn't used yet. It becomes the identity when its certificate is installed."""

    _key: ec.EllipticCurvePrivateKey

    def csr(self, common_name: str) -> bytes:
        """A PKCS #10 request (RFC 2986), PEM, signed with the new key."""
        return _csr(self._key, common_name)


class KeyStore(Protocol):
    """Identity (ECDSA P-256, for TLS and signatures) and the storage root (random, never derived from the identity).

    Renewal: `begin_identity`, have its request certified, `install`, connect with it, then `retire_previous` or
    `revert`. The storage root stays the same all along. Disk trouble raises DiskError.
    """

    def certificate(self) -> bytes | None:
        """The identity's certificate and chain, PEM; None before the first `install`."""
        ...

    def previous_certificate(self) -> bytes | None:
        """Of the identity before, PEM, as long as a renewal is unsettled."""
        ...

    def csr(self, common_name: str) -> bytes:
        """A PKCS #10 request, PEM, for the key already in use. Raises NoIdentity."""
        ...

    def sign(self, message: bytes) -> bytes:
        """ECDSA with SHA-256 by the identity, DER (RFC 3279 section 2.2.3). Raises NoIdentity."""
        ...

    def load_identity(self, context: ssl.SSLContext) -> None:
        """Makes `context` prove this identity to its peers. Raises NoIdentity."""
        ...

    def lend_identity(self, use: Callable[[bytes, bytes], T]) -> T:
        """Calls `use` with the key and the certificate, PEM, for a library that makes its own TLS: it may keep them for
        the connections of this identity, and asks anew for each. Raises NoIdentity."""
        ...

    def seal(self, label: str, plain: bytes) -> bytes:
        """AES-256-GCM under a key derived for `label` from the storage root (HKDF-SHA256, RFC 5869)."""
        ...

    def unseal(self, label: str, sealed: bytes) -> bytes:
        """Raises UnsealError."""
        ...

    def begin_identity(self) -> PendingIdentity:
        """A new key; until it is installed, the same one again, also after a restart. Raises RenewalUnfinished."""
        ...

    def install(self, pending: PendingIdentity, certificate_pem: bytes) -> None:
        """From here on this is the identity; the one before is kept. Raises WrongCertificate.

        Once more with the same identity only takes the newer certificate.
        """
        ...

    def retire_previous(self) -> None:
        """Destroys the identity before the current one. Call it once the current one has connected."""
        ...

    def revert(self) -> None:
        """Back to the identity before, and destroys the current one. Raises NoIdentity when there is none."""
        ...


@dataclass(frozen=True, slots=True, repr=False)
class _Credential:
    key: ec.EllipticCurvePrivateKey
    certificate: bytes = b""

    def key_pem(self) -> bytes:
        encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        return self.key.private_bytes(encoding, form, serialization.NoEncryption())

    def pem(self) -> bytes:
        return self.key_pem() + self.certificate

    def is_for(self, key: ec.EllipticCurvePrivateKey) -> bool:
        return self.key.public_key() == key.public_key()


@dataclass(frozen=True, slots=True, repr=False)
class _Identities:
    """The life of identities as values: pending -> active -> previous -> gone."""

    active: _Credential | None = None
    previous: _Credential | None = None
    pending: _Credential | None = None

    def begun(self) -> _Identities:
        if self.previous is not None:
            raise RenewalUnfinished(
                "The identity renewed last hasn't connected yet, and the one before it is still kept. Wait until it "
                "connects, or revert to the one before."
            )
        return self if self.pending else replace(self, pending=_Credential(ec.generate_private_key(ec.SECP256R1())))

    def installed(self, key: ec.EllipticCurvePrivateKey, certificate_pem: bytes) -> _Identities:
        certified = _certified(key, certificate_pem)
        if self.active and self.active.is_for(key):
            return replace(self, active=certified)
        if self.pending and self.pending.is_for(key):
            return _Identities(active=certified, previous=self.active)
        raise ValueError("this identity isn't the one begun last")

    def reverted(self) -> _Identities:
        if self.previous is None:
            raise NoIdentity("There is no identity before this one to go back to. Pair the vehicle again.")
        return _Identities(active=self.previous)


def _certified(key: ec.EllipticCurvePrivateKey, certificate_pem: bytes) -> _Credential:
    try:
        leaf = x509.load_pem_x509_certificates(certificate_pem)[0]
    except ValueError as error:
        raise WrongCertificate(f"The certificate can't be read: {error}. Begin the pairing anew.") from error
    if leaf.public_key() != key.public_key():
        raise WrongCertificate(
            f"The certificate for {leaf.subject.rfc4514_string()} is for another key than the one requested. "
            "Begin the pairing or the renewal anew."
        )
    return _Credential(key, certificate_pem)


def _csr(key: ec.EllipticCurvePrivateKey, common_name: str) -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM)


def _label_cipher(root: bytes, label: str) -> AESGCM:
    info = b"outrider seal v1\0" + label.encode()
    return AESGCM(HKDF(hashes.SHA256(), length=ROOT_BYTES, salt=None, info=info).derive(root))


class _Store(ABC):
    """What both stores have in common: everything but where the secrets lie."""

    _identities: _Identities

    def __init__(self) -> None:
        # A renewal runs in a thread: what it installs and what a connect retires must not overwrite each other.
        self._changing = threading.Lock()

    @abstractmethod
    def _save(self, identities: _Identities) -> None:
        """Makes them durable; `_identities` says so only then."""

    @abstractmethod
    def _root(self, make: bool) -> bytes | None:
        """The storage root; where there never was one, `make` it or None."""

    def certificate(self) -> bytes | None:
        return self._identities.active.certificate if self._identities.active else None

    def previous_certificate(self) -> bytes | None:
        return self._identities.previous.certificate if self._identities.previous else None

    def csr(self, common_name: str) -> bytes:
        return _csr(self._active().key, common_name)

    def sign(self, message: bytes) -> bytes:
        return self._active().key.sign(message, ec.ECDSA(hashes.SHA256()))

    def load_identity(self, context: ssl.SSLContext) -> None:
        pem = self._active().pem()
        # OpenSSL takes only a path; a file in memory leaves no second copy of the key on the flash.
        with os.fdopen(os.memfd_create("identity"), "wb") as file:
            file.write(pem)
            file.flush()
            context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")

    def lend_identity(self, use: Callable[[bytes, bytes], T]) -> T:
        active = self._active()
        return use(active.key_pem(), active.certificate)

    def seal(self, label: str, plain: bytes) -> bytes:
        root = self._root(make=True)
        assert root is not None
        nonce = os.urandom(_NONCE_BYTES)
        return _SEALED_VERSION + nonce + _label_cipher(root, label).encrypt(nonce, plain, label.encode())

    def unseal(self, label: str, sealed: bytes) -> bytes:
        root, nonce = self._root(make=False), sealed[1 : 1 + _NONCE_BYTES]
        if root is not None and sealed[:1] == _SEALED_VERSION and len(nonce) == _NONCE_BYTES:
            with contextlib.suppress(InvalidTag):
                return _label_cipher(root, label).decrypt(nonce, sealed[1 + _NONCE_BYTES :], label.encode())
        raise UnsealError(
            f"What was sealed as {label!r} can't be opened: it was altered, or sealed with keys that this computer "
            "doesn't have. Bring those keys back, or delete it."
        )

    def begin_identity(self) -> PendingIdentity:
        self._become(_Identities.begun)
        assert self._identities.pending is not None
        return PendingIdentity(self._identities.pending.key)

    def install(self, pending: PendingIdentity, certificate_pem: bytes) -> None:
        self._become(lambda identities: identities.installed(pending._key, certificate_pem))

    def retire_previous(self) -> None:
        self._become(lambda identities: replace(identities, previous=None))

    def revert(self) -> None:
        self._become(_Identities.reverted)

    def _become(self, change: Callable[[_Identities], _Identities]) -> None:
        with self._changing:
            identities = change(self._identities)
            if identities != self._identities:
                self._save(identities)

    def _active(self) -> _Credential:
        if self._identities.active is None:
            raise NoIdentity("This vehicle has no identity yet. Pair it first: outrider pair FILE.")
        return self._identities.active


class MemoryKeyStore(_Store):
    """A KeyStore that forgets all at exit: tests, and replays that leave nothing behind."""

    def __init__(self) -> None:
        super().__init__()
        self._identities = _Identities()
        self._secret = os.urandom(ROOT_BYTES)

    def _save(self, identities: _Identities) -> None:
        self._identities = identities

    def _root(self, make: bool) -> bytes | None:
        return self._secret


class _Parts(msgspec.Struct, frozen=True):
    """Which credential file, "a" or "b", plays which part. One without a part holds nothing."""

    active: str | None = None
    previous: str | None = None
    pending: str | None = None


class FileKeyStore(_Store):
    """Keys in twin records on a disk: crash-safe, and one flipped bit loses none. One process at a time.

    Records: `root` the storage root, `identity-a` and `identity-b` a key with its certificate each (PEM), `parts` which
    is which. On a real folder use `open`, which also looks at the permissions.
    """

    def __init__(self, disk: Disk) -> None:
        super().__init__()
        self._root_record = TwinRecord(disk, "root")
        self._parts_record = TwinRecord(disk, "parts")
        self._records = {slot: TwinRecord(disk, f"identity-{slot}", _CREDENTIAL_CAPACITY) for slot in ("a", "b")}
        self._slots: dict[str, _Credential] = {}
        self._identities = self._load()
        # A worn slot that nobody uses is no reason to refuse the keys in use.
        with contextlib.suppress(DiskFault):
            self._erase_unused()

    @classmethod
    def open(cls, folder: Path) -> FileKeyStore:
        """Makes the folder where it is missing, and keeps other processes out as long as the store lives.

        Raises KeysExposed, KeysTaken, KeysLost or DiskError.
        """
        disk = RealDisk(folder)
        disk.make_folder("")
        refuse_exposed(folder)
        lock = _locked(folder)
        try:
            store = cls(disk)
        except EnvironmentFault:
            os.close(lock)
            raise
        weakref.finalize(store, os.close, lock)
        return store

    def _root(self, make: bool) -> bytes | None:
        root = _read(self._root_record, "What this computer had sealed is lost; delete those two files to go on.")
        if root is None and make:
            root = os.urandom(ROOT_BYTES)
            self._root_record.write_both(root)
        return root

    def _load(self) -> _Identities:
        encoded = _read(self._parts_record, _PAIR_AGAIN)
        parts = msgspec.json.decode(encoded, type=_Parts) if encoded else _Parts()
        for slot in filter(None, (parts.active, parts.previous, parts.pending)):
            self._slots[slot] = _parsed(_read(self._records[slot], _PAIR_AGAIN) or b"")
        active, previous, pending = (self._slots.get(slot or "") for slot in msgspec.structs.astuple(parts))
        return _Identities(active, previous, pending)

    def _save(self, identities: _Identities) -> None:
        credentials = (identities.active, identities.previous, identities.pending)
        slots = {self._slot_for(credential): credential for credential in credentials if credential}
        for slot, credential in slots.items():
            if self._slots.get(slot) != credential:
                self._records[slot].write_both(credential.pem())
        slot_of = {credential: slot for slot, credential in slots.items()}
        parts = _Parts(*(slot_of[credential] if credential else None for credential in credentials))
        self._parts_record.write_both(msgspec.json.encode(parts))
        self._identities, self._slots = identities, slots
        self._erase_unused()

    def _slot_for(self, credential: _Credential) -> str:
        held = (slot for slot, other in self._slots.items() if other.is_for(credential.key))
        return next(held, None) or min(self._records.keys() - self._slots.keys())

    def _erase_unused(self) -> None:
        # Parts are written before, so a cut in between leaves a key without a part: the next start erases it.
        for slot in sorted(self._records.keys() - self._slots.keys()):
            self._records[slot].wipe()


_PAIR_AGAIN = (
    "Delete parts.* and identity-* beside them and pair this vehicle again; what it has sealed stays readable."
)


def _read(record: TwinRecord, advice: str) -> bytes | None:
    try:
        return record.read_both()
    except TwinLost as error:
        raise KeysLost(f"{error} {advice}") from error


def _parsed(pem: bytes) -> _Credential:
    key = serialization.load_pem_private_key(pem, password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    start = pem.find(b"-----BEGIN CERTIFICATE-----")
    return _Credential(key, pem[start:] if start >= 0 else b"")


def _locked(folder: Path) -> int:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(fd)
        raise KeysTaken(
            f"Another process uses the keys in {folder}. Stop it first (the agent, or a pairing)."
        ) from error
    return fd


def refuse_exposed(folder: Path) -> None:
    """Raises KeysExposed when anybody but the owner can read a key file, or put another in its place."""
    for path in [folder, *sorted(folder.iterdir())]:
        mode = path.stat().st_mode & 0o777
        if mode & (0o022 if path == folder else 0o077):
            raise KeysExposed(
                f"Others on this computer can get at the keys: {path} has mode {mode:04o}. If nobody has copied them, "
                f"run: chmod -R go= {folder}. If somebody may have, delete the folder and pair this vehicle again."
            )
