"""A vehicle takes releases from a stick that somebody brought, through the same checks, and whatever is on it goes on
looking at its receiver."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

from agent.updates import TrialRules, UpdateSide
from ecu.clock import SECOND_NS, SteppingClock
from ecu.disk import RealDisk
from ota.errors import Attack, FetchError
from ota.kinds import Kind
from ota.manifest import BundleManifest
from ota.medium import MEDIUM_NAME, ZIP_NAME
from ota.repository import Desk
from ota.repository.export import paths_for, write_folder, write_zip
from ota.source import Source
from ota.trust import Vehicle
from ota.updates import Notice
from tests.agent.road import Nobody
from tests.ota.changed import Changed, Open
from tests.ota.fleet import CAR, HARDWARE, NOW_NS, Fleet

RULES = TrialRules(poll_ns=3600 * SECOND_NS, shadow_frames=1, prove_frames=1, hints_apart_ns=0)


class Away(Open):
    """A receiver out of reach."""

    def read(self, path: str, offset: int, most: int) -> Iterator[bytes]:
        raise FetchError("The receiver can't be reached.")


@dataclass
class Parked:
    """A vehicle without a camera, and what it told."""

    updates: UpdateSide
    notices: list[Notice] = field(default_factory=list)

    def holds(self, kind: Kind) -> int:
        good = next(its.good for its in self.updates.status().kinds if its.kind is kind)
        return 0 if good is None else good.release

    async def until(self, reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not reached():
                await asyncio.sleep(0)

    async def looks(self) -> None:
        """Until one more look is over."""
        before = self.updates.status().looks
        self.updates.hint()
        await self.until(lambda: self.updates.status().looks > before)


@asynccontextmanager
async def parked(folder: Path, fleet: Fleet, source: Source, clock: SteppingClock) -> AsyncIterator[Parked]:
    notices: list[Notice] = []
    updates = UpdateSide(
        folder / "updates", fleet.roots, Vehicle(CAR, HARDWARE), source, {}, Nobody(), RULES, clock, Random(1),
        notices.append, media=folder / "media",
    )  # fmt: skip
    car = Parked(updates, notices)
    work = asyncio.ensure_future(updates.run(None))
    try:
        await car.until(lambda: updates.status().looks > 0)
        yield car
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


def released(fleet: Fleet, version: str, release: int) -> BundleManifest:
    manifest = fleet.release(version, release, content=version.encode() * 99, kind=Kind.EVALUATION)
    fleet.assign(manifest)
    return manifest


def brought(fleet: Fleet, folder: Path, write: Callable[..., Path] = write_zip) -> Path:
    disk = RealDisk(fleet.repo)
    return write(disk, paths_for(disk, Desk(disk, fleet.clock), [CAR]), folder / "media/usb0", lambda _: None)


@pytest.fixture
def clock() -> SteppingClock:
    return SteppingClock(wall_ns=NOW_NS)


@pytest.mark.parametrize("write", [write_zip, write_folder])
async def test_a_vehicle_out_of_reach_installs_what_a_stick_brings(
    fleet: Fleet, tmp_path: Path, clock: SteppingClock, write: Callable[..., Path]
) -> None:
    manifest = released(fleet, "1.0", 1)
    brought(fleet, tmp_path, write)
    async with parked(tmp_path, fleet, Away(), clock) as car:
        assert car.holds(Kind.EVALUATION) == 1
        (kept,) = car.updates.taken(Kind.EVALUATION)
        assert (kept / "model.onnx").stat().st_size == manifest.size
        assert "can't be reached" in car.updates.status().trouble


async def test_a_stick_that_comes_later_is_looked_at_before_the_next_look_is_due(
    fleet: Fleet, tmp_path: Path, clock: SteppingClock
) -> None:
    released(fleet, "1.0", 1)
    async with parked(tmp_path, fleet, Away(), clock) as car:
        assert car.holds(Kind.EVALUATION) == 0
        brought(fleet, tmp_path)

        def is_installed_in_time() -> bool:
            clock.advance(clock.boot_ns() + SECOND_NS // 100)
            return car.holds(Kind.EVALUATION) == 1

        await car.until(is_installed_in_time)


async def test_a_stick_that_was_forgotten_keeps_no_newer_release_away_and_is_refused_once(
    fleet: Fleet, tmp_path: Path, clock: SteppingClock
) -> None:
    released(fleet, "1.0", 1)
    brought(fleet, tmp_path)
    released(fleet, "2.0", 2)
    async with parked(tmp_path, fleet, fleet.source(), clock) as car:
        assert car.holds(Kind.EVALUATION) == 2
        for _ in range(3):
            await car.looks()
        refused = [notice for notice in car.notices if notice.attack is not None]
        assert [notice.attack for notice in refused] == [Attack.ROLLBACK]
        assert car.holds(Kind.EVALUATION) == 2


async def test_a_stick_from_a_stranger_is_refused_and_the_receivers_release_is_installed(
    fleet: Fleet, tmp_path: Path, clock: SteppingClock
) -> None:
    stranger = Fleet(tmp_path / "stranger")
    released(stranger, "9.0", 9)
    brought(stranger, tmp_path)
    released(fleet, "1.0", 1)
    async with parked(tmp_path, fleet, fleet.source(), clock) as car:
        assert car.holds(Kind.EVALUATION) == 1
        assert any(notice.attack is not None for notice in car.notices)


async def test_an_archive_that_is_refused_as_a_whole_is_told_and_audited_once(
    fleet: Fleet, tmp_path: Path, clock: SteppingClock
) -> None:
    released(fleet, "1.0", 1)
    path = brought(fleet, tmp_path)
    path.write_bytes(path.read_bytes() + b"x")
    async with parked(tmp_path, fleet, Away(), clock) as car:
        await car.looks()
        assert [notice.attack for notice in car.notices] == [Attack.MALFORMED]
        assert car.holds(Kind.EVALUATION) == 0
        # Written anew, it is another one.
        brought(fleet, tmp_path)
        await car.looks()
        assert car.holds(Kind.EVALUATION) == 1


async def test_a_file_that_the_stick_lacks_comes_from_the_receiver(
    fleet: Fleet, tmp_path: Path, clock: SteppingClock
) -> None:
    manifest = released(fleet, "1.0", 1)
    medium = brought(fleet, tmp_path, write_folder)
    (medium / f"image/files/{manifest.files[0].sha256}").unlink()
    source = Changed(fleet.source())
    async with parked(tmp_path, fleet, source, clock) as car:
        assert car.holds(Kind.EVALUATION) == 1
        assert any(path.startswith("files/") for path, _, _ in source.asked)


def test_the_names_on_a_stick_are_those_that_are_looked_for(fleet: Fleet, tmp_path: Path) -> None:
    released(fleet, "1.0", 1)
    assert brought(fleet, tmp_path, write_zip).name == ZIP_NAME
    assert brought(fleet, tmp_path, write_folder).name == MEDIUM_NAME
    assert sorted(os.listdir(tmp_path / "media/usb0")) == [MEDIUM_NAME, ZIP_NAME]


@pytest.mark.parametrize("write", [write_zip, write_folder])
async def test_whatever_a_stick_is_called_the_trouble_with_it_can_be_told(
    fleet: Fleet, tmp_path: Path, clock: SteppingClock, write: Callable[..., Path]
) -> None:
    released(fleet, "1.0", 1)
    path = brought(fleet, tmp_path, write)
    stick = path.parent.rename(path.parent.with_name(os.fsdecode(b"\xff\n")))
    inside = stick / path.name if write is write_zip else stick / path.name / "image/metadata/timestamp.json"
    inside.unlink()
    inside.mkdir()
    async with parked(tmp_path, fleet, fleet.source(), clock) as car:
        trouble = car.updates.status().trouble
    assert trouble.startswith("Can't ")
    assert trouble.isprintable()
