"""What waits for the vehicle's rest gives way to what would be tried on the road now, and to nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from ecu.disk import RealDisk
from ota.kinds import Kind
from ota.machine import Event, State
from ota.manifest import BundleManifest
from ota.trust import Vehicle
from ota.updates import Updates
from tests.ota.fleet import CAR, HARDWARE, Fleet


class Waiting:
    """A vehicle that keeps release 2 of its configuration, and whose next runtime waits."""

    def __init__(self, fleet: Fleet, state: Path) -> None:
        state.mkdir(exist_ok=True)
        self.fleet = fleet
        self.configs = {number: fleet.release(f"{number}.0", number, kind=Kind.CONFIG) for number in (1, 2, 3)}
        self.runtime = fleet.release("1.0", 1, kind=Kind.RUNTIME)
        self.updates = Updates(RealDisk(state), fleet.roots, Vehicle(CAR, HARDWARE), fleet.clock, lambda notice: None)
        self.updates.begin()
        self._install(self.configs[2])
        for event in (Event.ADMITTED, Event.PROVEN):
            self.updates.handle(Kind.CONFIG, event, "")
        self._install(self.runtime, self.configs[2])
        assert self.updates.slots(Kind.RUNTIME).record.state is State.STAGED

    def _install(self, *wanted: BundleManifest) -> None:
        self.fleet.assign(*wanted)
        (offer,) = self.updates.check(self.fleet.source())
        self.updates.install(self.fleet.source(), offer, lambda its: None)

    def gives_way_to(self, manifest: BundleManifest) -> str:
        self.fleet.assign(self.runtime, manifest)
        self.updates.check(self.fleet.source())
        return self.updates.gives_way((manifest.kind,))


@pytest.fixture
def waiting(fleet: Fleet, state: Path) -> Waiting:
    return Waiting(fleet, state)


def test_it_gives_way_to_a_newer_release_that_is_tried_and_once_only(waiting: Waiting) -> None:
    assert "gives way to config/drive-3.0" in waiting.gives_way_to(waiting.configs[3])
    assert waiting.gives_way_to(waiting.configs[3]) == ""


def test_it_gives_way_to_nothing_that_is_kept_already(waiting: Waiting) -> None:
    assert waiting.gives_way_to(waiting.configs[2]) == ""


def test_it_gives_way_to_nothing_below_what_was_kept_once(waiting: Waiting) -> None:
    waiting.updates.fell_back(Kind.CONFIG, None, "flash lost it")
    assert waiting.gives_way_to(waiting.configs[1]) == ""


def test_it_gives_way_to_nothing_that_takes_effect_beside_it(waiting: Waiting) -> None:
    assert waiting.gives_way_to(waiting.fleet.release("9.0", 1, kind=Kind.CAMPAIGN)) == ""
