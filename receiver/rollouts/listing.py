"""The receiver as director: it holds the director's online keys, and is who assigns while a rollout is under way.

What it lists changes by one kind only; a vehicle's other releases stay. Doing the same again changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec

from ecu.clock import SECOND_NS, Clock
from ecu.disk import RealDisk
from ota.errors import RepositoryFault
from ota.layout import published
from ota.repository import Director, ImageRepository, KeyFolder
from ota.repository.alone import alone
from receiver.rollouts.approval import RolloutRefused
from receiver.rollouts.books import Release, Turn

_RENEWED_BEFORE: Final = timedelta(days=3)


Failed = tuple[Turn, str]
"""A turn that couldn't be taken, and why."""


class Lister:
    """`folder` is the repository's, `keys` holds the director's. Raises RepositoryFault, DiskError, and
    EnvironmentFault while somebody at the signing desk is at work."""

    def __init__(self, folder: Path, keys: Path, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock
        self._keys = KeyFolder(keys)
        self._disk = RealDisk(folder)
        self._director = Director(self._disk, clock)
        self._images = ImageRepository(self._disk, clock)

    def release(self, target: str) -> Release:
        """A published one. Raises RepositoryFault, also where the keys aren't the director's."""
        self._director.demand_keys(self._keys)
        manifest = self._images.manifest(target)
        return Release(target, self._images.target(target).hashes["sha256"], manifest.release)

    def before(self, turns: Sequence[Turn]) -> tuple[list[Turn], list[Failed]]:
        """With what each vehicle is to have of that kind now, where that isn't known yet."""
        known, failed = list[Turn](), list[Failed]()
        for turn in turns:
            try:
                known.append(turn if turn.before is not None else replace(turn, before=self._before(turn)))
            except RepositoryFault as fault:
                failed.append((turn, str(fault)))
        return known, failed

    def act(self, turns: Sequence[Turn]) -> tuple[list[Turn], list[Failed]]:
        """Those that are durable now, and those that something of their own is in the way of: one vehicle's damaged
        folder must not keep a halt from all others. `before` of each is known."""
        done, failed = list[Turn](), list[Failed]()
        self._director.demand_keys(self._keys)
        with alone(self._folder):
            for turn in turns:
                try:
                    self._act(turn)
                except (RepositoryFault, RolloutRefused) as fault:
                    failed.append((turn, str(fault)))
                else:
                    done.append(turn)
        return done, failed

    def renew(self) -> int:
        """Lets every assignment that ends soon last longer; how many those were."""
        soon, renewed = self._now() + _RENEWED_BEFORE, 0
        for vehicle in self._director.vehicles():
            its = self._director.assignment(vehicle)
            if its.expires < soon:
                with alone(self._folder):
                    # Again: somebody may have assigned something since.
                    self._assign(vehicle, self._current(vehicle))
                renewed += 1
        return renewed

    def _before(self, turn: Turn) -> str:
        mine = [path for path in self._current(turn.vehicle) if _is_of(path, turn.release.kind)]
        return msgspec.json.encode(mine).decode()

    def _act(self, turn: Turn) -> None:
        """Raises RolloutRefused where the release isn't the one that was approved any more."""
        current = self._current(turn.vehicle)
        others = [path for path in current if not _is_of(path, turn.release.kind)]
        if turn.wanted:
            if self._images.target(turn.release.target).hashes["sha256"] != turn.release.digest:
                raise RolloutRefused(
                    f"{turn.release.target} was published again with other bytes than were approved for {turn.rollout}."
                    " Cancel it, and start another."
                )
            following = [*others, turn.release.target]
        elif turn.release.target not in current:
            return
        else:
            # Who may run it already would see the one before as a rollback.
            kept = [] if turn.had or turn.before is None else msgspec.json.decode(turn.before, type=list[str])
            following = [*others, *kept]
        if sorted(following) != sorted(current):
            self._assign(turn.vehicle, following)

    def _assign(self, vehicle: str, targets: Sequence[str]) -> None:
        self._director.assign(vehicle, [self._images.target(path) for path in targets], self._keys)

    def _current(self, vehicle: str) -> list[str]:
        stamp = published("director/timestamp.json", vehicle)
        return list(self._director.assignment(vehicle).targets) if stamp and self._disk.exists(stamp) else []

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.wall_ns() // SECOND_NS, UTC)


def _is_of(path: str, kind: str) -> bool:
    return path.partition("/")[0] == kind
