"""A signed file that is no bundle: one pass from its source to the disk, verified, and there whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from ecu.disk import Disk, DiskError, beside, move_in, remove_beside
from ota.errors import FetchError, Flaw, TrustError
from ota.source import Source

_ALGORITHMS: Final = frozenset({"sha224", "sha256", "sha384", "sha512", "sha3_256", "sha3_384", "sha3_512"})
_READ_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Artifact:
    """What was signed: every hash is checked, by its algorithm's name (TUF specification section 4.5)."""

    name: str
    length: int
    hashes: Mapping[str, str]


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


def is_kept(disk: Disk, path: str, artifact: Artifact) -> bool:
    """Whether `path` holds it already. Raises TrustError for a hash that nobody here can check."""
    if not disk.exists(path) or disk.size(path) != artifact.length:
        return False
    return _agrees(artifact, _kept_parts(disk, path, artifact.length))


def fetch_artifact(source: Source, remote: str, disk: Disk, path: str, artifact: Artifact) -> None:
    """Durable at `path` when it returns; what was there before stays until then. Raises TrustError, FetchError,
    DiskError."""
    _digests(artifact)  # before anything is fetched
    with _nothing_left(disk, path):
        remove_beside(disk, path)
        disk.create(beside(path))
        if not _agrees(artifact, _written(disk, beside(path), _of_length(source, remote, artifact))):
            raise TrustError(Flaw.CHANGED_ARTIFACT, f"{artifact.name} isn't what was signed")
        disk.sync(beside(path))
        move_in(disk, path)


def _of_length(source: Source, remote: str, artifact: Artifact) -> Iterator[bytes]:
    came = 0
    # One byte more than it may have: who sends that doesn't stop there.
    for part in source.read(remote, 0, artifact.length + 1):
        came += len(part)
        if came > artifact.length:
            raise TrustError(Flaw.ENDLESS_FILE, f"{artifact.name} goes on beyond its {artifact.length} bytes")
        yield part
    if came < artifact.length:
        raise FetchError(f"{artifact.name} ended after {came} of {artifact.length} bytes. It is fetched again later.")


def _written(disk: Disk, path: str, parts: Iterable[bytes]) -> Iterator[bytes]:
    at = 0
    for part in parts:
        disk.write_at(path, at, part)
        at += len(part)
        yield part


def _kept_parts(disk: Disk, path: str, length: int) -> Iterator[bytes]:
    return (disk.read_at(path, at, _READ_BYTES) for at in range(0, length, _READ_BYTES))


def _agrees(artifact: Artifact, parts: Iterable[bytes]) -> bool:
    digests = _digests(artifact)
    for part in parts:
        for digest in digests.values():
            digest.update(part)
    return all(digest.hexdigest() == artifact.hashes[name] for name, digest in digests.items())


def _digests(artifact: Artifact) -> dict[str, _Hash]:
    unknown = sorted(set(artifact.hashes) - _ALGORITHMS)
    if unknown or not artifact.hashes:
        raise TrustError(Flaw.UNKNOWN_HASH, f"{artifact.name} is signed by {', '.join(unknown) or 'no hash at all'}")
    return {name: hashlib.new(name) for name in artifact.hashes}


@contextlib.contextmanager
def _nothing_left(disk: Disk, path: str) -> Iterator[None]:
    """Of what was refused, or broke off."""
    try:
        yield
    except (TrustError, FetchError, DiskError):
        with contextlib.suppress(DiskError, FileNotFoundError):
            disk.remove(beside(path))
        raise
