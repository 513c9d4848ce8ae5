"""Signing keys in a folder: NAME.pem is one (Ed25519, readable by its owner alone); NAME.uri says where one is that
lies in hardware or in a cloud (ota/repository/remote.py).

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
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from securesystemslib.signer import CryptoSigner, Key, SecretsHandler, Signer, SSlibKey

from ecu.disk import RealDisk, move_in, replace_file, write_beside
from ecu.errors import shown
from ota.errors import RepositoryFault
from ota.kinds import Kind
from ota.repository import remote
from ota.repository.remote import RemoteSigner

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

    def __init__(self, folder: Path, secrets: SecretsHandler | None = None) -> None:
        """`secrets` is asked for a PIN by its name, for keys that want one."""
        self._folder = folder
        self._disk = RealDisk(folder)
        self._secrets = secrets or _nobody_to_ask

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
        return all(self._disk.exists(_file_of(name)) or self._disk.exists(_uri_of(name)) for name in names)

    def key_id(self, name: str) -> str:
        """What metadata calls it: SHA-256 of the public key, as TUF writes it."""
        return self.signer(name).public_key.keyid

    def signer(self, name: str) -> Signer:
        """Raises RepositoryFault when the key isn't there, can't be read, or others can read it."""
        _demand_name(name)
        path = self._folder / _file_of(name)
        if self._disk.exists(_uri_of(name)):
            return self._remote(name)
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

    def public(self, name: str) -> Key:
        """The public half. Of a key elsewhere it isn't asked for there."""
        return self.signer(name).public_key

    def write_public(self, name: str) -> None:
        """NAME.pub, in PEM: what others need who are to let this key sign."""
        key = self.public(name)
        assert isinstance(key, SSlibKey)
        public = key.keyval["public"]
        if key.keytype == "ed25519":
            raw = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public))
            pem = raw.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        else:
            pem = public.encode()
        replace_file(self._disk, f"{name}.pub", pem)

    def refer(self, name: str, uri: str) -> bool:
        """Makes NAME.uri for a key that is elsewhere; whether it is new. Raises RepositoryFault for a name that has
        another key already."""
        _demand_name(name)
        self._disk.make_folder("")
        if self._disk.exists(_uri_of(name)) and remote.decode(self._disk.read(_uri_of(name)))[0] == uri:
            return False
        if self.holds([name]):
            raise RepositoryFault(f"There is another key {name} in {shown(self._folder)}. Choose another name for it.")
        key = remote.read_key(uri, self._secrets)
        replace_file(self._disk, _uri_of(name), remote.encode(uri, key))
        return True

    def _remote(self, name: str) -> Signer:
        path = self._folder / _uri_of(name)
        if self._disk.exists(_file_of(name)):
            raise RepositoryFault(f"There are {shown(path)} and {_file_of(name)} of that name. Move one of them away.")
        try:
            uri, key = remote.decode(self._disk.read(_uri_of(name)))
        except (ValueError, KeyError) as error:
            raise RepositoryFault(
                f"{shown(path)} names no key: {shown(error)}. Make it anew: outrider ota keygen {name} --uri URI."
            ) from error
        return RemoteSigner(uri, key, self._secrets)

    def _make(self, name: str) -> bool:
        # Never over a key that is there: what it signed would be nobody's.
        if self.holds([name]):
            return False
        key = Ed25519PrivateKey.generate()
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        write_beside(self._disk, _file_of(name), pem)
        move_in(self._disk, _file_of(name))
        return True


def read_public(path: Path) -> Key:
    """Of a NAME.pub or NAME.uri that somebody sent. Raises RepositoryFault."""
    try:
        data = path.read_bytes()
        return remote.decode(data)[1] if path.suffix == ".uri" else remote.public_key(data)
    except OSError as error:
        raise RepositoryFault(f"The public key {shown(path)} can't be read: {error.strerror}.") from error
    except (ValueError, KeyError) as error:
        raise RepositoryFault(
            f"{shown(path)} holds no public key: {shown(error)}. Its owner makes it: outrider ota keygen NAME --public."
        ) from error


def _nobody_to_ask(what: str) -> str:
    raise RepositoryFault(f"A key needs its {what}, and nobody can be asked for it here. Give --pin-file.")


def _uri_of(name: str) -> str:
    return f"{name}.uri"


def _file_of(name: str) -> str:
    return f"{name}.pem"


def _demand_name(name: str) -> None:
    if not _KEY_NAME.fullmatch(name):
        raise RepositoryFault(f"{shown(name)} can't be a key's name: up to 48 small letters, digits and dashes.")
