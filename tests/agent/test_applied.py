"""A release that takes its predecessor's place at once: kept when it was in use for long enough, else the one before
comes back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest

from agent.updates import TICK_NS, Applied, TrialRules, UpdateSide
from agent.uses import Use
from ecu.clock import SECOND_NS, SteppingClock
from ecu.disk import RealDisk
from ota.denied import Denied
from ota.kinds import Kind
from ota.machine import DEADLINES_NS, State, Way
from ota.manifest import BundleManifest
from ota.trust import Vehicle
from ota.updates import Notice
from tests.agent.road import Nobody
from tests.ota.fleet import CAR, HARDWARE, Fleet

RULES = TrialRules(poll_ns=30 * 86_400 * SECOND_NS, shadow_frames=1, prove_frames=1, prove_ns=30 * SECOND_NS)


class Bus:
    """Uses what it is told to, as far as it is told to."""

    def __init__(self) -> None:
        self.use, self.words = Use.AWAITED, ""

    def use_of(self, folder: Path) -> tuple[Use, str]:
        return self.use, self.words


class Car:
    def __init__(self, side: UpdateSide, clock: SteppingClock, notices: list[Notice], heard: asyncio.Event) -> None:
        self.side = side
        self.clock = clock
        self.notices = notices
        self._heard = heard

    async def until(self, what: str) -> Notice:
        """Seconds go by until that is told."""
        async with asyncio.timeout(30):
            while not (told := [notice for notice in self.notices if notice.what == what]):
                await self.tick(1)
        return told[-1]

    async def tick(self, count: int) -> None:
        """Seconds go by, and what is read or written meanwhile is done: a look takes no time."""
        for _ in range(count):
            self.clock.advance(self.clock.boot_ns() + TICK_NS)
            for _ in range(4):
                await self.side.do(lambda: None)

    def content(self) -> list[bytes]:
        return [(folder / "model.onnx").read_bytes() for folder in self.side.taken(Kind.CONFIG)]


@asynccontextmanager
async def a_car(fleet: Fleet, folder: Path, bus: Bus) -> AsyncIterator[Car]:
    clock, notices, heard = SteppingClock(wall_ns=fleet.clock.wall_ns()), list[Notice](), asyncio.Event()
    side = UpdateSide(
        folder, fleet.roots, Vehicle(CAR, HARDWARE), fleet.source(), {}, Nobody(), RULES, clock, Random(1),
        notices.append, others=[Applied(Kind.CONFIG, bus)],
    )  # fmt: skip
    work = asyncio.create_task(side.run(None))
    try:
        yield Car(side, clock, notices, heard)
    finally:
        work.cancel()
        await asyncio.wait({work})


def release(fleet: Fleet, number: int) -> BundleManifest:
    manifest = fleet.release(f"{number}.0", number, f"plan {number}".encode(), Kind.CONFIG)
    fleet.assign(manifest)
    return manifest


async def keep(fleet: Fleet, folder: Path, number: int) -> None:
    bus = Bus()
    bus.use = Use.USED
    release(fleet, number)
    async with a_car(fleet, folder, bus) as car:
        await car.until("committed")


async def test_a_config_was_not_in_use_while_the_computer_slept(fleet: Fleet, tmp_path: Path) -> None:
    bus = Bus()
    bus.use = Use.USED
    release(fleet, 1)
    async with a_car(fleet, tmp_path / "car", bus) as car:
        await car.until("switched")
        for _ in range(5):
            await car.tick(4)
            car.clock.advance(car.clock.boot_ns() + 3600 * SECOND_NS)
        assert [notice.what for notice in car.notices] == ["staged", "switched"]
        await car.until("committed")


async def test_a_config_is_in_use_while_it_is_tried_and_kept_once_it_was_for_long_enough(
    fleet: Fleet, tmp_path: Path
) -> None:
    await keep(fleet, tmp_path / "car", 1)
    bus = Bus()
    release(fleet, 2)
    async with a_car(fleet, tmp_path / "car", bus) as car:
        await car.until("staged")
        assert car.content() == [b"plan 2", b"plan 1"]
        bus.use = Use.USED
        await car.until("switched")
        await car.tick(10)
        assert not [notice for notice in car.notices if notice.what == "committed"]
        await car.until("committed")
        assert car.content() == [b"plan 2"]


@pytest.mark.parametrize("is_in_use_before", [False, True])
async def test_a_config_that_cannot_be_used_is_denied_and_the_one_before_comes_back(
    fleet: Fleet, tmp_path: Path, is_in_use_before: bool
) -> None:
    await keep(fleet, tmp_path / "car", 1)
    bus = Bus()
    release(fleet, 2)
    async with a_car(fleet, tmp_path / "car", bus) as car:
        await car.until("staged")
        if is_in_use_before:
            bus.use = Use.USED
            await car.until("switched")
        bus.use, bus.words = Use.REFUSED, "group 0: no CAN id"
        told = await car.until("rolled_back")
        assert "group 0: no CAN id" in told.words
        assert told.release is not None
        assert told.release.digest in Denied(RealDisk(tmp_path / "car"))
        assert car.content() == [b"plan 1"]


async def test_a_config_that_nobody_looks_at_is_given_up_and_not_denied(fleet: Fleet, tmp_path: Path) -> None:
    release(fleet, 1)
    async with a_car(fleet, tmp_path / "car", Bus()) as car:
        await car.until("staged")
        await car.tick(DEADLINES_NS[Way.APPLIED][State.STAGED] // SECOND_NS)
        await car.until("inconclusive")
        assert car.content() == []
        assert len(Denied(RealDisk(tmp_path / "car"))) == 0
