"""The receiver as director: it holds the director's online keys, and is who assigns while a rollout is under way.

What it lists changes by one kind only; a vehicle's other releases stay. Doing the same again changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from ecu.clock import SECOND_NS, Clock
from ecu.disk import Disk, RealDisk
from ota.errors import RepositoryFault
from ota.layout import published
from ota.repository import Director, ImageRepository, KeyFolder
from ota.repository.alone import alone
from ota.repository.director import demand_one_a_kind
from ota.repository.metadata import Standing
from receiver.rollouts.approval import RolloutRefused
from receiver.rollouts.books import Release, Turn

if TYPE_CHECKING:
    from tuf.api.metadata import TargetFile

_RENEWED_BEFORE: Final = timedelta(days=3)
_SYNCS: Final = 8
_AGAIN_AFTER: Final = timedelta(hours=1)

Failed = tuple[Turn, str]
"""A turn that couldn't be taken, and why."""
Unread = tuple[str, str]
"""A vehicle whose assignment couldn't be read, and why."""


@dataclass(frozen=True, slots=True)
class Renewed:
    """How many assignments last longer now, those that can't, and whether there are more to be looked at."""

    count: int
    failed: list[Unread]
    more: bool


class Lister:
    """`folder` is the repository's, `keys` holds the director's. Raises RepositoryFault, DiskError, and
    EnvironmentFault while somebody at the signing desk is at work."""

    def __init__(self, folder: Path, keys: Path, clock: Clock, disk: Disk | None = None) -> None:
        self._folder = folder
        self._clock = clock
        self._keys = KeyFolder(keys)
        self._disk = disk or RealDisk(folder)
        self._director = Director(self._disk, clock)
        self._images = ImageRepository(self._disk, clock)
        self._ends: dict[str, datetime] = {}

    def release(self, target: str) -> Release:
        """A published one. Raises RepositoryFault, also where the keys aren't the director's."""
        self._director.demand_keys(self._keys)
        manifest = self._images.manifest(target)
        digest = self._images.target(target).hashes["sha256"]
        return Release(target, digest, manifest.release, tuple(manifest.hardware))

    # --- whose turn it is -------------------------------------------------------------------------

    def before(self, turns: Sequence[Turn]) -> tuple[list[Turn], list[Failed]]:
        """With what each vehicle is to have of that kind now, where that isn't known yet."""
        known, failed, book = list[Turn](), list[Failed](), self._book()
        for turn in turns:
            try:
                known.append(turn if turn.before is not None else replace(turn, before=_mine(turn, book)))
            except RepositoryFault as fault:
                failed.append((turn, str(fault)))
        return known, failed

    def act(self, turns: Sequence[Turn]) -> tuple[list[Turn], list[Failed]]:
        """Those that are durable now, and those that something of their own is in the way of: one vehicle's damaged
        folder must not keep a halt from all others. `before` of each is known."""
        done, failed = list[Turn](), list[Failed]()
        self._director.demand_keys(self._keys)
        with alone(self._folder):
            book = self._book()
            for turn in turns:
                try:
                    _take(turn, book)
                except (RepositoryFault, RolloutRefused) as fault:
                    failed.append((turn, str(fault)))
                else:
                    done.append(turn)
            self._sign(book.wanted)
        return done, failed

    # --- what ends --------------------------------------------------------------------------------

    def renew(self, most: int) -> Renewed:
        """Lets assignments that end soon last longer, whoever made them; looks at so many vehicles at most. What is
        known not to end soon isn't read again."""
        soon = self._now() + _RENEWED_BEFORE
        names = [name for name in self._director.vehicles() if self._ends.get(name, soon) <= soon]
        due, failed = self._ending(names[:most], soon)
        renewed = self._last_longer(due, failed) if due else []
        self._ends |= dict.fromkeys(renewed, soon + _RENEWED_BEFORE)
        # A damaged one is looked at again when others have been.
        self._ends |= {name: soon + _AGAIN_AFTER for name, _ in failed}
        return Renewed(len(renewed), failed, len(names) > most)

    def standings(self) -> list[Standing]:
        """What the desk alone can let last longer: of the image repository, and of both roots."""
        return [*self._images.standings(), self._director.standing()]

    def _ending(self, names: Sequence[str], soon: datetime) -> tuple[list[str], list[Unread]]:
        due, failed = list[str](), list[Unread]()
        roots = tuple(self._director.roots.believed()) if names else ()
        for name in names:
            try:
                self._ends[name] = self._director.assignment(name, roots).expires
            except RepositoryFault as fault:
                failed.append((name, str(fault)))
            else:
                due += [name] if self._ends[name] <= soon else []
        return due, failed

    def _last_longer(self, names: Sequence[str], failed: list[Unread]) -> list[str]:
        with alone(self._folder):
            # Read again: somebody may have assigned something since.
            book = self._book()
            for name in names:
                try:
                    book.want(name, book.current(name))
                except RepositoryFault as fault:
                    failed.append((name, str(fault)))
            self._sign(book.wanted)
        return list(book.wanted)

    def _sign(self, wanted: Mapping[str, Sequence[TargetFile]]) -> None:
        if wanted:
            with ThreadPoolExecutor(_SYNCS, thread_name_prefix="director") as syncs:
                self._director.assign_all(wanted, self._keys, syncs)

    def _book(self) -> _Book:
        return _Book(self._disk, self._director, self._images)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.wall_ns() // SECOND_NS, UTC)


class _Book:
    """What vehicles are to have, as it is read and changed in one go."""

    def __init__(self, disk: Disk, director: Director, images: ImageRepository) -> None:
        self._disk = disk
        self._director = director
        self._roots = tuple(director.roots.believed())
        self.target = lru_cache(None)(images.target)
        self.wanted: dict[str, list[TargetFile]] = {}

    def current(self, vehicle: str) -> list[str]:
        if vehicle in self.wanted:
            return [target.path for target in self.wanted[vehicle]]
        stamp = published("director/timestamp.json", vehicle)
        known = stamp is not None and self._disk.exists(stamp)
        return list(self._director.assignment(vehicle, self._roots).targets) if known else []

    def want(self, vehicle: str, paths: Sequence[str]) -> None:
        """Raises RepositoryFault for what isn't published, or two of a kind."""
        demand_one_a_kind(paths)
        self.wanted[vehicle] = [self.target(path) for path in paths]


def _mine(turn: Turn, book: _Book) -> str:
    mine = [path for path in book.current(turn.vehicle) if _is_of(path, turn.release.kind)]
    return msgspec.json.encode(mine).decode()


def _take(turn: Turn, book: _Book) -> None:
    """Raises RolloutRefused where the release isn't the one that was approved any more."""
    current = book.current(turn.vehicle)
    others = [path for path in current if not _is_of(path, turn.release.kind)]
    mine = [path for path in current if _is_of(path, turn.release.kind)]
    following = [*others, *(_wanted(turn, book) if turn.wanted else _afterwards(turn, mine))]
    if sorted(following) != sorted(current):
        book.want(turn.vehicle, following)


def _wanted(turn: Turn, book: _Book) -> list[str]:
    if book.target(turn.release.target).hashes["sha256"] != turn.release.digest:
        raise RolloutRefused(
            f"{turn.release.target} was published again with other bytes than were approved for {turn.rollout}."
            " Cancel it, and start another."
        )
    return [turn.release.target]


def _afterwards(turn: Turn, mine: list[str]) -> list[str]:
    """Of that kind. What isn't this rollout's doing stays."""
    before = [] if turn.before is None else msgspec.json.decode(turn.before, type=list[str])
    ours = mine == before if turn.restored else turn.release.target in mine
    if not ours:
        return mine
    # Who may run it already would see the one before as a rollback.
    return [] if turn.had else before


def _is_of(path: str, kind: str) -> bool:
    return path.partition("/")[0] == kind
