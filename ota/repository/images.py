"""The image repository: every release there is, each signed by its kind's own keys (TUF with terminating delegations).

A release is added to the draft of its kind's role, signed by whoever holds that kind's key, and published when enough
have signed. Nothing is ever taken out of `files/`: what a vehicle is fetching stays there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from securesystemslib.signer import Signer
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from ecu.clock import Clock
from ecu.disk import Disk, replace_file
from ecu.errors import shown
from ota.errors import RepositoryFault
from ota.kinds import Kind
from ota.layout import target_path
from ota.manifest import BLOCK_BYTES, BundleManifest, FileEntry, decode_manifest, encode_manifest, file_entry
from ota.repository.keys import ROOT_THRESHOLD, KeyFolder, key_names
from ota.repository.metadata import Lifetimes, T, expiry, latest, new_root, new_timestamp, read, sign, write

_METADATA: Final = "image/metadata"
_DRAFTS: Final = "drafts"


class ImageRepository:
    """In a folder, `disk`. Raises RepositoryFault for what can't be done, DiskError for what the disk can't."""

    def __init__(self, disk: Disk, clock: Clock, lifetimes: Lifetimes | None = None) -> None:
        self._disk = disk
        self._clock = clock
        self._lifetimes = lifetimes or Lifetimes()

    def init(self, keys: KeyFolder) -> None:
        """A new, empty repository: root, one delegation for each kind, and what makes them current."""
        if self._disk.exists(_METADATA):
            raise RepositoryFault("There is a repository in this folder already. Choose another --repo.")
        roots = [name for name in key_names("image") if "-root-" in name]
        roles = {role: [keys.signer(f"image-{role}")] for role in (Targets.type, Snapshot.type, Timestamp.type)}
        root = new_root(
            {Root.type: keys.signers(roots), **roles}, ROOT_THRESHOLD, expiry(self._clock, self._lifetimes.root)
        )
        self._write(f"1.{Root.type}.json", root)
        top = Targets(expires=expiry(self._clock, self._lifetimes.root), delegations=_delegations(keys))
        self._write(f"1.{Targets.type}.json", sign(Metadata(top), roles[Targets.type]))
        for kind in Kind:
            empty = Targets(expires=expiry(self._clock, self._lifetimes.targets))
            self._write(f"1.{kind}.json", sign(Metadata(empty), [keys.signer(kind)]))
        self._make_current(roles[Snapshot.type], roles[Timestamp.type])

    def root(self) -> bytes:
        """The first root: what a vehicle leaves the factory with."""
        return self._disk.read(f"{_METADATA}/1.{Root.type}.json")

    def add(
        self, folder: Path, kind: Kind, name: str, version: str, release: int, hardware: Sequence[str]
    ) -> BundleManifest:
        """Puts the folder's files into the repository and the release into its kind's draft."""
        entries = tuple(self._take(path) for path in sorted(_files_of(folder), key=lambda path: path.name))
        manifest = BundleManifest(
            kind=kind, name=name, version=version, release=release, hardware=tuple(hardware), files=entries
        )
        self.add_manifest(encode_manifest(manifest))
        return manifest

    def add_manifest(self, data: bytes) -> None:
        """A release whose files are here already, by its manifest."""
        manifest = decode_manifest(data)
        draft = self._draft(manifest.kind)
        target = TargetFile.from_data(manifest.target, data, ["sha256"])
        target.unrecognized_fields["custom"] = {"hardware": list(manifest.hardware), "release": manifest.release}
        self._replace(f"image/{target_path(manifest.target, target.hashes['sha256'])}", data)
        draft.signed.targets[manifest.target] = target
        draft.signatures.clear()
        write(self._disk, _draft_path(manifest.kind), draft)

    def sign(self, kind: Kind, signers: Sequence[Signer]) -> None:
        """Adds signatures to the kind's draft, which changes nothing for vehicles until it is published."""
        if not self._disk.exists(_draft_path(kind)):
            raise RepositoryFault(f"Nothing of kind {kind} waits for a signature. Add a release first.")
        draft = read(self._disk, _draft_path(kind), Targets)
        for signer in signers:
            draft.sign(signer, append=True)
        write(self._disk, _draft_path(kind), draft)

    def publish(self, snapshot_signers: Sequence[Signer], timestamp_signers: Sequence[Signer]) -> list[Kind]:
        """Makes the drafts that enough have signed current; which. Raises RepositoryFault for one that few have."""
        ready = [kind for kind in Kind if self._disk.exists(_draft_path(kind))]
        drafts = {kind: read(self._disk, _draft_path(kind), Targets) for kind in ready}
        for kind, draft in drafts.items():
            self._demand_signed(kind, draft)
        for kind, draft in drafts.items():
            self._write(f"{draft.signed.version}.{kind}.json", draft)
        self._make_current(snapshot_signers, timestamp_signers)
        for kind in ready:
            self._disk.remove(_draft_path(kind))
        return ready

    def target(self, path: str) -> TargetFile:
        """The published target of that path. Raises RepositoryFault when there is none."""
        kind = path.partition("/")[0]
        known: dict[str, TargetFile] = {}
        if kind in set(Kind):
            known = self._newest(kind).signed.targets
        if path not in known:
            names = ", ".join(sorted(known)) or "none"
            raise RepositoryFault(f"There is no published release {shown(path)}. Of that kind there are: {names}.")
        return known[path]

    def manifest(self, path: str) -> BundleManifest:
        """Of a published target."""
        digest = self.target(path).hashes["sha256"]
        return decode_manifest(self._disk.read(f"image/{target_path(path, digest)}"))

    def releases(self) -> Iterator[BundleManifest]:
        """All that are published."""
        for kind in Kind:
            yield from (self.manifest(path) for path in self._newest(kind).signed.targets)

    # --- inside -----------------------------------------------------------------------------------

    def _draft(self, kind: Kind) -> Metadata[Targets]:
        """The kind's draft; the newest published one, one version on, when none is begun."""
        if self._disk.exists(_draft_path(kind)):
            return read(self._disk, _draft_path(kind), Targets)
        draft = self._newest(kind)
        draft.signed.version += 1
        draft.signed.expires = expiry(self._clock, self._lifetimes.targets)
        draft.signatures.clear()
        return draft

    def _demand_signed(self, kind: Kind, draft: Metadata[Targets]) -> None:
        top = self._newest(Targets.type)
        result = top.signed.get_verification_result(kind, draft.signed_bytes, draft.signatures)
        if not result.verified:
            raise RepositoryFault(
                f"The draft of kind {kind} has {len(result.signed)} of {result.threshold} signatures by keys for "
                f"{kind}. Have it signed: outrider ota sign --role {kind}."
            )

    def _make_current(self, snapshot_signers: Sequence[Signer], timestamp_signers: Sequence[Signer]) -> None:
        version = latest(self._disk, _METADATA, Snapshot.type) + 1
        roles = [Targets.type, *Kind]
        meta = {f"{role}.json": MetaFile(latest(self._disk, _METADATA, role)) for role in roles}
        snapshot = Snapshot(version=version, expires=expiry(self._clock, self._lifetimes.timestamp), meta=meta)
        self._write(f"{version}.{Snapshot.type}.json", sign(Metadata(snapshot), snapshot_signers))
        timestamp = new_timestamp(snapshot, version, self._clock, self._lifetimes)
        self._write(f"{Timestamp.type}.json", sign(Metadata(timestamp), timestamp_signers))

    def _newest(self, role: str) -> Metadata[Targets]:
        return read(self._disk, f"{_METADATA}/{latest(self._disk, _METADATA, role)}.{role}.json", Targets)

    def _take(self, path: Path) -> FileEntry:
        entry = file_entry(path.name, _blocks_of(path))
        stored = f"image/files/{entry.sha256}"
        if not self._disk.exists(stored):
            self._replace(stored, path.read_bytes())
        return entry

    def _write(self, name: str, metadata: Metadata[T]) -> None:
        write(self._disk, f"{_METADATA}/{name}", metadata)

    def _replace(self, path: str, data: bytes) -> None:
        self._disk.make_folder(path.rpartition("/")[0])
        replace_file(self._disk, path, data)


def _draft_path(kind: Kind) -> str:
    return f"{_DRAFTS}/{kind}.json"


def _delegations(keys: KeyFolder) -> Delegations:
    delegations = Delegations({}, {})
    assert delegations.roles is not None
    for kind in Kind:
        key = keys.signer(kind).public_key
        delegations.keys[key.keyid] = key
        delegations.roles[kind] = DelegatedRole(kind.value, [key.keyid], 1, terminating=True, paths=[kind.paths])
    return delegations


def _files_of(folder: Path) -> list[Path]:
    try:
        entries = list(folder.iterdir())
    except OSError as error:
        raise RepositoryFault(f"Can't read the folder {shown(folder)}: {error.strerror}.") from error
    for entry in entries:
        if entry.is_symlink() or not entry.is_file():
            raise RepositoryFault(f"{shown(entry)} isn't a plain file: a bundle is one flat folder of files.")
    if not entries:
        raise RepositoryFault(f"The folder {shown(folder)} is empty: there is nothing to release.")
    return entries


def _blocks_of(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            yield block
