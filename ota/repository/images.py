"""The image repository: every release there is, each signed by its kind's own keys (TUF with terminating delegations).

A release is added to the draft of its kind's role, signed by whoever holds that kind's keys, and published when enough
have signed. What is published is what the timestamp leads to: a publication that was cut short before it changed
nothing, and done again it finishes. Nothing is ever taken out of `files/`: what a vehicle is fetching stays there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

from securesystemslib.signer import Signer
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

from ecu.clock import Clock
from ecu.disk import Disk, replace_file
from ecu.errors import shown
from ota.errors import RepositoryFault, TrustError
from ota.kinds import Kind
from ota.layout import IMAGE, file_path, target_path
from ota.manifest import BundleManifest, bundle_digest, decode_manifest, encode_manifest
from ota.repository.current import METADATA, Current, timestamp_path
from ota.repository.delegations import DelegationChain
from ota.repository.files import Watch, entry_of, files_of, is_stored, keep, stored_path, take
from ota.repository.given import Facts
from ota.repository.keys import ROOT_THRESHOLD, KeyFolder, Owners, demand_distinct, root_keys
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
    sign,
    standing,
    write,
)
from ota.repository.roots import RootChain
from ota.repository.rotation import delegated, key_changes, keys_of
from ota.repository.targets import (
    Draft,
    billed,
    delegations_of,
    demand_plain,
    draft_path,
    everyone_of,
    kind_draft,
    manifest_of,
    may_meet,
    owners_by_role,
    release_of,
    says_more,
    target_of,
)
from ota.repository.travel import Waiting

_NO_FACTS: Final[Facts] = MappingProxyType({})
_NOBODY: Final[Mapping[Kind, Owners]] = MappingProxyType({})


class ImageRepository:
    """In a folder, `disk`. Raises RepositoryFault for what can't be done, DiskError for what the disk can't."""

    def __init__(self, disk: Disk, clock: Clock, lifetimes: Lifetimes | None = None) -> None:
        self._disk = disk
        self._clock = clock
        self._lifetimes = lifetimes or Lifetimes()
        self.roots = RootChain(disk, IMAGE, clock, self._lifetimes)
        self._current = Current(disk, self.roots)
        self.delegations = DelegationChain(disk, self.roots, self._current, clock, self._lifetimes)

    # --- founding ---------------------------------------------------------------------------------

    @property
    def is_founded(self) -> bool:
        """Whether vehicles may have seen it: a founding that was cut short is begun anew."""
        return self._disk.exists(timestamp_path()) or latest(self._disk, METADATA, Snapshot.type) > 1

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
        delegations = delegations_of({kind: (everyone[kind].threshold, signers[kind]) for kind in Kind})
        top = Targets(expires=expiry(self._clock, self._lifetimes.root), delegations=delegations)
        self._write(f"1.{Targets.type}.json", sign(Metadata(top), roles[Targets.type]))
        for kind in Kind:
            empty = Targets(expires=expiry(self._clock, self._lifetimes.targets))
            self._write(f"1.{kind}.json", sign(Metadata(empty), signers[kind]))
        versions = dict.fromkeys((Targets.type, *Kind), 1)
        self._make_current(*self._next(root.signed, versions, roles[Snapshot.type], roles[Timestamp.type]))

    def root(self) -> bytes:
        """The first root: what a vehicle leaves the factory with."""
        return self.roots.first()

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
        facts: Facts = _NO_FACTS,
        bill: Callable[[BundleManifest], tuple[str, bytes]] | None = None,
    ) -> BundleManifest:
        """Puts the folder's files into the repository and the release into its kind's draft, with its bill of materials
        (name and content) if `bill` makes one. What is published with the same bytes already needs no draft."""
        paths = files_of(folder)
        entries = tuple(entry_of(its_name, path, watch) for its_name, path in paths.items())
        manifest = manifest_of(folder, entries, kind, name, version, release, hardware, facts)
        bill_name, content = bill(manifest) if bill is not None else ("", b"")
        if content:
            manifest = billed(manifest, bill_name, content)
        self._demand_newer(manifest)
        for path, entry in zip(paths.values(), entries, strict=True):
            take(self._disk, path, entry, watch)
        if content:
            keep(self._disk, content)
        self.add_manifest(encode_manifest(manifest))
        return manifest

    def add_manifest(self, data: bytes) -> None:
        """A release whose files are here already, by its manifest."""
        manifest = decode_manifest(data)
        self._demand_newer(manifest)
        self._demand_files(manifest)
        target = target_of(manifest, data)
        self._replace(f"image/{target_path(manifest.target, target.hashes['sha256'])}", data)
        draft = self._waiting(manifest.kind)
        if draft is None and self._current.of(manifest.kind).signed.targets.get(manifest.target) == target:
            return
        draft = draft or self._current.of(manifest.kind)
        draft.signed.targets[manifest.target] = target
        self._begin(manifest.kind, draft)

    def not_below(self, manifest: BundleManifest) -> list[str]:
        """The releases, published or waiting, from which no vehicle would go on to this one: of its kind, for the same
        hardware, with its number or a higher one."""
        waiting = self._waiting(manifest.kind)
        known = (waiting or self._current.of(manifest.kind)).signed.targets
        return [
            path
            for path, target in sorted(known.items())
            if path != manifest.target and release_of(target) >= manifest.release and may_meet(target, manifest)
        ]

    def renew(self, kind: Kind) -> None:
        """A draft in which nothing changes but its expiry, unless one waits already."""
        if self._waiting(kind) is None:
            self._begin(kind, self._current.of(kind))

    def sign(self, kind: Kind, signers: Sequence[Signer]) -> Draft:
        """Adds signatures to the kind's draft, which changes nothing for vehicles until it is published."""
        draft = self._demand_waiting(kind)
        self._demand_plain(kind, draft)
        for signer in signers:
            self._demand_owner(kind, signer.public_key.keyid)
            draft.sign(signer, append=True)
        write(self._disk, draft_path(kind), draft)
        return self._described(kind, draft)

    def waiting(self, kind: Kind) -> Waiting:
        """The kind's draft with what belongs to it. Raises RepositoryFault when there is none."""
        draft, top = self._demand_waiting(kind), self.delegations.coming()
        self._demand_plain(kind, draft)
        published = self._current.of(kind)
        if not standing(published, top, kind, kind).is_signed:
            # By keys that are to go: whoever signs next is shown all, and not what differs from what these signed.
            published = Metadata(Targets(version=published.signed.version, expires=published.signed.expires))
        changed = (
            target for path, target in draft.signed.targets.items() if published.signed.targets.get(path) != target
        )
        manifests = {
            path: encode_manifest(self._manifest(path, target)) for target in changed for path in [target.path]
        }
        return Waiting(kind, draft, published, Metadata(top), keys_of(top, kind), manifests)

    def keep(self, kind: Kind, draft: Metadata[Targets]) -> None:
        """The kind's draft with more signatures than before."""
        write(self._disk, draft_path(kind), draft)

    def drafts(self) -> tuple[Draft, ...]:
        """All that wait to be signed or published."""
        waiting = {kind: self._waiting(kind) for kind in Kind}
        return tuple(self._described(kind, draft) for kind, draft in waiting.items() if draft is not None)

    # --- publishing -------------------------------------------------------------------------------

    def publish(
        self, snapshot_signers: Sequence[Signer], timestamp_signers: Sequence[Signer], with_drafts: bool = True
    ) -> list[Kind]:
        """Makes the drafts that enough have signed current; which. Raises RepositoryFault for one that few have. Other
        keys that aren't signed yet, and drafts of kinds that wait for them, stay as they are."""
        view = self._current.view()
        root = (self.roots.signed() if with_drafts else view.root).signed
        top = self.delegations.next(root, with_drafts)
        self._demand_unwritten(Targets.type, top)
        drafts = self._publishable(top.signed) if with_drafts else {}
        self._demand_believable(top.signed, drafts)
        versions = {kind.value: view.version(kind) for kind in Kind} | {Targets.type: top.signed.version}
        versions |= {kind.value: draft.signed.version for kind, draft in drafts.items()}
        current = self._next(root, versions, snapshot_signers, timestamp_signers)
        if with_drafts:
            self.roots.publish()
        if top is not view.top:
            self._write(f"{top.signed.version}.{Targets.type}.json", top)
        for kind, draft in drafts.items():
            self._write(f"{draft.signed.version}.{kind}.json", draft)
        self._make_current(*current)
        if with_drafts:
            self._clear()
        return list(drafts)

    # --- what is published ------------------------------------------------------------------------

    def target(self, path: str) -> TargetFile:
        """The published target of that path. Raises RepositoryFault when there is none."""
        kind = path.partition("/")[0]
        known = self._current.of(Kind(kind)).signed.targets if kind in set(Kind) else {}
        if path not in known:
            names = ", ".join(sorted(known)) or "none"
            raise RepositoryFault(f"There is no published release {shown(path)}. Of that kind there are: {names}.")
        return known[path]

    def manifest(self, path: str) -> BundleManifest:
        """Of a published target."""
        return self._manifest(path, self.target(path))

    def targets(self) -> list[str]:
        """The paths of all that are published."""
        return [path for kind in Kind for path in self._current.of(kind).signed.targets]

    def releases(self) -> Iterator[BundleManifest]:
        """All that are published."""
        yield from (self.manifest(path) for path in self.targets())

    def metadata(self) -> Iterator[str]:
        """The files of all metadata that is current, roots first."""
        view = self._current.view()
        yield from self.roots.paths()
        for role in (Targets.type, *Kind):
            yield f"{METADATA}/{view.version(role)}.{role}.json"
        yield f"{METADATA}/{view.snapshot.signed.version}.{Snapshot.type}.json"
        yield timestamp_path()

    def standings(self) -> tuple[Standing, ...]:
        """Of every role, as it is published."""
        view = self._current.view()
        root = view.root.signed
        kinds = {kind: self._current.of(kind) for kind in Kind}
        return (
            standing(view.root, root, Root.type, Root.type),
            standing(view.top, root, Targets.type, Targets.type),
            standing(view.snapshot, root, Snapshot.type, Snapshot.type),
            standing(view.timestamp, root, Timestamp.type, Timestamp.type),
            *(standing(kinds[kind], view.top.signed, kind, kind) for kind in Kind),
        )

    # --- inside: what is there --------------------------------------------------------------------

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
        if not self._disk.exists(draft_path(kind)):
            return None
        draft = read(self._disk, draft_path(kind), Targets)
        return draft if draft.signed.version > self._current.view().version(kind) else None

    def _demand_waiting(self, kind: Kind) -> Metadata[Targets]:
        draft = self._waiting(kind)
        if draft is None:
            raise RepositoryFault(
                f"Nothing of kind {kind} waits for a signature. Add a release first, or renew what is published: "
                f"outrider ota sign --role {kind} --renew."
            )
        return draft

    def _begin(self, kind: Kind, draft: Metadata[Targets]) -> None:
        """Its next version, also after one that was cut short while it was published: never other bytes under it."""
        draft.signed.version = latest(self._disk, METADATA, kind) + 1
        draft.signed.expires = expiry(self._clock, self._lifetimes.targets)
        draft.signatures.clear()
        write(self._disk, draft_path(kind), draft)

    def _described(self, kind: Kind, draft: Metadata[Targets]) -> Draft:
        return kind_draft(kind, draft, self._current.of(kind).signed, self.delegations.coming())

    def _demand_newer(self, manifest: BundleManifest) -> None:
        known = self._current.newest(manifest.kind).signed.targets.get(manifest.target)
        if known is None or known == target_of(manifest, encode_manifest(manifest)):
            return
        if manifest.release <= (release := release_of(known)):
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
        its = manifest.sbom
        if its is not None and not self._disk.exists(f"image/{file_path(its.sha256)}"):
            raise RepositoryFault(
                f"The repository lacks the bill of materials of {manifest.title}. Add its folder again: outrider ota "
                "add."
            )

    def _demand_plain(self, kind: Kind, draft: Metadata[Targets]) -> None:
        """It says nothing that isn't shown to whoever signs, and has no number that leaves others out."""
        demand_plain(kind, draft.signed)
        if draft.signed.version > latest(self._disk, METADATA, kind) + 1:
            raise says_more(kind)

    def _demand_owner(self, kind: Kind, key_id: str) -> None:
        owners = delegated(self.delegations.coming())
        if key_id not in owners[kind].keyids:
            others = [name for name, role in owners.items() if key_id in role.keyids]
            whose = f"is {others[0]}'s" if others else "is none that this repository knows"
            raise RepositoryFault(
                f"The key {key_id[:16]} can't sign {kind}: it {whose}. Name one of {kind}'s with --key: "
                f"{', '.join(owner[:16] for owner in owners[kind].keyids)}."
            )

    def _publishable(self, top: Targets) -> dict[Kind, Metadata[Targets]]:
        """The drafts, each signed as `top` wants it."""
        waiting = {kind: draft for kind in Kind if (draft := self._waiting(kind)) is not None}
        to_come = {change.role for change in key_changes(top, self.delegations.coming())}
        for kind in to_come & waiting.keys():
            if not standing(waiting[Kind(kind)], top, kind, draft_path(Kind(kind))).is_signed:
                del waiting[Kind(kind)]
        for kind, draft in waiting.items():
            self._demand_publishable(kind, draft, top)
        return waiting

    def _demand_believable(self, top: Targets, drafts: Mapping[Kind, Metadata[Targets]]) -> None:
        """What stays published of a kind is signed as `top` wants it, too."""
        for kind in Kind:
            if kind not in drafts and not standing(self._current.of(kind), top, kind, kind).is_signed:
                raise RepositoryFault(
                    f"The next targets give {kind} other keys, and what is published of it isn't signed by them. Have "
                    f"it signed: outrider ota sign --role {kind} --renew. To publish without: --leave-drafts."
                )

    def _demand_unwritten(self, role: str, draft: Metadata[Targets]) -> None:
        written = f"{METADATA}/{draft.signed.version}.{role}.json"
        if self._disk.exists(written) and read(self._disk, written, Targets).signed != draft.signed:
            path = draft_path(role)
            raise RepositoryFault(
                f"The draft of {role} is version {draft.signed.version}, and another one of that number was published. "
                f"Remove {path} and begin it again."
            )

    def _demand_publishable(self, kind: Kind, draft: Metadata[Targets], top: Targets) -> None:
        self._demand_plain(kind, draft)
        path = draft_path(kind)
        its = standing(draft, top, kind, path)
        if not its.is_signed:
            raise RepositoryFault(
                f"The draft of kind {kind} has {len(its.signed_by)} of {its.threshold} signatures by keys for {kind}. "
                f"Have it signed: outrider ota sign --role {kind}. To publish without it: --leave-drafts; to give it "
                f"up, remove {path}."
            )
        self._demand_unwritten(kind, draft)
        changes = self._described(kind, draft).changes
        for target in (draft.signed.targets[change.target] for change in changes if change.sha256):
            manifest = self._manifest(target.path, target)
            if manifest.kind is not kind or target != target_of(manifest, encode_manifest(manifest)):
                raise RepositoryFault(
                    f"{path} says of {shown(target.path)} what its manifest doesn't. Remove that draft and add the "
                    "release again."
                )
            self._demand_files(manifest)

    # --- inside: writing ---------------------------------------------------------------------------

    def _clear(self) -> None:
        """Removes the drafts that are published."""
        for kind in Kind:
            if self._waiting(kind) is None and self._disk.exists(draft_path(kind)):
                self._disk.remove(draft_path(kind))
        self.delegations.settle()
        self.roots.settle()

    def _next(
        self, root: Root, versions: Mapping[str, int], snapshot_signers: Sequence[Signer], timestamp: Sequence[Signer]
    ) -> tuple[Metadata[Snapshot], Metadata[Timestamp]]:
        version = latest(self._disk, METADATA, Snapshot.type) + 1
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
        write(self._disk, f"{METADATA}/{name}", metadata)

    def _replace(self, path: str, data: bytes) -> None:
        self._disk.make_folder(path.rpartition("/")[0])
        replace_file(self._disk, path, data)
