"""Looks at the repositories when the power goes: what was seen never sinks, and the next look finds its way.

Among them are newer roots with other keys for the roles that are online, in both repositories.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from ecu.crashdisk import CrashDisk, CrashState, violation
from ota.errors import TrustError
from ota.floors import Floors
from ota.source import Source
from ota.trust import Trust, Vehicle
from tests.crash.updates.laws import are_whole
from tests.ota.fleet import CAR, HARDWARE, Fleet
from tests.ota.rotated import Rotated

DAY_S = 86_400


class Looks:
    """What a vehicle sees one after the other, and the floors that it has after each."""

    def __init__(self, folder: Path) -> None:
        self._fleet = Fleet(folder / "0")
        self._fleet.assign(self._fleet.release("1.0", 1))
        self._sources: list[Source] = [self._fleet.copy(folder / "1").source()]
        self._fleet.pass_days(1)
        self._fleet.assign(self._fleet.release("2.0", 2))
        newer = self._fleet.copy(folder / "2")
        self._sources.append(newer.source())
        rotated = Rotated(newer)
        for repository in ("image", "director"):
            for role in ("timestamp", "snapshot"):
                rotated.rotate(repository, role, "plan" if repository == "image" else "campaign")
        self._sources.append(rotated)
        self._floors: list[tuple[dict[str, int], int]] = [({}, 0)]
        disk = CrashDisk()
        for source in self._sources:
            self._trust(disk).refresh(source)
            self._floors.append((Floors(disk).versions, Floors(disk).signed_at_s))

    def _trust(self, disk: CrashDisk) -> Trust:
        return Trust(disk, self._fleet.roots, Vehicle(CAR, HARDWARE), Floors(disk), self._fleet.clock)

    def live(self, disk: CrashDisk) -> None:
        for number, source in enumerate(self._sources, 1):
            self._trust(disk).refresh(source)
            disk.mark(str(number))

    def hold(self, state: CrashState) -> None:
        seen = max(map(int, state.acknowledged), default=0)
        versions, signed_at_s = self._floors[seen]
        for damaged in (None, "floors.metadata.0", "floors.metadata.1"):
            disk = state.disk.after_shutdown()
            if damaged is not None and are_whole(disk, "floors.metadata"):
                disk.flip_bit(damaged, 8 * 30)
            floors = Floors(disk)
            assert all(floors.versions.get(role, 0) >= version for role, version in versions.items())
            assert floors.signed_at_s >= signed_at_s
        if seen == 2:
            with pytest.raises(TrustError, match=r"rollback|wrong-signer"):
                self._trust(state.disk.after_shutdown()).refresh(self._sources[0])
        self._trust(state.disk).refresh(self._sources[-1])


@pytest.fixture(scope="module")
def looks(tmp_path_factory: pytest.TempPathFactory) -> Looks:
    return Looks(tmp_path_factory.mktemp("looks"))


def test_at_any_instant_of_a_look_nothing_that_was_seen_sinks(looks: Looks) -> None:
    assert violation(looks.live, looks.hold, CrashDisk()) is None
