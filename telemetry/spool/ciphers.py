"""The cipher of data at rest as a port, and one that sees to it that no key meets a nonce with two plaintexts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Protocol

from cryptography.hazmat.primitives.ciphers.aead import AESGCM


class Aead(Protocol):
    """Authenticated encryption under one key; `decrypt` raises InvalidTag."""

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes: ...

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes: ...


MakeAead = Callable[[bytes], Aead]


def aes_gcm(key: bytes) -> Aead:
    """AES-GCM (NIST SP 800-38D)."""
    return AESGCM(key)


class NonceReused(AssertionError):
    """A key and nonce met a second plaintext: whoever has both ciphertexts can forge, and read one by the other."""


class NonceWitness:
    """Makes AES-GCM ciphers and remembers all that any of them ever encrypted; a MakeAead."""

    def __init__(self) -> None:
        self.seen: dict[tuple[bytes, bytes], bytes] = {}

    def __call__(self, key: bytes) -> Aead:
        return _Witnessed(key, self.seen)


class _Witnessed:
    def __init__(self, key: bytes, seen: dict[tuple[bytes, bytes], bytes]) -> None:
        self._key = key
        self._seen = seen
        self._cipher = AESGCM(key)

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        what = hashlib.sha256(len(data).to_bytes(8, "little") + data + (associated_data or b"")).digest()
        if self._seen.setdefault((self._key, nonce), what) != what:
            raise NonceReused(f"nonce {nonce.hex()} met a second plaintext under one key")
        return self._cipher.encrypt(nonce, data, associated_data)

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        return self._cipher.decrypt(nonce, data, associated_data)
