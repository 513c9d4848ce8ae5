"""The uplink's benchmark, shorter and on a faster line: the real uplinks and receiver, and a fault to notice."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ecu.clock import SECOND_NS, SystemClock
from ecu.conditions import Network
from ecu.network import Reach, SettableNetwork
from simulator.bench.uplink import bench
from simulator.bench.uplink.road import a_road
from simulator.faults.net import Bottleneck
from telemetry.objects.status import ObjectUplinkState
from telemetry.uplink.meter import Meter
from telemetry.uplink.networks import NetworkConfig
from telemetry.uplink.speed import Speed
from tests.receiver.fleet import until

FAST_BYTES_PER_S = 500_000.0


async def test_a_line_carries_no_faster_than_its_rate_and_holds_no_more_than_its_queue() -> None:
    clock = SystemClock()
    line = Bottleneck(100_000.0, 5_000, clock)
    began_ns = clock.boot_ns()
    passed_ns = [await line.carry(1_000) for _ in range(30)]
    ahead_ns = passed_ns[-1] - clock.boot_ns()
    assert passed_ns[-1] - began_ns >= 30 * SECOND_NS // 100
    assert ahead_ns <= SECOND_NS // 20
    assert line.carried_bytes == 30_000


class Greedy(Speed):
    """Takes every line for one that carries a lot."""

    @property
    def slice_bytes(self) -> int:
        return 256 * 1024


@pytest.mark.soak
@pytest.mark.timeout(120)
async def test_slices_that_do_not_heed_the_line_are_noticed(tmp_path: Path) -> None:
    meter = Meter(SystemClock(), NetworkConfig(), SettableNetwork(Network.WIFI))
    meter._speed = Greedy()
    async with a_road(tmp_path, bench.BYTES_PER_S, meter=meter) as road:
        for _ in range(3):
            road.bulk()
        async with road.sending():
            alerts = asyncio.ensure_future(bench._alerts(road))
            await bench._drained_objects(road)
            alerts.cancel()
            assert bench.percentile(await alerts, 0.99) > 1.0


async def test_p0_gets_through_while_bulk_drains_and_alone_once_the_network_costs(tmp_path: Path) -> None:
    # Mutation: looking at the network once an object lets the rest of it out over the costly one.
    network = SettableNetwork(Network.WIFI)
    meter = Meter(SystemClock(), NetworkConfig(), network)
    async with a_road(tmp_path, FAST_BYTES_PER_S, meter=meter) as road:
        for _ in range(2):
            road.bulk()
        async with road.sending():
            sent = road.object_uplink.status
            await until(lambda: sent().counts.slices_sent >= 4)
            alerts = [await bench.alert_s(road, number) for number in (1, 2)]
            network.reach = Reach(Network.METERED, "wwan0")
            began = sent().counts.bytes_sent
            await until(lambda: sent().state is ObjectUplinkState.HELD_BACK)
            alerts += [await bench.alert_s(road, number) for number in (3, 4, 5)]
            # No more than were under way: one on the line, and one whose answer was.
            assert sent().counts.bytes_sent - began <= 2 * 1.2 * FAST_BYTES_PER_S / 4
            assert sent().state is ObjectUplinkState.HELD_BACK
            assert road.objects.oldest() is not None
            assert max(alerts) <= 1.0


@pytest.mark.soak
async def test_no_more_than_the_day_allows_is_on_the_line(tmp_path: Path) -> None:
    felt = await bench.budget_ends(tmp_path, FAST_BYTES_PER_S, budget=500_000)
    assert 500_000 * 0.8 <= felt.wire_bytes <= 500_000 + felt.slice_bytes
    assert felt.counted_bytes >= felt.wire_bytes
