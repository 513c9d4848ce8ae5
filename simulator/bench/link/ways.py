"""Throughput through each link, SDK and all, to its own peer on this machine: a row for each block size.

A new link is a new `Way`: what must be installed, and how to come by a connected one.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import math
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ecu.clock import SystemClock
from ecu.errors import EnvironmentFault
from simulator.bench.link import clouds
from simulator.bench.link.blocks import BlockKind, make_blocks
from simulator.bench.link.fleet import a_fleet, vehicle_in
from simulator.bench.metric import Metric, unless
from telemetry.links.link import Link
from telemetry.links.mqtt import MqttLink
from telemetry.records import Lane

IN_FLIGHT: Final = 16
"""As the uplink's own links have it."""
_UNIT: Final = "blocks/s"
_BLOCKS: Final = {BlockKind.SMALL: 6_000, BlockKind.LARGE: 400}


@dataclass(frozen=True, slots=True)
class Way:
    """`open` takes an empty folder and gives a connected link, its peer around it."""

    name: str
    needs: str  # a module; its extra has the way's name
    how: str
    open: Callable[[Path], AbstractAsyncContextManager[Link]]

    @property
    def is_installed(self) -> bool:
        try:
            return importlib.util.find_spec(self.needs) is not None
        except ModuleNotFoundError:  # not even the package around it
            return False


@contextlib.asynccontextmanager
async def _mqtt(folder: Path) -> AsyncIterator[Link]:
    with a_fleet(folder, 1) as fleet:
        paired, context = vehicle_in(fleet.vehicles[0])
        link = MqttLink(
            paired.host, paired.mqtt_port, paired.vehicle, context, SystemClock(), timeout_s=60.0, in_flight=IN_FLIGHT
        )
        await link.connect()
        try:
            yield link
        finally:
            await link.close()


@contextlib.asynccontextmanager
async def _aws(folder: Path) -> AsyncIterator[Link]:
    async with clouds.aws(folder, IN_FLIGHT) as link:
        yield link


@contextlib.asynccontextmanager
async def _azure(folder: Path) -> AsyncIterator[Link]:
    async with clouds.azure(folder, IN_FLIGHT) as link:
        yield link


WAYS: Final = (
    Way("mqtt", "paho.mqtt", "paho to our endpoint, stored", _mqtt),
    Way("aws", "awsiot", "awsiotsdk to mosquitto, accepted, without AWS's quotas", _aws),
    Way("azure", "azure.iot.device", "azure-iot-device to a double in the same process, accepted", _azure),
)


def rows() -> list[Metric]:
    return [metric for way in WAYS for metric in _rows(way)]


def _rows(way: Way) -> list[Metric]:
    if not way.is_installed:
        return _missing(way, f"{way.needs} isn't installed here (pip install 'outrider[{way.name}]')")
    try:
        return asyncio.run(_measured(way))
    except EnvironmentFault as missing:  # its peer isn't installed
        return _missing(way, str(missing))


def _missing(way: Way, why: str) -> list[Metric]:
    return unless(why, *(Metric(_title(way, kind), math.nan, _UNIT, way.how) for kind in BlockKind))


def _title(way: Way, kind: BlockKind) -> str:
    return f"{way.name} link, {kind.value} blocks"


async def _measured(way: Way) -> list[Metric]:
    with tempfile.TemporaryDirectory(prefix="outrider-bench-") as folder:
        async with way.open(Path(folder)) as link:
            return [metric for kind in BlockKind for metric in await _rows_of(way, link, kind)]


async def _rows_of(way: Way, link: Link, kind: BlockKind) -> list[Metric]:
    blocks = make_blocks(kind, _BLOCKS[kind], first_seq=0 if kind is BlockKind.SMALL else 1_000_000)
    cpu_ns, began_ns = time.process_time_ns(), time.monotonic_ns()
    await publish_all(link, blocks, IN_FLIGHT)
    seconds, cpu_s = (time.monotonic_ns() - began_ns) / 1e9, (time.process_time_ns() - cpu_ns) / 1e9
    bytes_sent = sum(map(len, blocks))
    what = f"{way.how}; {len(blocks):,} blocks of {bytes_sent // len(blocks):,} B, {IN_FLIGHT} in flight"
    speed, cost_us = bytes_sent / seconds / 2**20, cpu_s * 1e6 / len(blocks)
    how = f"{what}; {speed:.1f} MiB/s, {cost_us:.0f} us of the vehicle's CPU a block"
    return [Metric(_title(way, kind), len(blocks) / seconds, _UNIT, how)]


async def publish_all(link: Link, blocks: list[bytes], at_once: int) -> None:
    """Each block once, `at_once` of them at a time."""
    left = iter(blocks)

    async def publisher() -> None:
        for block in left:
            await link.publish(Lane.P1, block)

    async with asyncio.TaskGroup() as publishers:
        for _ in range(at_once):
            publishers.create_task(publisher())
