"""The demo's signing desk: who signs what, and what each vehicle is to have, in the folder that the receiver serves.

One thread at a time: a publication renews what all vehicles are to have.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ecu.clock import Clock
from ecu.disk import RealDisk
from ota.kinds import Kind
from ota.manifest import BundleManifest
from ota.repository import Desk, KeyFolder
from ota.trust import ANY_HARDWARE, Roots

_ASSESSED: Final = (Kind.EVALUATION, Kind.CROPS)


class SigningDesk:
    """Below `root`: `fleet/` is what the receiver serves, `keys/` holds all keys but those of what is labelled, which
    lie with somebody else in `assessor/`. Founded when it is made. Raises RepositoryFault, DiskError."""

    def __init__(self, root: Path, clock: Clock) -> None:
        self.fleet = root / "fleet"
        self.keys = KeyFolder(root / "keys")
        self.assessor = KeyFolder(root / "assessor")
        self._desk = Desk(RealDisk(self.fleet), clock)
        self._one_at_a_time = threading.Lock()
        self.fleet.mkdir(parents=True)
        self.keys.generate()
        self._desk.found(self.keys, {})
        # Whoever makes a model must not also say what is good.
        (root / "assessor").mkdir(mode=0o700)
        for kind in _ASSESSED:
            shutil.move(root / "keys" / f"{kind}.pem", root / "assessor" / f"{kind}.pem")

    @property
    def roots(self) -> Roots:
        """What a vehicle leaves the factory with."""
        return Roots(self._desk.director.root(), self._desk.images.root())

    def release(self, folder: Path, kind: Kind, name: str, version: str, number: int) -> BundleManifest:
        """Added and signed by the kind's owner; the next publication makes it current. One that is published already
        stays as it is."""
        owner = self.assessor if kind in _ASSESSED else self.keys
        with self._one_at_a_time:
            manifest = self._desk.images.add(folder, kind, name, version, number, (ANY_HARDWARE,))
            if any(draft.kind is kind for draft in self._desk.images.drafts()):
                self._desk.images.sign(kind, owner.signers([kind.value]))
        return manifest

    def assign(self, vehicles: Sequence[str], releases: Sequence[BundleManifest]) -> None:
        """Published: each of the vehicles is to have these releases and no others."""
        with self._one_at_a_time:
            self._desk.publish(self.keys, vehicles, [release.target for release in releases])
