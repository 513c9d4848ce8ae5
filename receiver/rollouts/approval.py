"""People who approve: a signature by a key of their own, over all that they approve of.

Whoever can open the operator's socket can stop a rollout; to let one begin, or go on without evidence, takes two keys.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ecu.disk import RealDisk, replace_file
from ecu.errors import OutriderError, UsageFault

PEOPLE: Final = 2
_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,47}", re.ASCII)


class RolloutRefused(OutriderError):
    """The operator asked for what can't be done now. The message says why."""


class Statement(msgspec.Struct, frozen=True):
    """What is signed. `act` is "approve", "resume" or "go-on"; `changes` counts those of the rollout's state until now,
    so that no signature is good for a second time; `rules` is their text's SHA-256."""

    rollout: str
    act: str
    step: int
    changes: int
    target: str
    digest: str
    rules: str
    format: str = "outrider-rollout-1"

    @property
    def message(self) -> bytes:
        return msgspec.json.encode(self)


def digest_of(rules: str) -> str:
    return hashlib.sha256(rules.encode()).hexdigest()


def checked_operator(name: str) -> str:
    """Raises UsageFault for what can't be one's name."""
    if not _NAME.fullmatch(name):
        raise UsageFault(f"{name!r} can't be an operator's name: up to 48 small letters, digits and dashes.")
    return name


class Operators:
    """The people of a receiver: a folder with the public key of each, `<name>.pub`. None: nobody can approve."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def demand_signed(self, name: str, statement: Statement, signature: bytes) -> None:
        """Raises RolloutRefused, or UsageFault where there is no such person."""
        try:
            self._key(checked_operator(name)).verify(signature, statement.message)
        except InvalidSignature as error:
            raise RolloutRefused(
                f"That isn't signed by {name}'s key over {statement.rollout} as it stands. Look at its status, and "
                "sign again."
            ) from error

    def keys(self, names: Iterable[str]) -> dict[str, bytes]:
        """Of those who are operators still: two people are two keys."""
        found = dict[str, bytes]()
        for name in names:
            with contextlib.suppress(UsageFault):
                found[name] = self._key(name).public_bytes_raw()
        return found

    def _key(self, name: str) -> Ed25519PublicKey:
        if self._folder is None:
            raise UsageFault("This receiver knows no operators. Name their folder: [receiver] operators.")
        path = self._folder / f"{name}.pub"
        try:
            key = serialization.load_pem_public_key(path.read_bytes())
        except OSError as error:
            raise UsageFault(
                f"There is no {path} ({error.strerror}). Make it: outrider receiver rollout keygen {name}"
            ) from error
        except (ValueError, UnsupportedAlgorithm) as error:
            raise UsageFault(f"{path} holds no public key. Restore it.") from error
        if not isinstance(key, Ed25519PublicKey):
            raise UsageFault(f"{path} holds another key than Ed25519. Make one: outrider receiver rollout keygen.")
        return key


def make_key(name: str, folder: Path) -> tuple[Path, Path]:
    """A person's new private and public key files. Raises UsageFault where there is one, DiskError."""
    disk = RealDisk(folder.absolute())
    disk.make_folder("")
    private, public = f"{checked_operator(name)}.pem", f"{name}.pub"
    if disk.exists(private) or disk.exists(public):
        raise UsageFault(f"{folder} has a key of {name} already. Choose another folder or name.")
    key = Ed25519PrivateKey.generate()
    encoding, no_password = serialization.Encoding.PEM, serialization.NoEncryption()
    replace_file(disk, private, key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, no_password))
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    replace_file(disk, public, key.public_key().public_bytes(encoding, form))
    return folder / private, folder / public


def sign(key_file: Path, statement: Statement) -> bytes:
    """Raises UsageFault for a file that holds no such key, or that others can read."""
    try:
        exposed = key_file.stat().st_mode & 0o077
        key = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UsageFault(f"The key file {key_file} can't be used: {error}.") from error
    if exposed:
        raise UsageFault(f"Others can read the key {key_file}. Run: chmod 600 {key_file}")
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageFault(f"The key {key_file} isn't Ed25519. Make one: outrider receiver rollout keygen.")
    return key.sign(statement.message)
