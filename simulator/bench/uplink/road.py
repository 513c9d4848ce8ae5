"""A vehicle's spool, objects and both uplinks, and a receiver behind one narrow line that they share."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

from agent.objectlink import HttpsObjectLink
from ecu.clock import MILLISECOND_NS, SystemClock
from ecu.conditions import Network
from ecu.disk import RealDisk
from ecu.keys import MemoryKeyStore
from ecu.network import SettableNetwork
from simulator.bench.link.fleet import a_fleet, vehicle_in
from simulator.faults.net import Bottleneck, FaultProxy, Flow
from telemetry.links.mqtt import MqttLink
from telemetry.objects import ObjectsConfig
from telemetry.objects.memory import MemoryObjects
from telemetry.objects.uplink import ObjectUplink
from telemetry.records import HardBrake, Lane, Purpose, Record, SignalBlock, record_of
from telemetry.spool import Spool, SpoolKeeper, SpoolLimits
from telemetry.spool.counts import MemoryCounters
from telemetry.uplink.meter import Meter
from telemetry.uplink.networks import NetworkConfig
from telemetry.uplink.uplink import Uplink

QUEUE_BYTES: Final = 128 * 1024
"""A modem's, in proportion: a second of a line of 1 Mbit/s."""
LATENCY_NS: Final = 15 * MILLISECOND_NS
"""Each way."""
OBJECT_BYTES: Final = 1024 * 1024
OBJECTS: Final = ObjectsConfig(bytes_per_s=1e9)


@dataclass(frozen=True, slots=True)
class Road:
    """`line` is the narrow one; `records_way` and `objects_way` stand at its beginning."""

    line: Bottleneck
    records_way: FaultProxy
    objects_way: FaultProxy
    spool: SpoolKeeper
    objects: MemoryObjects
    uplink: Uplink
    object_uplink: ObjectUplink
    meter: Meter
    clock: SystemClock

    @property
    def wire_bytes(self) -> int:
        """All that went both ways, TLS and MQTT and HTTP included."""
        ways = self.records_way.counters, self.objects_way.counters
        return sum(way.up_bytes + way.down_bytes for way in ways)

    def alert(self) -> None:
        """About 200 B of P0."""
        signals = {"Vehicle.Speed": 83.5, "Vehicle.CurrentLocation.Heading": 12.0}
        self.spool.offer(record_of(self.clock.boot_ns(), HardBrake(6.5, 83.5, signals)))

    def samples(self, size: int) -> None:
        """A block of signals in P2."""
        block = SignalBlock("drive", 1, os.urandom(size))
        self.spool.offer(Record(Lane.P2, Purpose.DRIVING, self.clock.boot_ns(), block))

    def bulk(self, size: int = OBJECT_BYTES) -> None:
        """An object."""
        self.objects.add(os.urandom(size))

    def stored(self, lane: Lane) -> int:
        """Records of the lane that the receiver has said it stored."""
        return next(counts.acknowledged for counts in self.spool.counts().lanes if counts.lane is lane)

    async def until_stored(self, lane: Lane, records: int) -> None:
        while self.stored(lane) < records:
            left = asyncio.ensure_future(self.spool.left())
            if self.stored(lane) >= records:
                left.cancel()
                return
            await left

    @contextlib.asynccontextmanager
    async def sending(self) -> AsyncIterator[None]:
        """Both uplinks, and the spool's commits."""
        works = [self.uplink.run(), self.object_uplink.run(), self.spool.run(), self.meter.watch()]
        tasks = [asyncio.ensure_future(work) for work in works]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def a_road(
    folder: Path, bytes_per_s: float, networks: NetworkConfig | None = None, meter: Meter | None = None
) -> AsyncIterator[Road]:
    """Not sending yet. `networks` may limit what goes over Wi-Fi."""
    clock = SystemClock()
    line = Bottleneck(bytes_per_s, QUEUE_BYTES, clock)
    meter = meter or Meter(clock, networks, SettableNetwork(Network.WIFI))
    with a_fleet(folder, 1) as fleet:
        paired, context = vehicle_in(fleet.vehicles[0])
        async with (
            FaultProxy(paired.host, paired.mqtt_port, clock, bottleneck=line) as records_way,
            FaultProxy(paired.host, paired.https_port, clock, bottleneck=line) as objects_way,
        ):
            for way in (records_way, objects_way):
                way.shape(up=Flow(LATENCY_NS), down=Flow(LATENCY_NS))
            spool = SpoolKeeper(_a_spool(folder, clock), clock)
            objects = MemoryObjects()
            link = MqttLink(paired.host, records_way.port, paired.vehicle, context, clock, timeout_s=60.0)
            first, second = (HttpsObjectLink(paired.host, objects_way.port, context, clock) for _ in range(2))
            yield Road(
                line, records_way, objects_way, spool, objects,
                Uplink(link, spool, clock, Random(1), meter=meter),
                ObjectUplink(first, objects, clock, Random(2), OBJECTS, meter=meter, second=second),
                meter, clock,
            )  # fmt: skip
            await spool.close(10**10)


def _a_spool(folder: Path, clock: SystemClock) -> Spool:
    disk = RealDisk(folder / "spool")
    return Spool.open(disk, MemoryKeyStore(), clock, os.urandom, SpoolLimits(), MemoryCounters())
