"""The image repository: every release there is, each signed by its kind's own keys (TUF with terminating delegations).

A release is added to the draft of its kind's role, signed by whoever holds that kind's keys, and published when enough
have signed. What is published is what the timestamp leads to: a publication that was cut short before it changed
nothing, and done again it finishes. Nothing is ever taken out of `files/`: what a vehicle is fetching stays there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from pydantic import ValidationError
from securesystemslib.signer import Signer
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Key,
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
from ota.errors import RepositoryFault, TrustError
from ota.kinds import Kind
from ota.layout import target_path
from ota.manifest import BundleManifest, bundle_digest, decode_manifest, encode_manifest
from ota.repository.files import Watch, entry_of, files_of, is_stored, stored_path, take
from ota.repository.keys import ROOT_THRESHOLD, KeyFolder, Owners, demand_distinct, fixed_owners, root_keys
from ota.repository.metadata import (
    Lifetimes,
    Standing,
    T,
    demand_signed,
    expiry,
    latest,
    new_root,
    new_timestamp,
    read,
    read_bytes,
    read_root,
    read_signed,
    sign,
    standing,
    write,
)
from ota.trust import ANY_HARDWARE

_METADATA: Final = "image/metadata"
_DRAFTS: Final = "drafts"
_NOBODY: Final[Mapping[Kind, Owners]] = MappingProxyType({})

_RULES: Final = MappingProxyType(
    {
        "name": "A name has up to 48 small letters, digits and dashes, and begins with a letter.",
        "version": "A version is two or three numbers with dots, such as 1.0 or 2.0.1.",
        "release": "A release is a whole number from 1 on, higher than that of every release before it.",
        "hardware": "Hardware is named by up to 48 small letters, digits, dots, dashes and underscores; 'any' is all.",
        "files": "A bundle has 1 to 1024 files, of at most 8 GiB in all.",
    }
)


@dataclass(frozen=True, slots=True)
class Change:
    """One target of a draft that isn't published like that. `sha256` is its manifest's; "" when it is taken out."""

    target: str
    release: int
    sha256: str


@dataclass(frozen=True, slots=True)
class _View:
    """What the timestamp leads to, every step verified."""

    root: Metadata[Root]
    timestamp: Metadata[Timestamp]
    snapshot: Metadata[Snapshot]
    top: Metadata[Targets]

    def version(self, role: str) -> int:
        return self.snapshot.signed.meta[f"{role}.json"].version


@dataclass(frozen=True, slots=True)
class Draft:
    """What waits for signatures, and what will be different once it is published."""

    kind: Kind
    standing: Standing
    changes: tuple[Change, ...]


class ImageRepository:
    """In a folder, `disk`. Raises RepositoryFault for what can't be done, DiskError for what the disk can't."""

    def __init__(self, disk: Disk, clock: Clock, lifetimes: Lifetimes | None = None) -> None:
        self._disk = disk
        self._clock = clock
        self._lifetimes = lifetimes or Lifetimes()
        self._seen: tuple[bytes, _View] | None = None

    # --- founding ---------------------------------------------------------------------------------

    @property
    def is_founded(self) -> bool:
        """Whether vehicles may have seen it: a founding that was cut short is begun anew."""
        return self._disk.exists(_timestamp_path()) or latest(self._disk, _METADATA, Snapshot.type) > 1

    def init(self, keys: KeyFolder, owners: Mapping[Kind, Owners] = _NOBODY) -> None:
        """A new, empty repository: root, one delegation for each kind, and what makes them current. A kind that isn't
        among `owners` is signed by the one key of its name."""
        if self.is_founded:
            raise RepositoryFault("There is a repository in this folder already. Choose another --repo.")
        everyone = everyone_of(owners)
        roots = root_keys("image")
        roles = {role: [keys.signer(f"image-{role}")] for role in (Targets.type, Snapshot.type, Timestamp.type)}
        signers = {kind: keys.signers(its.keys) for kind, its in everyone.items()}
        demand_distinct(owners_by_role(everyone), keys)
        root = new_root(
            {Root.type: keys.signers(roots), **roles}, ROOT_THRESHOLD, expiry(self._clock, self._lifetimes.root)
        )
        self._write(f"1.{Root.type}.json", root)
        delegations = _delegations({kind: (everyone[kind].threshold, signers[kind]) for kind in Kind})
        top = Targets(expires=expiry(self._clock, self._lifetimes.root), delegations=delegations)
        self._write(f"1.{Targets.type}.json", sign(Metadata(top), roles[Targets.type]))
        for kind in Kind:
            empty = Targets(expires=expiry(self._clock, self._lifetimes.targets))
            self._write(f"1.{kind}.json", sign(Metadata(empty), signers[kind]))
        versions = dict.fromkeys((Targets.type, *Kind), 1)
        self._make_current(*self._next(root.signed, versions, roles[Snapshot.type], roles[Timestamp.type]))

    def root(self) -> bytes:
        """The first root: what a vehicle leaves the factory with."""
        return read_bytes(self._disk, f"{_METADATA}/1.{Root.type}.json")

    # --- drafts -----------------------------------------------------------------------------------

    def add(
        self,
        folder: Path,
        kind: Kind,
        name: str,
        version: str,
        release: int,
        hardware: Sequence[str],
        watch: Watch = lambda _: None,
    ) -> BundleManifest:
        """Puts the folder's files into the repository and the release into its kind's draft. What is published with
        the same bytes already needs no draft."""
        paths = files_of(folder)
        entries = tuple(entry_of(path, watch) for path in paths)
        try:
            manifest = BundleManifest(
                kind=kind, name=name, version=version, release=release, hardware=tuple(hardware), files=entries
            )
        except ValidationError as error:
            raise _unfit(error, folder) from error
        self._demand_newer(manifest)
        for path, entry in zip(paths, entries, strict=True):
            take(self._disk, path, entry, watch)
        self.add_manifest(encode_manifest(manifest))
        return manifest

    def add_manifest(self, data: bytes) -> None:
        """A release whose files are here already, by its manifest."""
        manifest = decode_manifest(data)
        self._demand_newer(manifest)
        self._demand_files(manifest)
        target = _target_of(manifest, data)
        self._replace(f"image/{target_path(manifest.target, target.hashes['sha256'])}", data)
        draft = self._waiting(manifest.kind)
        if draft is None and self._published(manifest.kind).signed.targets.get(manifest.target) == target:
            return
        draft = draft or self._published(manifest.kind)
        draft.signed.targets[manifest.target] = target
        self._begin(manifest.kind, draft)

    def not_below(self, manifest: BundleManifest) -> list[str]:
        """The releases, published or waiting, from which no vehicle would go on to this one: of its kind, for the same
        hardware, with its number or a higher one."""
        waiting = self._waiting(manifest.kind)
        known = (waiting or self._published(manifest.kind)).signed.targets
        return [
            path
            for path, target in sorted(known.items())
            if path != manifest.target and _release_of(target) >= manifest.release and _may_meet(target, manifest)
        ]

    def renew(self, kind: Kind) -> None:
        """A draft in which nothing changes but its expiry, unless one waits already."""
        if self._waiting(kind) is None:
            self._begin(kind, self._published(kind))

    def sign(self, kind: Kind, signers: Sequence[Signer]) -> Draft:
        """Adds signatures to the kind's draft, which changes nothing for vehicles until it is published."""
        draft = self._waiting(kind)
        if draft is None:
            raise RepositoryFault(
                f"Nothing of kind {kind} waits for a signature. Add a release first, or renew what is published: "
                f"outrider ota sign --role {kind} --renew."
            )
        self._demand_plain(kind, draft)
        for signer in signers:
            self._demand_owner(kind, signer.public_key.keyid)
            draft.sign(signer, append=True)
        write(self._disk, _draft_path(kind), draft)
        return self._described(kind, draft)

    def drafts(self) -> tuple[Draft, ...]:
        """All that wait to be signed or published."""
        waiting = {kind: self._waiting(kind) for kind in Kind}
        return tuple(self._described(kind, draft) for kind, draft in waiting.items() if draft is not None)

    # --- publishing -------------------------------------------------------------------------------

    def publish(
        self, snapshot_signers: Sequence[Signer], timestamp_signers: Sequence[Signer], with_drafts: bool = True
    ) -> list[Kind]:
        """Makes the drafts that enough have signed current; which. Raises RepositoryFault for one that few have."""
        waiting = {kind: self._waiting(kind) for kind in Kind if with_drafts}
        drafts = {kind: draft for kind, draft in waiting.items() if draft is not None}
        for kind, draft in drafts.items():
            self._demand_publishable(kind, draft)
        view = self._view()
        versions = {role: view.version(role) for role in (Targets.type, *Kind)}
        versions |= {kind: draft.signed.version for kind, draft in drafts.items()}
        current = self._next(view.root.signed, versions, snapshot_signers, timestamp_signers)
        for kind, draft in drafts.items():
            self._write(f"{draft.signed.version}.{kind}.json", draft)
        self._make_current(*current)
        for kind in waiting:
            if self._disk.exists(_draft_path(kind)):
                self._disk.remove(_draft_path(kind))
        return list(drafts)

    # --- what is published ------------------------------------------------------------------------

    def target(self, path: str) -> TargetFile:
        """The published target of that path. Raises RepositoryFault when there is none."""
        kind = path.partition("/")[0]
        known = self._published(Kind(kind)).signed.targets if kind in set(Kind) else {}
        if path not in known:
            names = ", ".join(sorted(known)) or "none"
            raise RepositoryFault(f"There is no published release {shown(path)}. Of that kind there are: {names}.")
        return known[path]

    def manifest(self, path: str) -> BundleManifest:
        """Of a published target."""
        return self._manifest(path, self.target(path))

    def targets(self) -> list[str]:
        """The paths of all that are published."""
        return [path for kind in Kind for path in self._published(kind).signed.targets]

    def releases(self) -> Iterator[BundleManifest]:
        """All that are published."""
        yield from (self.manifest(path) for path in self.targets())

    def standings(self) -> tuple[Standing, ...]:
        """Of every role, as it is published."""
        view = self._view()
        root = view.root.signed
        kinds = {kind: self._published(kind) for kind in Kind}
        return (
            standing(view.root, root, Root.type, Root.type),
            standing(view.top, root, Targets.type, Targets.type),
            standing(view.snapshot, root, Snapshot.type, Snapshot.type),
            standing(view.timestamp, root, Timestamp.type, Timestamp.type),
            *(standing(kinds[kind], view.top.signed, kind, kind) for kind in Kind),
        )

    # --- inside: what is there --------------------------------------------------------------------

    def _view(self) -> _View:
        """Read again only when another timestamp is there."""
        now = read_bytes(self._disk, _timestamp_path())
        if self._seen is None or self._seen[0] != now:
            root = read_root(self._disk, _METADATA)
            timestamp = read_signed(self._disk, _timestamp_path(), Timestamp, root.signed, Timestamp.type)
            snapshot = self._numbered(Snapshot, timestamp.signed.snapshot_meta.version, root.signed)
            version = snapshot.signed.meta[f"{Targets.type}.json"].version
            top = self._numbered(Targets, version, root.signed)
            self._seen = now, _View(root, timestamp, snapshot, top)
        return self._seen[1]

    def _numbered(self, kind: type[T], version: int, root: Root) -> Metadata[T]:
        return read_signed(self._disk, f"{_METADATA}/{version}.{kind.type}.json", kind, root, kind.type)

    def _published(self, kind: Kind) -> Metadata[Targets]:
        return self._signed(kind, self._view().version(kind))

    def _newest(self, kind: Kind) -> Metadata[Targets]:
        """The newest that vehicles may have seen: of a publication that was cut short nobody knows."""
        return self._signed(kind, latest(self._disk, _METADATA, kind))

    def _signed(self, kind: Kind, version: int) -> Metadata[Targets]:
        return read_signed(self._disk, f"{_METADATA}/{version}.{kind}.json", Targets, self._view().top.signed, kind)

    def _manifest(self, path: str, target: TargetFile) -> BundleManifest:
        at = f"image/{target_path(path, target.hashes['sha256'])}"
        data = read_bytes(self._disk, at)
        if bundle_digest(data) != target.hashes["sha256"]:
            raise RepositoryFault(f"{at} of the repository is damaged: it isn't what was signed. Restore it.")
        try:
            return decode_manifest(data)
        except TrustError as refusal:
            raise RepositoryFault(f"{at} of the repository is no manifest for this version: {refusal}.") from refusal

    # --- inside: drafts ---------------------------------------------------------------------------

    def _waiting(self, kind: Kind) -> Metadata[Targets] | None:
        """The kind's draft; None when there is none, or only what a publication left that was cut short at its end."""
        if not self._disk.exists(_draft_path(kind)):
            return None
        draft = read(self._disk, _draft_path(kind), Targets)
        return draft if draft.signed.version > self._view().version(kind) else None

    def _begin(self, kind: Kind, draft: Metadata[Targets]) -> None:
        """Its next version, also after one that was cut short while it was published: never other bytes under it."""
        draft.signed.version = latest(self._disk, _METADATA, kind) + 1
        draft.signed.expires = expiry(self._clock, self._lifetimes.targets)
        draft.signatures.clear()
        write(self._disk, _draft_path(kind), draft)

    def _described(self, kind: Kind, draft: Metadata[Targets]) -> Draft:
        before, after = self._published(kind).signed.targets, draft.signed.targets
        changed = [path for path, target in sorted(after.items()) if before.get(path) != target]
        changes = [Change(path, _release_of(after[path]), after[path].hashes.get("sha256", "?")) for path in changed]
        changes += [Change(path, _release_of(before[path]), "") for path in sorted(before.keys() - after.keys())]
        return Draft(kind, standing(draft, self._view().top.signed, kind, _draft_path(kind)), tuple(changes))

    def _demand_newer(self, manifest: BundleManifest) -> None:
        known = self._newest(manifest.kind).signed.targets.get(manifest.target)
        if known is None or known == _target_of(manifest, encode_manifest(manifest)):
            return
        if manifest.release <= (release := _release_of(known)):
            raise RepositoryFault(
                f"{manifest.target} was published with other bytes as release {release}. Give it another --version, or "
                f"a --release above {release}."
            )

    def _demand_files(self, manifest: BundleManifest) -> None:
        for entry in manifest.files:
            if not is_stored(self._disk, entry):
                raise RepositoryFault(
                    f"The repository lacks {stored_path(entry)}, which is {entry.path} of {manifest.title}. Add its "
                    "folder again: outrider ota add."
                )

    def _demand_plain(self, kind: Kind, draft: Metadata[Targets]) -> None:
        """Besides its releases, which are shown to whoever signs, it says nothing: no further delegations, no number
        that leaves others out."""
        its = draft.signed
        plain = Targets(its.version, its.spec_version, its.expires, its.targets)
        if its != plain or its.version > latest(self._disk, _METADATA, kind) + 1:
            path = _draft_path(kind)
            raise RepositoryFault(
                f"{path} says more than what its releases are: somebody changed it. Remove it and add its releases "
                "again."
            )

    def _demand_owner(self, kind: Kind, key_id: str) -> None:
        delegations = self._view().top.signed.delegations
        owners = {} if delegations is None else delegations.roles or {}
        if key_id not in owners[kind].keyids:
            others = [name for name, role in owners.items() if key_id in role.keyids]
            whose = f"is {others[0]}'s" if others else "is none that this repository knows"
            raise RepositoryFault(
                f"The key {key_id[:16]} can't sign {kind}: it {whose}. Name one of {kind}'s with --key: "
                f"{', '.join(owner[:16] for owner in owners[kind].keyids)}."
            )

    def _demand_publishable(self, kind: Kind, draft: Metadata[Targets]) -> None:
        self._demand_plain(kind, draft)
        path = _draft_path(kind)
        its = standing(draft, self._view().top.signed, kind, path)
        if not its.is_signed:
            raise RepositoryFault(
                f"The draft of kind {kind} has {len(its.signed_by)} of {its.threshold} signatures by keys for {kind}. "
                f"Have it signed: outrider ota sign --role {kind}. To publish without it: --leave-drafts; to give it "
                f"up, remove {path}."
            )
        written = f"{_METADATA}/{draft.signed.version}.{kind}.json"
        if self._disk.exists(written) and read(self._disk, written, Targets).signed != draft.signed:
            raise RepositoryFault(
                f"The draft of kind {kind} is version {draft.signed.version}, and another one of that number was "
                f"published. Remove {path} and add its releases again."
            )
        changes = self._described(kind, draft).changes
        for target in (draft.signed.targets[change.target] for change in changes if change.sha256):
            manifest = self._manifest(target.path, target)
            if manifest.kind is not kind or target != _target_of(manifest, encode_manifest(manifest)):
                raise RepositoryFault(
                    f"{path} says of {shown(target.path)} what its manifest doesn't. Remove that draft and add the "
                    "release again."
                )
            self._demand_files(manifest)

    # --- inside: writing --------------------------------------------------------------------------

    def _next(
        self, root: Root, versions: Mapping[str, int], snapshot_signers: Sequence[Signer], timestamp: Sequence[Signer]
    ) -> tuple[Metadata[Snapshot], Metadata[Timestamp]]:
        version = latest(self._disk, _METADATA, Snapshot.type) + 1
        meta = {f"{role}.json": MetaFile(number) for role, number in versions.items()}
        snapshot = Snapshot(version=version, expires=expiry(self._clock, self._lifetimes.timestamp), meta=meta)
        signed = sign(Metadata(snapshot), snapshot_signers)
        stamped = sign(Metadata(new_timestamp(snapshot, version, self._clock, self._lifetimes)), timestamp)
        demand_signed(signed, root, Snapshot.type, "image")
        demand_signed(stamped, root, Timestamp.type, "image")
        return signed, stamped

    def _make_current(self, snapshot: Metadata[Snapshot], timestamp: Metadata[Timestamp]) -> None:
        self._write(f"{snapshot.signed.version}.{Snapshot.type}.json", snapshot)
        # The timestamp last: until it is there, vehicles see the state before, whole.
        self._write(f"{Timestamp.type}.json", timestamp)

    def _write(self, name: str, metadata: Metadata[T]) -> None:
        write(self._disk, f"{_METADATA}/{name}", metadata)

    def _replace(self, path: str, data: bytes) -> None:
        self._disk.make_folder(path.rpartition("/")[0])
        replace_file(self._disk, path, data)


def _timestamp_path() -> str:
    return f"{_METADATA}/{Timestamp.type}.json"


def _draft_path(kind: Kind) -> str:
    return f"{_DRAFTS}/{kind}.json"


def _target_of(manifest: BundleManifest, data: bytes) -> TargetFile:
    target = TargetFile.from_data(manifest.target, data, ["sha256"])
    target.unrecognized_fields["custom"] = {"hardware": list(manifest.hardware), "release": manifest.release}
    return target


def _release_of(target: TargetFile) -> int:
    custom: Any = target.custom
    release = custom.get("release") if isinstance(custom, dict) else None
    return release if isinstance(release, int) else 0


def _may_meet(target: TargetFile, manifest: BundleManifest) -> bool:
    """Whether some vehicle could have either."""
    custom: Any = target.custom
    theirs, its = set(custom["hardware"]), set(manifest.hardware)
    return ANY_HARDWARE in theirs | its or bool(theirs & its)


def everyone_of(owners: Mapping[Kind, Owners]) -> dict[Kind, Owners]:
    """A kind that isn't among `owners` is signed by the one key of its name."""
    return {kind: owners.get(kind, Owners(1, (kind.value,))) for kind in Kind}


def owners_by_role(everyone: Mapping[Kind, Owners]) -> dict[str, Owners]:
    return fixed_owners("image") | {kind.value: its for kind, its in everyone.items()}


def _delegations(owners: Mapping[Kind, tuple[int, Sequence[Signer]]]) -> Delegations:
    roles, keys = dict[str, DelegatedRole](), dict[str, Key]()
    for kind, (threshold, signers) in owners.items():
        ids = [signer.public_key.keyid for signer in signers]
        keys |= {signer.public_key.keyid: signer.public_key for signer in signers}
        roles[kind.value] = DelegatedRole(kind.value, ids, threshold, terminating=True, paths=[kind.paths])
    return Delegations(keys, roles)


def _unfit(error: ValidationError, folder: Path) -> RepositoryFault:
    first = error.errors()[0]
    field = str(first["loc"][0]) if first["loc"] else "files"
    given = "" if field == "files" else f" {shown(first['input'])!s}"
    return RepositoryFault(f"{shown(folder)} can't be released with the {field}{given}. {_RULES.get(field, '')}")
