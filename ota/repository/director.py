"""The director: which of the image repository's releases each vehicle is to have. One root for the fleet, a folder of
metadata for each vehicle (Uptane standard 2.1.0 section 5.3.2).

Nothing in TUF ties metadata to a vehicle, and all folders are signed by the same keys: each vehicle's targets name it.
"""

from __future__ import annotations

from collections.abc import Sequence

from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

from ecu.clock import Clock
from ecu.disk import Disk
from ota.errors import RepositoryFault
from ota.layout import VEHICLE_FIELD, published
from ota.repository.keys import ROOT_THRESHOLD, KeyFolder, key_names
from ota.repository.metadata import Lifetimes, expiry, latest, new_root, new_timestamp, sign, write


class Director:
    """In the same folder as the image repository. Raises RepositoryFault or DiskError."""

    def __init__(self, disk: Disk, clock: Clock, lifetimes: Lifetimes | None = None) -> None:
        self._disk = disk
        self._clock = clock
        self._lifetimes = lifetimes or Lifetimes()

    def init(self, keys: KeyFolder) -> None:
        roots = [name for name in key_names("director") if "-root-" in name]
        roles = {role: [keys.signer(f"director-{role}")] for role in (Targets.type, Snapshot.type, Timestamp.type)}
        expires = expiry(self._clock, self._lifetimes.root)
        root = new_root({Root.type: keys.signers(roots), **roles}, ROOT_THRESHOLD, expires)
        write(self._disk, f"director/metadata/1.{Root.type}.json", root)

    def root(self) -> bytes:
        """The first root: what a vehicle leaves the factory with."""
        return self._disk.read(f"director/metadata/1.{Root.type}.json")

    def assign(self, vehicle: str, targets: Sequence[TargetFile], keys: KeyFolder) -> None:
        """From now on the vehicle is to have these releases and no others."""
        probe = published("director/timestamp.json", vehicle)
        if probe is None:
            raise RepositoryFault("A vehicle's name has up to 64 letters, digits, dots, dashes and underscores.")
        folder = probe.rpartition("/")[0]
        version = latest(self._disk, folder, Targets.type) + 1
        snapshot = Snapshot(
            version=version,
            expires=expiry(self._clock, self._lifetimes.timestamp),
            meta={f"{Targets.type}.json": MetaFile(version)},
        )
        timestamp = new_timestamp(snapshot, version, self._clock, self._lifetimes)
        wanted = sign(Metadata(self._targets(vehicle, targets, version)), [keys.signer("director-targets")])
        write(self._disk, f"{folder}/{version}.{Targets.type}.json", wanted)
        current = sign(Metadata(snapshot), [keys.signer("director-snapshot")])
        write(self._disk, f"{folder}/{version}.{Snapshot.type}.json", current)
        # The timestamp last: until it is there, vehicles see the state before, whole.
        write(
            self._disk,
            f"{folder}/{Timestamp.type}.json",
            sign(Metadata(timestamp), [keys.signer("director-timestamp")]),
        )

    def _targets(self, vehicle: str, targets: Sequence[TargetFile], version: int) -> Targets:
        signed = Targets(version=version, expires=expiry(self._clock, self._lifetimes.timestamp))
        signed.targets = {target.path: target for target in targets}
        signed.unrecognized_fields[VEHICLE_FIELD] = vehicle
        return signed
