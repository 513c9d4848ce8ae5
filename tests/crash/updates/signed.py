"""Releases in both repositories, whose keys change in the middle of a life: new roots of both, with other keys for what
is signed online, and another key for the kind."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Final

from ecu.clock import SECOND_NS
from ota.errors import NotThere
from ota.kinds import Kind
from ota.layout import published
from ota.manifest import encode_manifest
from ota.repository import Desk
from ota.repository.files import keep
from ota.repository.rotation import Wanted
from ota.source import PART_BYTES, Source
from ota.trust import Offer, Roots
from ota.updates import Updates
from tests.crash.updates.releases import SMALL_BYTES, contents, manifest_of
from tests.ota.changed import Cut, Open
from tests.ota.fleet import CAR, Fleet, Unsynced

BEFORE: Final = (1, 2)
"""Released under the first keys."""
AFTER: Final = (3, 4, 9)
ROTATED: Final = ("image-root", "director-root", "image-timestamp", "director-timestamp")


class Published(Open):
    """A repository as it was once."""

    def __init__(self, repo: Path) -> None:
        its = (path for path in repo.rglob("*") if path.is_file())
        self._files = {str(path.relative_to(repo)): path.read_bytes() for path in its}

    def read(self, path: str, offset: int, most: int) -> Iterator[bytes]:
        data = self._files.get(published(path, CAR) or "")
        if data is None:
            raise NotThere(path)
        part = data[offset : offset + most]
        yield from (part[at : at + PART_BYTES] for at in range(0, len(part), PART_BYTES))


class Signed:
    """Of one kind. Each release is what the vehicle is to have in a state of the repositories of its own."""

    model_bytes = SMALL_BYTES
    is_signed = True

    def __init__(self, roots: Roots, published: Mapping[int, tuple[int, Source]]) -> None:
        """By their numbers, each with the time at which it was published."""
        self.roots = roots
        self.wall_ns = max(at_ns for at_ns, _ in published.values())
        self._published = published

    def found(self, updates: Updates, kind: Kind, release: int, most: int) -> tuple[Source, Offer]:
        _, source = self._published[release]
        (offer,) = updates.check(source)
        return Cut(source, most), offer

    def before(self, signed_at_s: int) -> tuple[int, ...]:
        return tuple(release for release, (at_ns, _) in self._published.items() if at_ns // SECOND_NS < signed_at_s)


@cache
def signed(kind: Kind) -> Signed:
    with tempfile.TemporaryDirectory() as folder:
        fleet = Fleet(Path(folder))
        desk = Desk(Unsynced(fleet.repo), fleet.clock)
        its = {release: _released(fleet, desk, kind, release, kind) for release in BEFORE}
        _rotate(fleet, desk, kind)
        its |= {release: _released(fleet, desk, kind, release, f"{kind}-next") for release in AFTER}
        return Signed(fleet.roots, its)


def _released(fleet: Fleet, desk: Desk, kind: Kind, release: int, key: str) -> tuple[int, Source]:
    fleet.pass_days(0.1)
    for data in contents(kind, release).values():
        keep(Unsynced(fleet.repo), data)
    manifest = manifest_of(kind, release)
    desk.images.add_manifest(encode_manifest(manifest))
    desk.sign(kind, [fleet.keys.signer(key)])
    desk.publish(fleet.keys, [CAR], [manifest.target])
    return fleet.clock.wall_ns(), Published(fleet.repo)


def _rotate(fleet: Fleet, desk: Desk, kind: Kind) -> None:
    keys = fleet.keys
    for role, old in {**{role: f"{role}-3" if role.endswith("root") else role for role in ROTATED}, kind: kind}.items():
        new = f"{role}-next"
        keys.generate([new])
        desk.rotate(role, Wanted((keys.key_id(old),), (keys.public(new),)))
        if role != kind and not role.endswith("root"):
            # What is published from here on is signed by the key of that name.
            (fleet.folder / "keys" / f"{new}.pem").rename(fleet.folder / "keys" / f"{old}.pem")
    for repository in ("image", "director"):
        desk.sign(f"{repository}-root", keys.signers([f"{repository}-root-1", f"{repository}-root-2"]))
    desk.sign("targets", keys.signers(["image-targets"]))
    desk.sign(kind, keys.signers([f"{kind}-next"]))
    desk.publish(keys)
