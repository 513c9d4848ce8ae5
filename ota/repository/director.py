"""The director: which of the image repository's releases each vehicle is to have. One root for the fleet, a folder of
metadata for each vehicle (Uptane standard 2.1.0 section 5.3.2).

Nothing in TUF ties metadata to a vehicle, and all folders are signed by the same keys: each vehicle's targets name it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

from ecu.clock import Clock
from ecu.disk import Disk, replace_files
from ecu.errors import shown
from ota.errors import RepositoryFault
from ota.layout import DIRECTOR, VEHICLE_FIELD, published
from ota.repository.keys import ROOT_THRESHOLD, KeyFolder, root_keys
from ota.repository.metadata import (
    Lifetimes,
    Standing,
    demand_signed,
    encoded,
    expiry,
    foreign,
    latest,
    new_root,
    new_timestamp,
    read_by_any,
    sign,
    standing,
    write,
)
from ota.repository.roots import RootChain

_METADATA: Final = "director/metadata"
_VEHICLES: Final = "director/vehicles"


@dataclass(frozen=True, slots=True)
class Assignment:
    """What one vehicle is to have, until when it believes that, and in which version it is said."""

    vehicle: str
    version: int
    expires: datetime
    targets: tuple[str, ...]


class Director:
    """In the same folder as the image repository. Raises RepositoryFault or DiskError."""

    def __init__(self, disk: Disk, clock: Clock, lifetimes: Lifetimes | None = None) -> None:
        self._disk = disk
        self._clock = clock
        self._lifetimes = lifetimes or Lifetimes()
        self.roots = RootChain(disk, DIRECTOR, clock, self._lifetimes)

    def init(self, keys: KeyFolder) -> None:
        """A new root; over one that no vehicle can have seen, since the founding was cut short."""
        if self._disk.exists(_VEHICLES):
            raise RepositoryFault("There is a director in this folder already. Choose another --repo.")
        roots = root_keys("director")
        roles = {role: [keys.signer(f"director-{role}")] for role in (Targets.type, Snapshot.type, Timestamp.type)}
        expires = expiry(self._clock, self._lifetimes.root)
        root = new_root({Root.type: keys.signers(roots), **roles}, ROOT_THRESHOLD, expires)
        write(self._disk, f"{_METADATA}/1.{Root.type}.json", root)

    def root(self) -> bytes:
        """The first root: what a vehicle leaves the factory with."""
        return self.roots.first()

    def standing(self) -> Standing:
        """Its newest root's."""
        root = self.roots.newest()
        its = standing(root, root.signed, Root.type, _METADATA)
        return replace(its, role="director root")

    def vehicles(self) -> list[str]:
        """All that have something assigned, be it nothing."""
        names = self._disk.names(_VEHICLES) if self._disk.exists(_VEHICLES) else []
        return [name for name in names if self._disk.exists(f"{_VEHICLES}/{name}/{Timestamp.type}.json")]

    def assignment(self, vehicle: str, roots: Sequence[Root] = ()) -> Assignment:
        """As its own metadata says. `roots` are those that are believed now, for who reads many. Raises RepositoryFault
        for a vehicle without any."""
        self.demand_known(vehicle)
        folder = folder_of(vehicle)
        roots = roots or tuple(self.roots.believed())
        path = f"{folder}/{Timestamp.type}.json"
        timestamp = read_by_any(self._disk, path, Timestamp, roots, Timestamp.type).signed
        path = f"{folder}/{timestamp.snapshot_meta.version}.{Snapshot.type}.json"
        snapshot = read_by_any(self._disk, path, Snapshot, roots, Snapshot.type).signed
        version = snapshot.meta[f"{Targets.type}.json"].version
        path = f"{folder}/{version}.{Targets.type}.json"
        targets = read_by_any(self._disk, path, Targets, roots, Targets.type).signed
        if (named := targets.unrecognized_fields.get(VEHICLE_FIELD)) != vehicle:
            raise RepositoryFault(f"{path} of the repository is for {shown(named)}. Remove that folder, or restore it.")
        expires = min(timestamp.expires, snapshot.expires, targets.expires)
        return Assignment(vehicle, version, expires, tuple(sorted(targets.targets)))

    def metadata_of(self, vehicle: str) -> Iterator[str]:
        """The files that this vehicle is told by, roots first."""
        self.demand_known(vehicle)
        yield from self.roots.paths()
        folder = folder_of(vehicle)
        for role in (Targets.type, Snapshot.type):
            yield f"{folder}/{latest(self._disk, folder, role)}.{role}.json"
        yield f"{folder}/{Timestamp.type}.json"

    def demand_known(self, vehicle: str) -> None:
        """Raises RepositoryFault for a vehicle that nothing was ever assigned to."""
        if not self._disk.exists(f"{folder_of(vehicle)}/{Timestamp.type}.json"):
            names = ", ".join(self.vehicles()[:20]) or "none"
            raise RepositoryFault(
                f"The director has assigned nothing to {shown(vehicle)}. It knows: {names}. Assign: outrider ota "
                "publish --vehicle NAME --target TARGET."
            )

    def demand_keys(self, keys: KeyFolder, with_draft: bool = True) -> None:
        """Those that sign assignments are there, and are the ones that the root names, or the next one once it is
        signed. Raises RepositoryFault."""
        root = (self.roots.signed() if with_draft else self.roots.newest()).signed
        for role in (Targets.type, Snapshot.type, Timestamp.type):
            if keys.key_id(f"director-{role}") not in root.roles[role].keyids:
                raise foreign(role, "director")

    def assign(self, vehicle: str, targets: Sequence[TargetFile], keys: KeyFolder) -> None:
        """From now on the vehicle is to have these releases and no others."""
        self.assign_all({vehicle: targets}, keys)

    def assign_all(
        self, wanted: Mapping[str, Sequence[TargetFile]], keys: KeyFolder, syncs: Executor | None = None
    ) -> None:
        """As `assign` for each vehicle, in one go: few waits for the disk, and not a dozen for each, the fewer the more
        threads `syncs` has. After an error any of them may have been assigned."""
        for targets in wanted.values():
            demand_one_a_kind([target.path for target in targets])
        signers = {role: keys.signer(f"director-{role}") for role in (Targets.type, Snapshot.type, Timestamp.type)}
        root = self.roots.newest().signed
        said, stamps = dict[str, bytes](), dict[str, bytes]()
        for vehicle, targets in wanted.items():
            folder = folder_of(vehicle)
            version = max(latest(self._disk, folder, role) for role in (Targets.type, Snapshot.type)) + 1
            signed = {role: sign(made, [signers[role]]) for role, made in self._made(vehicle, targets, version).items()}
            for role, metadata in signed.items():
                demand_signed(metadata, root, role, "director")
            said |= {f"{folder}/{version}.{role}.json": encoded(signed[role]) for role in (Targets.type, Snapshot.type)}
            stamps[f"{folder}/{Timestamp.type}.json"] = encoded(signed[Timestamp.type])
        self._make_folders([folder_of(vehicle) for vehicle in wanted], syncs)
        replace_files(self._disk, said, syncs)
        # The timestamps last: until its own is there, a vehicle sees the state before, whole.
        replace_files(self._disk, stamps, syncs)

    def _made(self, vehicle: str, targets: Sequence[TargetFile], version: int) -> dict[str, Metadata[Any]]:
        snapshot = Snapshot(
            version=version,
            expires=expiry(self._clock, self._lifetimes.timestamp),
            meta={f"{Targets.type}.json": MetaFile(version)},
        )
        return {
            Targets.type: Metadata(self._targets(vehicle, targets, version)),
            Snapshot.type: Metadata(snapshot),
            Timestamp.type: Metadata(new_timestamp(snapshot, version, self._clock, self._lifetimes)),
        }

    def _make_folders(self, folders: Sequence[str], syncs: Executor | None) -> None:
        """Those that aren't there. Of those that are, one sync: whoever made them may have been killed before his."""
        missing = [folder for folder in folders if not self._disk.exists(folder)]
        if len(missing) < len(folders):
            self._disk.sync_folder(_VEHICLES)
        list((syncs.map if syncs is not None else map)(self._disk.make_folder, missing))

    def _targets(self, vehicle: str, targets: Sequence[TargetFile], version: int) -> Targets:
        signed = Targets(version=version, expires=expiry(self._clock, self._lifetimes.timestamp))
        signed.targets = {target.path: target for target in targets}
        signed.unrecognized_fields[VEHICLE_FIELD] = vehicle
        return signed


def folder_of(vehicle: str) -> str:
    """Of its metadata. Raises RepositoryFault for what can't be a vehicle's name."""
    probe = published("director/timestamp.json", vehicle)
    if probe is None:
        raise RepositoryFault(
            f"{shown(vehicle)} can't be a vehicle's name: up to 64 letters, digits, dots, dashes and underscores, a "
            "letter or digit first."
        )
    return probe.rpartition("/")[0]


def demand_one_a_kind(targets: Sequence[str]) -> None:
    """Raises RepositoryFault: of two releases of one kind a vehicle takes neither."""
    often = [kind for kind, count in Counter(path.partition("/")[0] for path in targets).items() if count > 1]
    if often:
        both = " and ".join(path for path in targets if path.startswith(f"{often[0]}/"))
        raise RepositoryFault(f"A vehicle takes one release of a kind, not {shown(both)}. Name one of them.")
