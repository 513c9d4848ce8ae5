"""A signing desk and what it has published, small enough to make anew in every test."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from ecu.clock import SECOND_NS, Clock, SteppingClock
from ecu.disk import RealDisk
from ota.floors import Floors
from ota.kinds import Kind
from ota.manifest import BundleManifest, encode_manifest
from ota.repository import Director, ImageRepository, KeyFolder
from ota.source import FolderSource, Source
from ota.trust import Roots, Trust, Vehicle

CAR = "car-1"
HARDWARE = "x86_64"
NOW_NS = 1_800_000_000 * SECOND_NS


DAY_NS = 86_400 * SECOND_NS


class Unsynced(RealDisk):
    """A signing desk where nobody pulls the plug: a repository is some hundred files, each synced with its folders."""

    def make_folder(self, path: str) -> None:
        self._at(path).mkdir(parents=True, exist_ok=True)

    def sync(self, path: str) -> None: ...

    def sync_folder(self, folder: str) -> None: ...


class Fleet:
    """One repository, its keys, and vehicles that verify it."""

    def __init__(self, folder: Path, clock: Clock | None = None) -> None:
        """Opens the one that is there, or founds one."""
        self.folder = folder
        self.clock = clock or SteppingClock(wall_ns=NOW_NS)
        self.repo = folder / "repo"
        self.keys = KeyFolder(folder / "keys")
        disk = Unsynced(self.repo)
        self.images = ImageRepository(disk, self.clock)
        self.director = Director(disk, self.clock)
        if not self.repo.exists():
            self.repo.mkdir(parents=True)
            self.keys.generate()
            self.images.init(self.keys)
            self.director.init(self.keys)

    def copy(self, folder: Path) -> Fleet:
        """A fleet with the same keys, as it is now."""
        shutil.copytree(self.folder, folder)
        return Fleet(folder)

    def pass_days(self, days: float) -> None:
        assert isinstance(self.clock, SteppingClock)
        self.clock.set_wall(self.clock.wall_ns() + int(days * DAY_NS))

    @property
    def roots(self) -> Roots:
        return Roots(self.director.root(), self.images.root())

    def release(
        self,
        version: str,
        release: int,
        content: bytes = b"weights",
        kind: Kind = Kind.MODEL,
        hardware: Sequence[str] = (HARDWARE,),
        signer: str | None = None,
        files: dict[str, bytes] | None = None,
        **facts: object,
    ) -> BundleManifest:
        """Added, signed and published; nobody is to have it yet. `facts` are more keys of its manifest."""
        source = self.folder / f"source-{kind}-{version}-{release}"
        source.mkdir()
        for name, data in (files or {"model.onnx": content}).items():
            (source / name).write_bytes(data)
        manifest = self.images.add(source, kind, "drive", version, release, hardware)
        if facts:
            manifest = BundleManifest.model_validate(manifest.model_copy(update=facts).model_dump(by_alias=True))
            self.images.add_manifest(encode_manifest(manifest))
        self.images.sign(kind, [self.keys.signer(signer or kind)])
        self.publish()
        return manifest

    def publish(self) -> None:
        self.images.publish([self.keys.signer("image-snapshot")], [self.keys.signer("image-timestamp")])

    def assign(self, *manifests: BundleManifest, vehicle: str = CAR) -> None:
        self.director.assign(vehicle, [self.images.target(manifest.target) for manifest in manifests], self.keys)

    def source(self, vehicle: str = CAR) -> Source:
        return FolderSource(self.repo, vehicle)

    def trust(
        self,
        state: Path,
        clock: Clock | None = None,
        vehicle: str = CAR,
        hardware: str = HARDWARE,
        scratch: Path | None = None,
    ) -> Trust:
        state.mkdir(parents=True, exist_ok=True)
        disk = RealDisk(state)
        return Trust(disk, self.roots, Vehicle(vehicle, hardware), Floors(disk), clock or self.clock, scratch)
