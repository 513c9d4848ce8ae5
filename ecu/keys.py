"""The KeyStore port: what this computer can prove and hide, without its private keys ever being handed out."""

from __future__ import annotations

import ssl
from typing import Protocol

from ecu.errors import EnvironmentFault


class KeyError_(EnvironmentFault):
    """placeholder"""


class KeyStore(Protocol):
    """Identity (ECDSA P-256, for TLS and signatures) and the storage root (random, never derived from identity)."""

    def new_identity(self) -> None: ...
    def csr(self, common_name: str) -> bytes: ...
    def sign(self, message: bytes) -> bytes: ...
    def seal(self, label: str, plain: bytes) -> bytes: ...
    def unseal(self, label: str, sealed: bytes) -> bytes: ...
    def load_identity(self, context: ssl.SSLContext) -> None: ...
