"""A fleet's repositories under newer roots, without a desk."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from securesystemslib.signer import Signer
from tuf.api.metadata import Metadata, Root

from ota.kinds import Kind
from tests.ota.changed import Open
from tests.ota.fleet import CAR, Fleet


class Rotated(Open):
    """A fleet's repositories under newer roots, which name other keys for the roles that are online."""

    def __init__(self, fleet: Fleet, vehicle: str = CAR) -> None:
        self._fleet = fleet
        self._source = fleet.source(vehicle)
        self._roots: dict[str, list[bytes]] = {"director": [], "image": []}
        self._by: dict[tuple[str, str], Signer] = {}
        self._versions: dict[tuple[str, str], int] = {}

    def rotate(self, repository: str, role: str, key: str) -> None:
        """From now on `role` signs by `key`."""
        newest = (self._roots[repository] or [(self._fleet.repo / f"{repository}/metadata/1.root.json").read_bytes()])[
            -1
        ]
        root = Metadata[Root].from_bytes(newest)
        root.signed.version += 1
        root.signed.roles[role].keyids.clear()
        signer = self._fleet.keys.signer(key)
        root.signed.add_key(signer.public_key, role)
        root.signatures.clear()
        for number in (1, 2):
            root.sign(self._fleet.keys.signer(f"{repository}-root-{number}"), append=True)
        self._roots[repository].append(root.to_bytes())
        self._by[repository, role] = signer

    def pretend(self, repository: str, role: str, version: int) -> None:
        """Its metadata says that it is of this version, rightly signed."""
        self._versions[repository, role] = version

    def read(self, path: str, offset: int, most: int) -> Iterator[bytes]:
        repository, _, name = path.partition("/")
        role = name.removesuffix(".json").rpartition(".")[2]
        roots = self._roots.get(repository, [])
        if role == "root" and 2 <= (number := int(name.partition(".")[0])) < 2 + len(roots):
            yield roots[number - 2]
            return
        if repository not in self._roots or role == "root":
            yield from self._source.read(path, offset, most)
            return
        yield self._signed(repository, role, path)

    def _signed(self, repository: str, role: str, path: str) -> bytes:
        # A version that is pretended lies where the true one does.
        if path == f"{repository}/{self._versions.get((repository, role))}.{role}.json":
            true = self._fleet.repo / ("image/metadata" if repository == "image" else f"director/vehicles/{CAR}")
            path = f"{repository}/{max(its.name for its in true.glob(f'*.{role}.json'))}"
        data = b"".join(self._source.read(path, 0, 1 << 20))
        metadata: Metadata[Any] = Metadata.from_bytes(data)
        if (version := self._versions.get((repository, role))) is not None:
            metadata.signed.version = version
        if role == "timestamp" and (version := self._versions.get((repository, "snapshot"))) is not None:
            metadata.signed.snapshot_meta.version = version
        if role == "snapshot" and (version := self._versions.get((repository, "targets"))) is not None:
            metadata.signed.meta["targets.json"].version = version
        by = self._by.get((repository, role)) or self._fleet.keys.signer(
            role if role in set(Kind) else f"{repository}-{role}"
        )
        metadata.sign(by)
        return metadata.to_bytes()
