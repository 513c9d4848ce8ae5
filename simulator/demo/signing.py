"""The fleet's owner in the demo: founds the repositories, signs releases, and says which vehicle is to have which.

The keys are made for this run and thrown away with it. Labelled sets are signed by another key than models are.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ecu.clock import SystemClock
from ecu.disk import RealDisk
from inference.evaluation import DEFAULT_EVALUATION
from inference.package import find_package
from ota.kinds import Kind
from ota.manifest import BundleManifest
from ota.repository import Desk, KeyFolder


@dataclass(frozen=True, slots=True)
class Owner:
    """`folder` is what the receiver serves; `keys` stay with the owner."""

    folder: Path
    keys: Path

    def found(self) -> None:
        """An empty repository, and the labelled set by which every model will be judged."""
        self.folder.mkdir(parents=True, exist_ok=True)
        KeyFolder(self.keys).generate()
        self._desk().found(KeyFolder(self.keys), {})
        self.sign(DEFAULT_EVALUATION, Kind.EVALUATION, "road", "1.0", 1)

    def sign(self, package: Path, kind: Kind, name: str, version: str, release: int) -> BundleManifest:
        """Added, signed by its kind's own key, and published; nobody is to have it yet."""
        desk, keys = self._desk(), KeyFolder(self.keys)
        manifest = desk.images.add(package, kind, name, version, release, ("any",))
        desk.images.sign(kind, [keys.signer(kind)])
        desk.publish(keys)
        return manifest

    def release_model(self, model: str, release: int) -> str:
        """A model package that is shipped here, as a release; its target."""
        name, _, version = model.partition("@")
        return self.sign(find_package(model), Kind.MODEL, name, version, release).target

    def assign(self, vehicle: str, *targets: str) -> None:
        """From now on the vehicle is to have these, and the labelled set."""
        wanted = [*targets, Kind.EVALUATION.target("road", "1.0")]
        self._desk().publish(KeyFolder(self.keys), [vehicle], wanted)

    def _desk(self) -> Desk:
        return Desk(RealDisk(self.folder), SystemClock())
