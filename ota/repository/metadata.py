"""Metadata files of one repository: read, verified, signed, written whole. Formats: TUF specification 1.0 section 4.

The desk believes no file of its own folder without its signatures either: what somebody put there who holds no key must
not find its way into the next draft, and so under the signature of one who does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from securesystemslib.signer import Signer
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp
from tuf.api.serialization.json import JSONSerializer

from ecu.clock import SECOND_NS, Clock
from ecu.disk import Disk, replace_file
from ecu.errors import shown
from ota.errors import RepositoryFault
from ota.layout import SIGNED_AT_FIELD

T = TypeVar("T", Root, Snapshot, Targets, Timestamp)


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """Days until metadata expires: what vehicles take for a frozen repository."""

    root: int = 365
    targets: int = 90
    timestamp: int = 7


@dataclass(frozen=True, slots=True)
class Standing:
    """One role's metadata: how long vehicles believe it, and the ids of the keys of that role that have signed it."""

    role: str
    version: int
    expires: datetime
    threshold: int
    signed_by: tuple[str, ...]

    @property
    def is_signed(self) -> bool:
        return len(self.signed_by) >= self.threshold


def expiry(clock: Clock, days: int) -> datetime:
    now = datetime.fromtimestamp(clock.wall_ns() // SECOND_NS, UTC)
    return now + timedelta(days=days)


def read_bytes(disk: Disk, path: str) -> bytes:
    """Raises RepositoryFault."""
    try:
        return disk.read(path)
    except FileNotFoundError as error:
        raise RepositoryFault(
            f"The repository has no {path}. Make one: outrider ota init, or restore this one from a copy."
        ) from error


def read(disk: Disk, path: str, kind: type[T]) -> Metadata[T]:
    """Whoever signed it. Raises RepositoryFault."""
    try:
        metadata = Metadata[T].from_bytes(read_bytes(disk, path))
    except RepositoryError as error:
        raise _damaged(path, error) from error
    if not isinstance(metadata.signed, kind):
        raise RepositoryFault(f"{path} of the repository is {metadata.signed.type} metadata. Restore it from a copy.")
    return metadata


def read_signed(disk: Disk, path: str, kind: type[T], by: Root | Targets, role: str) -> Metadata[T]:
    """As enough keys of the role signed it. Raises RepositoryFault."""
    metadata = read(disk, path, kind)
    if not standing(metadata, by, role, path).is_signed:
        raise RepositoryFault(
            f"{path} of the repository isn't what the keys of {role} signed: it is damaged, or somebody changed it. "
            "Restore it from a copy."
        )
    return metadata


def read_root(disk: Disk, folder: str, up_to: int | None = None) -> Metadata[Root]:
    """The newest root, or the one of that number: the first one as its own keys signed it, each further one also as
    those of the one before did (TUF specification section 5.3). Raises RepositoryFault."""
    first = f"{folder}/1.{Root.type}.json"
    root = read_signed(disk, first, Root, read(disk, first, Root).signed, Root.type)
    for number in range(2, (up_to or latest(disk, folder, Root.type)) + 1):
        path = f"{folder}/{number}.{Root.type}.json"
        newer = read_signed(disk, path, Root, root.signed, Root.type)
        root = read_signed(disk, path, Root, newer.signed, Root.type)
    return root


def read_by_any(disk: Disk, path: str, kind: type[T], roots: Iterable[Root | Targets], role: str) -> Metadata[T]:
    """As enough keys of one of these signed it. Raises RepositoryFault, as of the first."""
    newest, *others = roots
    for other in others:
        metadata = read(disk, path, kind)
        if standing(metadata, other, role, path).is_signed:
            return metadata
    return read_signed(disk, path, kind, newest, role)


def digest_of(metadata: Metadata[T]) -> str:
    """SHA-256 (hex) of what signatures are for: its signed part, in its canonical form."""
    return hashlib.sha256(metadata.signed_bytes).hexdigest()


def is_root(data: bytes) -> bool:
    """Of some repository, whoever signed it."""
    try:
        return isinstance(Metadata[Root].from_bytes(data).signed, Root)
    except RepositoryError:
        return False


def standing(metadata: Metadata[T], by: Root | Targets, role: str, path: str) -> Standing:
    """Raises RepositoryFault for what can't have been signed at all."""
    try:
        result = by.get_verification_result(role, metadata.signed_bytes, metadata.signatures)
    except (RepositoryError, ValueError) as error:
        raise _damaged(path, error) from error
    signed = metadata.signed
    return Standing(role, signed.version, signed.expires, result.threshold, tuple(sorted(result.signed)))


def demand_signed(metadata: Metadata[T], root: Root, role: str, repository: str) -> None:
    """Before it is published: these were the right keys. Raises RepositoryFault."""
    if not standing(metadata, root, role, f"The new {role}").is_signed:
        raise foreign(role, repository)


def foreign(role: str, repository: str) -> RepositoryFault:
    return RepositoryFault(
        f"The key {repository}-{role} in --keys isn't the one that this repository's root names, so no vehicle "
        "would believe what it signs. Give the folder with the keys that the repository was made with."
    )


def write(disk: Disk, path: str, metadata: Metadata[T]) -> None:
    disk.make_folder(path.rpartition("/")[0])
    replace_file(disk, path, encoded(metadata))


def encoded(metadata: Metadata[T]) -> bytes:
    """As files have it."""
    return metadata.to_bytes(JSONSerializer(compact=False))


def sign(metadata: Metadata[T], signers: Sequence[Signer]) -> Metadata[T]:
    """Signed anew by all of them."""
    metadata.signatures.clear()
    for signer in signers:
        metadata.sign(signer, append=True)
    return metadata


def new_root(roles: Mapping[str, Sequence[Signer]], threshold: int, expires: datetime) -> Metadata[Root]:
    """The first root, signed by the root keys; every role but root needs one signature."""
    root = Root(expires=expires, consistent_snapshot=True)
    for role, signers in roles.items():
        for signer in signers:
            root.add_key(signer.public_key, role)
    root.roles[Root.type].threshold = threshold
    return sign(Metadata(root), roles[Root.type])


def new_timestamp(snapshot: Snapshot, version: int, clock: Clock, lifetimes: Lifetimes) -> Timestamp:
    timestamp = Timestamp(version=version, expires=expiry(clock, lifetimes.timestamp))
    timestamp.snapshot_meta.version = snapshot.version
    timestamp.unrecognized_fields[SIGNED_AT_FIELD] = clock.wall_ns() // SECOND_NS
    return timestamp


def latest(disk: Disk, folder: str, role: str) -> int:
    """The highest version of the role's files in the folder, published or not; 0 when there is none."""
    if not disk.exists(folder):
        return 0
    ending = f".{role}.json"
    versions = (name.removesuffix(ending) for name in disk.names(folder) if name.endswith(ending))
    return max((int(version) for version in versions if version.isdecimal()), default=0)


def _damaged(path: str, error: Exception) -> RepositoryFault:
    return RepositoryFault(f"{path} of the repository is damaged: {shown(error)}. Restore it from a copy.")
