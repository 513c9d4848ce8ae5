"""What an image repository's timestamp leads to, every step verified: the desk believes no file without signatures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp

from ecu.disk import Disk
from ota.kinds import Kind
from ota.repository.metadata import T, latest, read_by_any, read_bytes, read_signed
from ota.repository.roots import RootChain

METADATA: Final = "image/metadata"


@dataclass(frozen=True, slots=True)
class View:
    """What the timestamp leads to, every step verified."""

    root: Metadata[Root]
    timestamp: Metadata[Timestamp]
    snapshot: Metadata[Snapshot]
    top: Metadata[Targets]

    def version(self, role: str) -> int:
        return self.snapshot.signed.meta[f"{role}.json"].version


class Current:
    """Raises RepositoryFault, DiskError."""

    def __init__(self, disk: Disk, roots: RootChain) -> None:
        self._disk = disk
        self._roots = roots
        self._seen: tuple[tuple[bytes, int], View] | None = None

    def view(self) -> View:
        """Read again only when another timestamp is there."""
        now = read_bytes(self._disk, timestamp_path()), latest(self._disk, METADATA, Root.type)
        if self._seen is None or self._seen[0] != now:
            roots = tuple(self._roots.believed())
            timestamp = read_by_any(self._disk, timestamp_path(), Timestamp, roots, Timestamp.type)
            snapshot = self._numbered(Snapshot, timestamp.signed.snapshot_meta.version, roots)
            top = self._numbered(Targets, snapshot.signed.meta[f"{Targets.type}.json"].version, roots)
            self._seen = now, View(self._roots.newest(), timestamp, snapshot, top)
        return self._seen[1]

    def _numbered(self, kind: type[T], version: int, roots: Sequence[Root]) -> Metadata[T]:
        return read_by_any(self._disk, f"{METADATA}/{version}.{kind.type}.json", kind, roots, kind.type)

    def of(self, kind: Kind) -> Metadata[Targets]:
        """What is published of that kind."""
        path = f"{METADATA}/{self.view().version(kind)}.{kind}.json"
        return read_signed(self._disk, path, Targets, self.view().top.signed, kind)

    def newest(self, kind: Kind) -> Metadata[Targets]:
        """The newest that vehicles may have seen: of a publication that was cut short nobody knows."""
        newest = self._numbered(Targets, latest(self._disk, METADATA, Targets.type), tuple(self._roots.believed()))
        path = f"{METADATA}/{latest(self._disk, METADATA, kind)}.{kind}.json"
        return read_by_any(self._disk, path, Targets, (self.view().top.signed, newest.signed), kind)


def timestamp_path() -> str:
    return f"{METADATA}/{Timestamp.type}.json"
