"""Signing keys in a folder: Ed25519, one PEM file a key, readable by its owner alone.

image-root-1..3, image-targets, image-snapshot, image-timestamp      the image repository
model, evaluation, config, campaign, plan, runtime, system           its delegations, one a kind
director-root-1..3, director-targets, director-snapshot, director-timestamp
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner, Signer

from ecu.errors import shown
from ota.errors import RepositoryFault
from ota.kinds import Kind

ROOT_KEYS: Final = 3
ROOT_THRESHOLD: Final = 2
_ONLINE: Final = ("targets", "snapshot", "timestamp")
_KEY_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,47}", re.ASCII)


def key_names(repository: str) -> tuple[str, ...]:
    """The keys of "image" or "director", without those of the kinds."""
    roots = tuple(f"{repository}-root-{number}" for number in range(1, ROOT_KEYS + 1))
    return roots + tuple(f"{repository}-{role}" for role in _ONLINE)


ALL_KEYS: Final = (*key_names("image"), *(kind.value for kind in Kind), *key_names("director"))


class KeyFolder:
    """Private keys by name. A folder may hold any part of them: roots belong into another safe than the director's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def generate(self, names: Iterable[str] = ALL_KEYS) -> list[str]:
        """Makes those keys that aren't there yet; the names of those made."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return [name for name in names if self._make(name)]

    def signer(self, name: str) -> Signer:
        """Raises RepositoryFault when the key isn't there, can't be read, or others can read it."""
        path = self._path(name)
        try:
            exposed = stat.S_IMODE(path.stat().st_mode) & 0o077
            key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except FileNotFoundError as error:
            raise RepositoryFault(
                f"There is no key {shown(name)} in {shown(self._folder)}. Make it: outrider ota keygen, or give the "
                "folder that holds it with --keys."
            ) from error
        except (OSError, ValueError) as error:
            raise RepositoryFault(f"The key file {shown(path)} can't be used: {error}. Restore it.") from error
        if exposed:
            raise RepositoryFault(f"Others can read the key {shown(path)}. Run: chmod 600 {shown(path)}")
        if not isinstance(key, Ed25519PrivateKey):
            raise RepositoryFault(f"The key {shown(path)} isn't Ed25519. Make one: outrider ota keygen.")
        return CryptoSigner(key)

    def signers(self, names: Sequence[str]) -> list[Signer]:
        return [self.signer(name) for name in names]

    def _make(self, name: str) -> bool:
        key = Ed25519PrivateKey.generate()
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        try:
            # Never over a key that is there: what it signed would be nobody's.
            fd = os.open(self._path(name), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            return False
        with open(fd, "wb") as file:
            file.write(pem)
        return True

    def _path(self, name: str) -> Path:
        if not _KEY_NAME.fullmatch(name):
            raise RepositoryFault(f"{shown(name)} can't be a key's name: small letters, digits and dashes.")
        return self._folder / f"{name}.pem"
