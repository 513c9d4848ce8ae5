"""Metadata files of one repository: read, signed, written whole. Formats: TUF specification 1.0 section 4."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from securesystemslib.signer import Signer
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp
from tuf.api.serialization.json import JSONSerializer

from ecu.clock import SECOND_NS, Clock
from ecu.disk import Disk, replace_file
from ota.errors import RepositoryFault
from ota.layout import SIGNED_AT_FIELD

T = TypeVar("T", Root, Snapshot, Targets, Timestamp)


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """Days until metadata expires: what vehicles take for a frozen repository."""

    root: int = 365
    targets: int = 90
    timestamp: int = 7


def expiry(clock: Clock, days: int) -> datetime:
    now = datetime.fromtimestamp(clock.wall_ns() // SECOND_NS, UTC)
    return now + timedelta(days=days)


def read(disk: Disk, path: str, kind: type[T]) -> Metadata[T]:
    """Raises RepositoryFault."""
    try:
        return Metadata[T].from_bytes(disk.read(path))
    except FileNotFoundError as error:
        raise RepositoryFault(f"The repository has no {path}. Make it first: outrider ota init.") from error
    except RepositoryError as error:
        raise RepositoryFault(f"{path} of the repository is damaged: {error}. Restore it from a copy.") from error


def write(disk: Disk, path: str, metadata: Metadata[T]) -> None:
    disk.make_folder(path.rpartition("/")[0])
    replace_file(disk, path, metadata.to_bytes(JSONSerializer(compact=False)))


def sign(metadata: Metadata[T], signers: Sequence[Signer]) -> Metadata[T]:
    """Signed anew by all of them."""
    metadata.signatures.clear()
    for signer in signers:
        metadata.sign(signer, append=True)
    return metadata


def new_root(roles: dict[str, Sequence[Signer]], threshold: int, expires: datetime) -> Metadata[Root]:
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
    """The highest version of the role's files in the folder; 0 when there is none."""
    if not disk.exists(folder):
        return 0
    ending = f".{role}.json"
    versions = (name.removesuffix(ending) for name in disk.names(folder) if name.endswith(ending))
    return max((int(version) for version in versions if version.isdigit()), default=0)
