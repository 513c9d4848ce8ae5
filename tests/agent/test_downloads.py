"""What comes in counts in the day's book, and a release waits for a network and a day that let it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from agent.cloud import open_network
from agent.updates import TrialRules, UpdateSide
from agent.updatesource import SLICE_BYTES, ReceiverSource
from ecu.clock import SECOND_NS, SteppingClock, SystemClock
from ecu.conditions import Network
from ecu.crashdisk import CrashDisk
from ecu.network import Reach, SettableNetwork
from ota.errors import HeldBack
from ota.kinds import Kind
from ota.layout import file_path
from ota.trust import Vehicle as Whose
from ota.updates import Notice
from telemetry.records import Lane
from telemetry.uplink.daybook import DAY_NS, DayBook
from telemetry.uplink.meter import Meter
from telemetry.uplink.networks import MeteredRule, NetworkConfig
from tests.agent.road import Judge
from tests.agent.test_https import a_rig, answer
from tests.agent.test_learningroom import BENCH
from tests.agent.test_learningroom import Vehicle as Learner
from tests.ota.fleet import HARDWARE, Fleet
from tests.receiver.fleet import a_receiver, a_vehicle

CAR = "veh-001"
OVERHEAD_BYTES = 30_000
"""Of a connection and a handful of questions."""
UNREAD_BYTES = 4 << 20
"""What the kernels of both sides may hold of an answer that nobody reads on."""
AHEAD_BYTES = SLICE_BYTES // 4
HASTY = TrialRules(poll_ns=3600 * SECOND_NS, shadow_frames=1, prove_frames=1, hints_apart_ns=0)


@dataclass
class Road:
    """A vehicle that downloads from a real receiver over whatever network it is told."""

    fleet: Fleet
    meter: Meter
    clock: SteppingClock
    network: SettableNetwork
    disk: CrashDisk
    source: ReceiverSource

    def gone(self, network: str = "metered") -> int:
        return self.meter._days.gone(network, 0)

    def durable(self, network: str = "metered") -> int:
        """What a start after a kill finds."""
        return DayBook.open(self.disk, "n", self.clock, "b").gone(network, 0)


@contextlib.asynccontextmanager
async def on_the_road(tmp_path: Path, metered: MeteredRule) -> AsyncIterator[Road]:
    fleet = Fleet(tmp_path / "fleet", SystemClock())
    clock, disk, network = SteppingClock(), CrashDisk(), SettableNetwork(Network.METERED)
    meter = Meter(clock, NetworkConfig(metered=metered), network, DayBook.open(disk, "n", clock, "b"))
    async with a_receiver(tmp_path, updates=str(fleet.repo)) as receiver:
        vehicle = await a_vehicle(receiver, tmp_path, name=CAR)
        source = ReceiverSource(
            vehicle.paired.host, vehicle.paired.https_port, vehicle.context(), SystemClock(), 10, meter.downloads
        )
        watching = asyncio.create_task(meter.watch())
        try:
            yield Road(fleet, meter, clock, network, disk, source)
        finally:
            watching.cancel()
            source.close()


class InStep:
    """A sender that is never more than AHEAD_BYTES before its reader, until that has had enough."""

    def __init__(self) -> None:
        self._read = 0
        self._is_over = False
        self._changed = threading.Condition()

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._is_over = True
            self._changed.notify()

    def reads(self, total: int) -> None:
        with self._changed:
            self._read = total
            self._changed.notify()

    def waits(self, sent: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self._is_over or sent < self._read + AHEAD_BYTES, 10)


def read(
    source: ReceiverSource, path: str, most: int, into: bytearray, told: Callable[[int], None] = lambda total: None
) -> None:
    for part in source.read(path, len(into), most - len(into)):
        into += part
        told(len(into))


async def test_a_release_stops_within_a_slice_of_the_days_budget_and_goes_on_the_day_after(tmp_path: Path) -> None:
    # Mutation: one question for the whole file, which comes to us whether we read it or not.
    content, rule = os.urandom(3 * SLICE_BYTES + 77), MeteredRule(bytes_per_day=SLICE_BYTES * 3)
    async with on_the_road(tmp_path, rule) as road:
        path = file_path(road.fleet.release("1.0", 1, content=content).files[0].sha256)
        came, bulk = bytearray(), road.source.bulk()
        with pytest.raises(HeldBack) as held:
            await asyncio.to_thread(read, bulk, path, len(content), came)
        assert held.value.until_ns == DAY_NS
        assert len(came) == 2 * SLICE_BYTES
        assert len(came) < road.gone() < rule.bytes_per_day // 2 + SLICE_BYTES + OVERHEAD_BYTES
        assert road.meter.held(Lane.P2) is None, "records have the other half"
        assert road.durable() >= road.gone() - OVERHEAD_BYTES
        road.clock.advance(DAY_NS)
        await asyncio.to_thread(read, bulk, path, len(content), came)
        assert bytes(came) == content


async def test_who_answers_with_the_whole_file_doesnt_pass_the_days_budget_either(tmp_path: Path) -> None:
    # Mutation: asked once for a slice, and behind a proxy that knows no parts all of a release comes.
    clock, disk = SteppingClock(), CrashDisk()
    days = DayBook.open(disk, "n", clock, "b")
    config = NetworkConfig(metered=MeteredRule(bytes_per_day=4 * SLICE_BYTES))
    meter = Meter(clock, config, SettableNetwork(Network.METERED), days)
    async with a_rig(tmp_path) as rig:
        vehicle = rig.vehicle
        source = ReceiverSource(
            vehicle.paired.host, rig.server.port, vehicle.context(), SystemClock(), 10, meter.downloads
        )
        came = bytearray()
        # Else how much lies unread in the kernels' buffers, and counts, is chance.
        step = InStep()
        rig.server.pace = step.waits

        def ask() -> None:
            with step, pytest.raises(HeldBack):
                read(source.bulk(), "files/whole", 8 * SLICE_BYTES, came, step.reads)
            source.close()

        await rig.says([answer(200, os.urandom(8 * SLICE_BYTES))], act=ask)
    assert len(came) == 2 * SLICE_BYTES
    assert days.gone("metered", 0) < 3 * SLICE_BYTES + UNREAD_BYTES
    known = DayBook.open(disk, "n", clock, "b").gone("metered", 0)
    assert known >= len(came)


async def test_what_came_of_a_download_that_was_cut_counts_though_nobody_read_it(tmp_path: Path) -> None:
    async with on_the_road(tmp_path, MeteredRule()) as road:
        path = file_path(road.fleet.release("1.0", 1, content=os.urandom(SLICE_BYTES)).files[0].sha256)

        def cut() -> None:
            parts = road.source.bulk().read(path, 0, SLICE_BYTES)
            next(parts)
            assert road.durable() >= SLICE_BYTES, "flash knows before it comes"
            parts.close()  # type: ignore[attr-defined]

        await asyncio.to_thread(cut)
        assert road.gone() > 64 * 1024


async def test_the_question_what_is_new_goes_and_counts_where_no_release_may_until_p0s_reserve_is_gone(
    tmp_path: Path,
) -> None:
    rule = MeteredRule(bytes_per_day=10_000, p0_bytes_per_day=20_000)
    async with on_the_road(tmp_path, rule) as road:
        road.fleet.assign(road.fleet.release("1.0", 1), vehicle=CAR)

        def ask_on() -> None:
            for _ in range(100):
                read(road.source, "director/timestamp.json", 10_000, bytearray())

        with pytest.raises(HeldBack, match="P0"):
            await asyncio.to_thread(ask_on)
        assert 30_000 <= road.gone() < 40_000


async def test_a_release_waits_for_another_network_and_comes_by_itself_and_a_campaign_waits_for_none(
    tmp_path: Path,
) -> None:
    # Mutation: a wait until the next look, an hour from now; a campaign that waits with the rest.
    async with on_the_road(tmp_path, MeteredRule(downloads=False)) as road:
        fleet, news, notices = road.fleet, asyncio.Event(), list[Notice]()
        fleet.assign(
            fleet.release("1.0", 1, kind=Kind.EVALUATION), fleet.release("1.0", 1, kind=Kind.CAMPAIGN), vehicle=CAR
        )

        def noticed(notice: Notice) -> None:
            notices.append(notice)
            news.set()

        side = UpdateSide(
            tmp_path / "updates", fleet.roots, Whose(CAR, HARDWARE), road.source, {}, Judge(), HASTY, SystemClock(),
            Random(1), noticed, road.source.bulk(), road.meter.until_releases_let,
        )  # fmt: skip
        work = asyncio.create_task(side.run(None))
        try:
            async with asyncio.timeout(20):
                await news.wait()
                while side.status().looks == 0:
                    await asyncio.sleep(0)
                assert [notice.kind for notice in notices] == [Kind.CAMPAIGN]
                waits = side.status().waits
                assert waits is not None
                assert "[network.metered] downloads is false" in waits.words
                assert side.status().trouble == ""
                news.clear()
                road.network.reach = Reach(Network.WIFI, "wlan0")
                road.clock.advance(road.clock.boot_ns() + SECOND_NS)
                await news.wait()
                assert [notice.kind for notice in notices] == [Kind.CAMPAIGN, Kind.EVALUATION]
                while side.status().looks == 1:
                    await asyncio.sleep(0)
            assert side.status().waits is None
        finally:
            work.cancel()
            await asyncio.wait({work})


def test_learning_knows_the_network_that_the_computer_is_on(tmp_path: Path) -> None:
    vehicle = Learner(tmp_path, BENCH, more={"network": {"interfaces": {"*": "metered"}}})
    expected = open_network(vehicle.config.network).now().network
    assert expected in (Network.METERED, Network.NONE)
    assert vehicle.room.conditions.now().network is expected
