"""Both repositories of a fleet in one folder: founded together, published together, told as one release note."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from securesystemslib.signer import Signer
from tuf.api.metadata import Role

from ecu.clock import Clock
from ecu.disk import Disk
from ecu.errors import shown
from ota.errors import RepositoryFault
from ota.kinds import Kind
from ota.layout import IMAGE
from ota.manifest import BundleManifest, bundle_digest, encode_manifest
from ota.repository.delegations import DelegationChain
from ota.repository.director import Assignment, Director, demand_one_a_kind, folder_of
from ota.repository.images import ImageRepository
from ota.repository.keys import KeyFolder, Owners, demand_distinct, fixed_owners, online_keys
from ota.repository.metadata import Lifetimes, Standing, expiry
from ota.repository.releasenote import Release, ReleaseNote, note_of
from ota.repository.roots import RootChain
from ota.repository.rotation import (
    ROOT_ROLES,
    KeysDraft,
    Wanted,
    delegated,
    demand_unused,
    next_delegations,
    next_root,
)
from ota.repository.targets import Draft, everyone_of, owners_by_role
from ota.repository.travel import SIGNED, Waiting, merged

_SOON_DAYS: Final = 30
_ONLINE: Final = ("snapshot", "timestamp")
"""Every publication makes these anew."""


@dataclass(frozen=True, slots=True)
class RootDigests:
    """SHA-256 (hex) of the roots that a vehicle leaves the factory with."""

    director: str
    image: str


@dataclass(frozen=True, slots=True)
class Published:
    """What a publication changed: kinds whose drafts became current, vehicles that are to have something else now, and
    vehicles whose assignment lasts longer; `left` are those for which the director's keys weren't there. `ending` are
    the roles that no publication lets last longer and that end within a month: vehicles refuse all that is signed by
    them then. `rotated` are the roles whose keys became others, or at least last longer: a root, targets."""

    kinds: tuple[Kind, ...]
    assigned: tuple[Assignment, ...]
    renewed: tuple[Assignment, ...]
    left: tuple[Assignment, ...]
    ending: tuple[Standing, ...]
    rotated: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Note:
    """All that a repository says at this moment."""

    roots: RootDigests
    director: Standing
    roles: tuple[Standing, ...]
    releases: tuple[Release, ...]
    drafts: tuple[Draft, ...]
    key_drafts: tuple[KeysDraft, ...]
    vehicles: tuple[Assignment, ...]


class Desk:
    """Raises RepositoryFault, DiskError."""

    def __init__(self, disk: Disk, clock: Clock, lifetimes: Lifetimes | None = None) -> None:
        self._clock = clock
        self.images = ImageRepository(disk, clock, lifetimes)
        self.director = Director(disk, clock, lifetimes)

    def found(self, keys: KeyFolder, owners: Mapping[Kind, Owners]) -> RootDigests:
        """Both, empty. Cut short, it is done again from the beginning: the image repository's timestamp comes last."""
        if self.images.is_founded:
            raise RepositoryFault("There is a repository in this folder already. Choose another --repo.")
        both = {f"{role} of the director": its for role, its in fixed_owners("director").items()}
        demand_distinct(owners_by_role(everyone_of(owners)) | both, keys)
        self.director.init(keys)
        self.images.init(keys, owners)
        return self.roots()

    def roots(self) -> RootDigests:
        return RootDigests(*(hashlib.sha256(root).hexdigest() for root in (self.director.root(), self.images.root())))

    def publish(
        self,
        keys: KeyFolder,
        vehicles: Sequence[str] = (),
        targets: Sequence[str] = (),
        with_drafts: bool = True,
    ) -> Published:
        """Makes the signed drafts current, assigns the targets to each of the vehicles, and lets all else last longer.
        Whatever can be refused is refused before anything was written."""
        vehicles = tuple(dict.fromkeys(vehicles))
        others = [self.director.assignment(name) for name in self.director.vehicles() if name not in vehicles]
        self._demand_assignable(vehicles, targets, others, with_drafts)
        snapshot, timestamp = keys.signers(["image-snapshot"]), keys.signers(["image-timestamp"])
        is_online = keys.holds(online_keys("director"))
        if vehicles or is_online:
            self.director.demand_keys(keys, with_drafts)
        before = self._key_versions()
        kinds = self.images.publish(snapshot, timestamp, with_drafts)
        if is_online and with_drafts:
            # Each vehicle's metadata is signed anew below: by the keys of a root that comes now.
            self.director.roots.publish()
        for vehicle in vehicles:
            self.director.assign(vehicle, [self.images.target(path) for path in targets], keys)
        for other in others if is_online else ():
            self.director.assign(other.vehicle, [self.images.target(path) for path in other.targets], keys)
        renewed = [self.director.assignment(other.vehicle) for other in others if is_online]
        assigned = [self.director.assignment(vehicle) for vehicle in vehicles]
        if is_online:
            self.director.roots.settle()
        left = () if is_online else tuple(others)
        rotated = tuple(role for role, version in self._key_versions().items() if version != before[role])
        return Published(tuple(kinds), tuple(assigned), tuple(renewed), left, self._ending(), rotated)

    def _key_versions(self) -> dict[str, int]:
        roots = {roots.role: roots.newest().signed.version for roots in (self.images.roots, self.director.roots)}
        return roots | {its.role: its.version for its in self.images.standings() if its.role == "targets"}

    # --- whose keys sign ----------------------------------------------------------------------------

    def rotate(self, role: str, wanted: Wanted) -> tuple[KeysDraft, ...]:
        """Lets a root, or the kinds' delegations, wait with other keys for `role`; with none that change it is to last
        longer. Whatever follows from that waits with it: what these keys sign has to be signed anew. All that wait."""
        demand_unused(wanted.into, self._in_use())
        if role in ROOT_ROLES:
            repository, its = ROOT_ROLES[role]
            chain = self.images.roots if repository == IMAGE else self.director.roots
            chain.begin(next_root(chain.coming(), its, wanted))
            if role == "image-targets":
                self.images.delegations.begin(copy.deepcopy(self.images.delegations.coming()))
        else:
            kind = Kind(role)
            self.images.delegations.begin(next_delegations(self.images.delegations.coming(), kind, wanted))
            if wanted != Wanted():
                self.images.renew(kind)
        return self.key_drafts()

    def key_drafts(self) -> tuple[KeysDraft, ...]:
        """Roots and delegations that wait."""
        chains = (self.images.roots, self.images.delegations, self.director.roots)
        return tuple(draft for chain in chains if (draft := chain.described()) is not None)

    def drafts(self) -> tuple[Draft | KeysDraft, ...]:
        """All that wait."""
        return (*self.key_drafts(), *self.images.drafts())

    def waiting(self, role: str) -> Waiting:
        """A role's draft with what belongs to it. Raises RepositoryFault when there is none."""
        return self.images.waiting(Kind(role)) if role in set(Kind) else self._chain(role).demand_waiting()

    def sign(self, role: str, signers: Sequence[Signer]) -> Draft | KeysDraft:
        """Adds signatures to a role's draft."""
        return self.images.sign(Kind(role), signers) if role in set(Kind) else self._chain(role).sign(signers)

    def merge(self, came: Waiting) -> tuple[str, ...]:
        """Takes the signatures of a draft that travelled; the ids of the keys that hadn't signed here. Refuses those
        for anything but what waits here."""
        here = self.waiting(came.role)
        new = merged(here, came)
        if here.role in set(Kind):
            self.images.keep(Kind(here.role), here.draft)
        else:
            self._chain(here.role).keep(here.draft)
        return new

    def _chain(self, role: str) -> RootChain | DelegationChain:
        chains = {"image-root": self.images.roots, "director-root": self.director.roots}
        if role not in SIGNED:
            raise RepositoryFault(f"{shown(role)} is nothing that is signed in drafts. There are: {', '.join(SIGNED)}.")
        return chains.get(role, self.images.delegations)

    def key_ids(self, role: str) -> tuple[str, ...]:
        """The keys of the role, as they will be."""
        if role in ROOT_ROLES:
            repository, its = ROOT_ROLES[role]
            chain = self.images.roots if repository == IMAGE else self.director.roots
            return tuple(chain.coming().roles[its].keyids)
        return tuple(delegated(self.images.delegations.coming())[role].keyids)

    def _in_use(self) -> dict[str, Mapping[str, Role]]:
        return {
            "image-": self.images.roots.coming().roles,
            "director-": self.director.roots.coming().roles,
            "": delegated(self.images.delegations.coming()),
        }

    def _ending(self) -> tuple[Standing, ...]:
        roles = (self.director.standing(), *self.images.standings())
        soon = expiry(self._clock, _SOON_DAYS)
        return tuple(its for its in roles if its.role not in _ONLINE and its.expires < soon)

    def note(self) -> Note:
        roles = self.images.standings()
        by = {standing.role: standing.signed_by for standing in roles}
        releases = tuple(_release(manifest, by) for manifest in self.images.releases())
        vehicles = tuple(map(self.director.assignment, self.director.vehicles()))
        return Note(
            self.roots(), self.director.standing(), roles, releases, self.images.drafts(), self.key_drafts(), vehicles
        )

    def release(self, target: str) -> Release:
        """A published one. Raises RepositoryFault."""
        by = {standing.role: standing.signed_by for standing in self.images.standings()}
        return _release(self.images.manifest(target), by)

    def release_note(self, target: str) -> ReleaseNote:
        """What is new in a published one. Raises RepositoryFault."""
        release = self.release(target)
        by = {standing.role: standing.signed_by for standing in self.images.standings()}
        paths = [path for path in self.images.targets() if path.partition("/")[0] == release.manifest.kind]
        others = [_release(self.images.manifest(path), by) for path in paths if path != release.target]
        vehicles = [name for name in self.director.vehicles() if target in self.director.assignment(name).targets]
        return note_of(release, others, vehicles)

    def _demand_assignable(
        self, vehicles: Sequence[str], targets: Sequence[str], others: Sequence[Assignment], with_drafts: bool
    ) -> None:
        for vehicle in vehicles:
            folder_of(vehicle)
        demand_one_a_kind(targets)
        changes = [change for draft in self.images.drafts() for change in draft.changes if with_drafts]
        known = {*self.images.targets(), *(change.target for change in changes)}
        known -= {change.target for change in changes if not change.sha256}
        for path in targets:
            if path not in known:
                raise RepositoryFault(
                    f"There is no release {shown(path)} here. There are: {', '.join(sorted(known)) or 'none'}."
                )
        for other in others:
            for path in other.targets:
                if path not in known:
                    raise RepositoryFault(
                        f"{other.vehicle} is to have {shown(path)}, which would be no release any more. Assign it "
                        f"something else with this publication: --vehicle {other.vehicle}."
                    )


def _release(manifest: BundleManifest, signed_by: Mapping[str, tuple[str, ...]]) -> Release:
    digest = bundle_digest(encode_manifest(manifest))
    return Release(manifest.target, manifest, digest, signed_by[manifest.kind])
