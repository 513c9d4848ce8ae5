"""Signing keys in a folder: Ed25519, one PEM file a key, readable by its owner alone.

image-root-1..3, image-targets, image-snapshot, image-timestamp      the image repository
model, evaluation, config, campaign, plan, runtime, system           its delegations, one a kind
director-root-1..3, director-targets, director-snapshot, director-timestamp

A kind that several people sign has keys by their names: see `Owners`.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner, Signer

from ecu.disk import RealDisk, move_in, write_beside
from ecu.errors import shown
from ota.errors import RepositoryFault
from ota.kinds import Kind

ROOT_KEYS: Final = 3
ROOT_THRESHOLD: Final = 2
_ONLINE: Final = ("targets", "snapshot", "timestamp")
_KEY_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,47}", re.ASCII)


def key_names(repository: str) -> tuple[str, ...]:
    """The keys of "image" or "director", without those of the kinds."""
    return root_keys(repository) + online_keys(repository)


def root_keys(repository: str) -> tuple[str, ...]:
    return tuple(f"{repository}-root-{number}" for number in range(1, ROOT_KEYS + 1))


def online_keys(repository: str) -> tuple[str, ...]:
    """Those that sign something at every publication."""
    return tuple(f"{repository}-{role}" for role in _ONLINE)


ALL_KEYS: Final = (*key_names("image"), *(kind.value for kind in Kind), *key_names("director"))


@dataclass(frozen=True, slots=True)
class Owners:
    """Who signs a kind: the names of their keys, and how many of them have to."""

    threshold: int
    keys: tuple[str, ...]


def fixed_owners(repository: str) -> dict[str, Owners]:
    """Of every role but the kinds."""
    online = {role: Owners(1, (f"{repository}-{role}",)) for role in _ONLINE}
    return {"root": Owners(ROOT_THRESHOLD, root_keys(repository)), **online}


def demand_distinct(owners: Mapping[str, Owners], keys: KeyFolder) -> None:
    """By role: each has enough keys, and no key is for two things: it could sign what isn't its owner's."""
    taken: dict[str, str] = {}
    for role, its in owners.items():
        if not 1 <= its.threshold <= len(its.keys):
            raise RepositoryFault(
                f"{role} wants {its.threshold} signatures by {len(its.keys)} keys. Give it at least one, and as many "
                "keys as signatures."
            )
        for name in its.keys:
            key_id = keys.key_id(name)
            if key_id in taken:
                raise RepositoryFault(
                    f"The key {name} of {role} is {taken[key_id]}'s already. A key signs one thing only: make another "
                    "one with outrider ota keygen."
                )
            taken[key_id] = role


class KeyFolder:
    """Private keys by name. A folder may hold any part of them: roots belong into another safe than the director's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._disk = RealDisk(folder)

    def generate(self, names: Iterable[str] = ALL_KEYS) -> list[str]:
        """Makes those keys that aren't there yet; the names of those made. Raises RepositoryFault, DiskError."""
        for name in (wanted := list(dict.fromkeys(names))):
            _demand_name(name)
        try:
            self._disk.make_folder("")
        except FileExistsError as error:
            raise RepositoryFault(f"{shown(self._folder)} isn't a folder. Give another one with --keys.") from error
        return [name for name in wanted if self._make(name)]

    def holds(self, names: Iterable[str]) -> bool:
        return all(self._disk.exists(_file_of(name)) for name in names)

    def key_id(self, name: str) -> str:
        """What metadata calls it: SHA-256 of the public key, as TUF writes it."""
        return self.signer(name).public_key.keyid

    def signer(self, name: str) -> Signer:
        """Raises RepositoryFault when the key isn't there, can't be read, or others can read it."""
        _demand_name(name)
        path = self._folder / _file_of(name)
        try:
            exposed = stat.S_IMODE(path.stat().st_mode) & 0o077
            key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except FileNotFoundError as error:
            raise RepositoryFault(
                f"There is no key {shown(name)} in {shown(self._folder)}. Make it: outrider ota keygen, or give the "
                "folder that holds it with --keys."
            ) from error
        except OSError as error:
            raise RepositoryFault(f"The key file {shown(path)} can't be read: {error.strerror}.") from error
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise RepositoryFault(
                f"The key file {shown(path)} holds no Ed25519 key in PEM without a password: it is damaged, or of "
                "another kind. Restore it from a copy."
            ) from error
        if exposed:
            raise RepositoryFault(f"Others can read the key {shown(path)}. Run: chmod 600 {shown(path)}")
        if not isinstance(key, Ed25519PrivateKey):
            raise RepositoryFault(f"The key {shown(path)} isn't Ed25519. Make one: outrider ota keygen.")
        return CryptoSigner(key)

    def signers(self, names: Sequence[str]) -> list[Signer]:
        return [self.signer(name) for name in names]

    def _make(self, name: str) -> bool:
        # Never over a key that is there: what it signed would be nobody's.
        if self._disk.exists(_file_of(name)):
            return False
        key = Ed25519PrivateKey.generate()
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        write_beside(self._disk, _file_of(name), pem)
        move_in(self._disk, _file_of(name))
        return True


def _file_of(name: str) -> str:
    return f"{name}.pem"


def _demand_name(name: str) -> None:
    if not _KEY_NAME.fullmatch(name):
        raise RepositoryFault(f"{shown(name)} can't be a key's name: up to 48 small letters, digits and dashes.")
