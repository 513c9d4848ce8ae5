"""Vehicles with the agent's own update side, over the network, against a receiver that runs a rollout: from the hint
to the signed manifest that opens the next wave, and to the halt after which a trial is given up."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import msgspec

from agent.updates import TICK_NS, Applied, TrialRules, UpdateSide
from agent.updatesource import ReceiverSource
from agent.uses import Use
from ecu.clock import SteppingClock, SystemClock
from ota.kinds import Kind
from ota.manifest import BundleManifest
from ota.trust import Roots
from ota.trust import Vehicle as Whose
from ota.updates import Notice
from receiver.rollouts.answers import RolloutLine, SignRequest, StartRequest, StopRequest
from receiver.rollouts.approval import make_key, sign
from receiver.rollouts.rules import Rules
from receiver.service import Receiver
from telemetry.links.mqtt import MqttLink
from telemetry.records import Lane, Purpose, Stored, UpdateReport, encode_event
from telemetry.wire import CODEC_RECORDS_ZSTD, NO_DICTIONARY, BlockHeader, pack_block, pack_body
from tests.agent.road import Nobody
from tests.agent.test_applied import Bus
from tests.ota.fleet import DAY_NS, HARDWARE, Fleet
from tests.receiver.fleet import EPOCH, Vehicle, a_receiver, a_vehicle

CARS = tuple(f"veh-{number}" for number in range(4))
RULES = Rules(waves=(50.0, 100.0), first_percent=50.0, bad=0.9, let_through=0.2, false_halt=0.5, soak_s=0.0)
"""Two of four are the first wave; both keeping it is enough, and one that fails is too much."""
TRIAL = TrialRules(
    poll_ns=30 * DAY_NS, shadow_frames=1, prove_frames=1, hints_apart_ns=2 * TICK_NS, prove_ns=2 * TICK_NS
)


@dataclass
class Car:
    """On the road: what it is told by its link it does, and what it does it tells."""

    vehicle: Vehicle
    side: UpdateSide
    bus: Bus
    link: MqttLink
    clock: SteppingClock
    noticed: list[str] = field(default_factory=list)
    told: int = 0

    def notice(self, notice: Notice) -> None:
        release = notice.release
        self.noticed.append("given up" if "no longer wants it" in notice.words else notice.what)
        self._waiting.append(
            UpdateReport(
                notice.what, notice.kind or "", release.title if release else "", release.digest if release else "",
                notice.attack or "", notice.words, notice.manifest,
            )
        )  # fmt: skip

    _waiting: list[UpdateReport] = field(default_factory=list)

    async def tell(self) -> None:
        """What it noticed, as the spool would bring it: stored when this returns."""
        while self._waiting:
            body = pack_body([Stored(1, 0, msgspec.Raw(encode_event(self._waiting.pop(0))))])
            header = BlockHeader(
                Lane.P1, Purpose.OPERATION, EPOCH, self.told, 1, CODEC_RECORDS_ZSTD, NO_DICTIONARY, len(body)
            )
            self.told += 1
            await self.link.publish(Lane.P1, pack_block(header, body))

    async def heed(self) -> None:
        async for _ in self.link.hints():
            self.side.hint()


@contextlib.asynccontextmanager
async def a_car(receiver: Receiver, folder: Path, name: str) -> AsyncIterator[Car]:
    vehicle = await a_vehicle(receiver, folder, name)
    paired, clock, bus, notices = vehicle.paired, SteppingClock(wall_ns=time.time_ns()), Bus(), list[Notice]()
    source = ReceiverSource(paired.host, paired.https_port, vehicle.context(), SystemClock())
    roots = Roots(paired.director_root.encode(), paired.image_root.encode())
    hear: Callable[[Notice], None] = notices.append
    side = UpdateSide(
        folder / name / "updates", roots, Whose(name, HARDWARE), source, {}, Nobody(), TRIAL, clock, Random(1),
        lambda notice: hear(notice), others=[Applied(Kind.CONFIG, bus)], signer=vehicle.keys,
    )  # fmt: skip
    car = Car(vehicle, side, bus, vehicle.link(), clock)
    hear = car.notice
    await car.link.connect()
    work = [asyncio.ensure_future(one) for one in (side.run(None), car.heed())]
    try:
        yield car
    finally:
        for task in work:
            task.cancel()
        await asyncio.wait(work)
        await car.link.close()


@dataclass
class World:
    receiver: Receiver
    fleet: Fleet
    people: Path
    cars: dict[str, Car]

    async def begin(self, release: BundleManifest, name: str = "r1") -> None:
        desk = self.receiver.rollouts
        await desk.start(StartRequest(name, release.target, "anna", RULES))
        for who in ("anna", "ben"):
            signature = sign(self.people / f"{who}.pem", await desk.statement(name, "approve"))
            await desk.sign(name, SignRequest("approve", who, signature.hex()))

    async def line(self, name: str = "r1") -> RolloutLine:
        (line,) = await self.receiver.rollouts.lines(name)
        return line

    async def until(self, reached: Callable[[], Awaitable[bool]]) -> None:
        """Seconds go by in every vehicle until that is so."""
        async with asyncio.timeout(30):
            while not await reached():
                for car in self.cars.values():
                    car.clock.advance(car.clock.boot_ns() + TICK_NS)
                    await car.tell()
                # A trial lasts ten of their minutes: the receiver gets round to it before, on a slow computer too.
                await asyncio.sleep(0.05)

    async def until_noticed(self, what: str, count: int) -> list[str]:
        """Who noticed that, once so many have."""

        def those() -> list[str]:
            return [name for name, car in self.cars.items() if what in car.noticed]

        async def enough() -> bool:
            return len(those()) >= count

        await self.until(enough)
        return those()


@contextlib.asynccontextmanager
async def a_world(tmp_path: Path) -> AsyncIterator[World]:
    fleet = Fleet(tmp_path / "fleet", SystemClock())
    for who in ("anna", "ben"):
        make_key(who, tmp_path / "people")
    keys, people = str(fleet.folder / "keys"), tmp_path / "people"
    async with contextlib.AsyncExitStack() as stack:
        run = a_receiver(tmp_path, updates=str(fleet.repo), director_keys=keys, operators=str(people))
        receiver = await stack.enter_async_context(run)
        cars = {name: await stack.enter_async_context(a_car(receiver, tmp_path, name)) for name in CARS}
        yield World(receiver, fleet, people, cars)


def a_release(fleet: Fleet, number: int = 1) -> BundleManifest:
    return fleet.release(f"{number}.0", number, f"plan {number}".encode(), Kind.CONFIG)


async def test_from_the_hint_to_the_signed_manifest_that_opens_the_next_wave(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        for car in world.cars.values():
            car.bus.use = Use.USED
        await world.begin(a_release(world.fleet))
        first = await world.until_noticed("committed", 2)
        assert len(first) == 2, "the others' turn comes by what these say"

        async def is_done() -> bool:
            return world.receiver.counters.rollout_reports == len(CARS) and (await world.line()).state == "done"

        await world.until(is_done)
        (its,) = (await world.line()).strata
        assert (its.listed, its.committed, its.failed) == (4, 4, 0)
        assert world.receiver.counters.rollout_reports_unproven == 0
        assert all(car.noticed.count("committed") == 1 for car in world.cars.values())


async def test_a_cancel_and_a_halt_reach_who_tries_it_at_its_next_look_and_nobody_else_ever_gets_it(
    tmp_path: Path,
) -> None:
    async with a_world(tmp_path) as world:
        await world.begin(a_release(world.fleet, 1))
        trying = await world.until_noticed("staged", 2)
        await world.receiver.rollouts.stop("r1", StopRequest("cancel", "anna"))
        assert await world.until_noticed("given up", 2) == trying
        assert [name for name, car in world.cars.items() if car.noticed] == trying
        for car in world.cars.values():
            car.noticed.clear()
        await world.begin(a_release(world.fleet, 2), "r2")
        trying = await world.until_noticed("staged", 2)
        bad, other = (world.cars[name] for name in trying)
        bad.bus.use, bad.bus.words = Use.REFUSED, "no such CAN id"
        assert await world.until_noticed("rolled_back", 1) == [bad.vehicle.name]
        assert await world.until_noticed("given up", 1) == [other.vehicle.name]
        line = await world.line("r2")
        assert (line.state, line.strata[0].listed, line.strata[0].committed) == ("halted", 0, 0)
        assert [name for name, car in world.cars.items() if car.noticed] == trying
