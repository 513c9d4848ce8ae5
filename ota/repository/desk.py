"""Both repositories of a fleet in one folder: founded together, published together, told as one release note."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ecu.clock import Clock
from ecu.disk import Disk
from ecu.errors import shown
from ota.errors import RepositoryFault
from ota.kinds import Kind
from ota.manifest import BundleManifest, bundle_digest, encode_manifest
from ota.repository.director import Assignment, Director, demand_one_a_kind, folder_of
from ota.repository.images import Draft, ImageRepository, everyone_of, owners_by_role
from ota.repository.keys import KeyFolder, Owners, demand_distinct, fixed_owners, online_keys
from ota.repository.metadata import Lifetimes, Standing, expiry

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
    them then."""

    kinds: tuple[Kind, ...]
    assigned: tuple[Assignment, ...]
    renewed: tuple[Assignment, ...]
    left: tuple[Assignment, ...]
    ending: tuple[Standing, ...]


@dataclass(frozen=True, slots=True)
class Release:
    """One that is published, and the ids of its kind's keys that signed it."""

    target: str
    manifest: BundleManifest
    digest: str
    signed_by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Note:
    """All that a repository says at this moment."""

    roots: RootDigests
    director: Standing
    roles: tuple[Standing, ...]
    releases: tuple[Release, ...]
    drafts: tuple[Draft, ...]
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
            self.director.demand_keys(keys)
        kinds = self.images.publish(snapshot, timestamp, with_drafts)
        for vehicle in vehicles:
            self.director.assign(vehicle, [self.images.target(path) for path in targets], keys)
        for other in others if is_online else ():
            self.director.assign(other.vehicle, [self.images.target(path) for path in other.targets], keys)
        renewed = [self.director.assignment(other.vehicle) for other in others if is_online]
        assigned = [self.director.assignment(vehicle) for vehicle in vehicles]
        left = () if is_online else tuple(others)
        return Published(tuple(kinds), tuple(assigned), tuple(renewed), left, self._ending())

    def _ending(self) -> tuple[Standing, ...]:
        roles = (self.director.standing(), *self.images.standings())
        soon = expiry(self._clock, _SOON_DAYS)
        return tuple(its for its in roles if its.role not in _ONLINE and its.expires < soon)

    def note(self) -> Note:
        roles = self.images.standings()
        by = {standing.role: standing.signed_by for standing in roles}
        releases = tuple(_release(manifest, by) for manifest in self.images.releases())
        vehicles = tuple(map(self.director.assignment, self.director.vehicles()))
        return Note(self.roots(), self.director.standing(), roles, releases, self.images.drafts(), vehicles)

    def release(self, target: str) -> Release:
        """A published one. Raises RepositoryFault."""
        by = {standing.role: standing.signed_by for standing in self.images.standings()}
        return _release(self.images.manifest(target), by)

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
