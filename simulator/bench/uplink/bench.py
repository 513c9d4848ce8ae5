"""`outrider bench uplink`: what P0 waits behind bulk on a narrow line, what bulk has of it, what a budget lets out."""

from __future__ import annotations

import asyncio
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

from ecu.clock import SECOND_NS
from simulator.bench.metric import Metric
from simulator.bench.uplink.road import LATENCY_NS, OBJECT_BYTES, Road, a_road
from telemetry.records import Lane
from telemetry.uplink.networks import NetworkConfig, NetworkRule

MBIT_S: Final = 1.0
BYTES_PER_S: Final = MBIT_S * 1e6 / 8
BULK_OBJECTS: Final = 20
ALERT_EVERY_S: Final = 1.0
BACKLOG_BLOCKS: Final = 200
BLOCK_BYTES: Final = 19_500
"""Ten seconds of 50 signals."""
BUDGET_BYTES: Final = 1_000_000
_LINE: Final = f"{MBIT_S:g} Mbit/s by a paced proxy, a queue of 1 s, {2 * LATENCY_NS / 1e6:g} ms round trip"


@dataclass(frozen=True, slots=True)
class Felt:
    """What a run over the line was like. `alerts_s` from offered to receipted, in order."""

    alerts_s: list[float]
    lasted_s: float
    bulk_bytes: int
    alert_wire_bytes: int


@dataclass(frozen=True, slots=True)
class Budgeted:
    """`wire_bytes` is all that a passive ear on the line would have counted."""

    wire_bytes: int
    counted_bytes: int
    slice_bytes: int


def run(scale: float = 1.0) -> list[Metric]:
    """About three minutes; `scale` shortens all of it."""
    with tempfile.TemporaryDirectory(prefix="outrider-bench-") as folder:
        bulk = asyncio.run(p0_while_bulk_drains(Path(folder) / "bulk", max(1, round(BULK_OBJECTS * scale))))
        drained = asyncio.run(backlog_drains(Path(folder) / "backlog", max(20, round(BACKLOG_BLOCKS * scale))))
        budgeted = asyncio.run(budget_ends(Path(folder) / "budget"))
    return [*_bulk(bulk), *_drained(drained), *_budget(budgeted)]


async def p0_while_bulk_drains(folder: Path, objects: int, bytes_per_s: float = BYTES_PER_S) -> Felt:
    folder.mkdir(parents=True, exist_ok=True)
    async with a_road(folder, bytes_per_s) as road:
        for _ in range(objects):
            road.bulk()
        async with road.sending():
            await _connected(road)
            began_ns, before = road.clock.boot_ns(), road.records_way.counters.up_bytes
            alerts = asyncio.ensure_future(_alerts(road))
            await _drained_objects(road)
            lasted_s = (road.clock.boot_ns() - began_ns) / SECOND_NS
            alerts.cancel()
            waited = await alerts
        return Felt(waited, lasted_s, objects * OBJECT_BYTES, road.records_way.counters.up_bytes - before)


async def backlog_drains(folder: Path, blocks: int, bytes_per_s: float = BYTES_PER_S) -> Felt:
    """Signals of a drive without a network, once there is one."""
    folder.mkdir(parents=True, exist_ok=True)
    async with a_road(folder, bytes_per_s) as road:
        for _ in range(blocks):
            road.samples(BLOCK_BYTES)
            await road.spool.flush()
        async with road.sending():
            await _connected(road)
            began_ns, before = road.clock.boot_ns(), road.stored(Lane.P2)
            alerts = asyncio.ensure_future(_alerts(road))
            await road.until_stored(Lane.P2, blocks)
            lasted_s = (road.clock.boot_ns() - began_ns) / SECOND_NS
            alerts.cancel()
            waited = await alerts
        return Felt(waited, lasted_s, (blocks - before) * BLOCK_BYTES, 0)


async def budget_ends(folder: Path, bytes_per_s: float = BYTES_PER_S, budget: int = BUDGET_BYTES) -> Budgeted:
    """Twice the day's bytes wait; a slice's time after nothing more goes, the line was counted."""
    folder.mkdir(parents=True, exist_ok=True)
    networks = NetworkConfig(wifi=NetworkRule(bytes_per_day=budget))
    async with a_road(folder, bytes_per_s, networks) as road:
        for _ in range(2 * budget // OBJECT_BYTES + 1):
            road.bulk()
        async with road.sending():
            while road.meter.held(Lane.P3) is None or road.object_uplink.status().state.value != "held_back":
                await asyncio.sleep(0.05)
            await asyncio.sleep(1.0)
            counted = road.meter.status().gone_bytes
            return Budgeted(road.wire_bytes, counted, road.meter.slice_bytes)


async def _connected(road: Road) -> None:
    while not road.uplink.status().connected:
        await asyncio.sleep(0.01)


async def _drained_objects(road: Road) -> None:
    while road.objects.oldest() is not None:
        await asyncio.sleep(0.01)


async def _alerts(road: Road) -> list[float]:
    """One after the other, at times that nothing else keeps; ends when cancelled."""
    waited: list[float] = []
    chance = Random(5)
    try:
        while True:
            await asyncio.sleep(ALERT_EVERY_S * chance.uniform(0.5, 1.5))
            waited.append(await alert_s(road, len(waited) + 1))
    except asyncio.CancelledError:
        return waited


async def alert_s(road: Road, number: int) -> float:
    """From offered to receipted, of the road's alert of that number."""
    began_ns = road.clock.boot_ns()
    road.alert()
    await road.until_stored(Lane.P0, number)
    return (road.clock.boot_ns() - began_ns) / SECOND_NS


def percentile(values: list[float], share: float) -> float:
    """By nearest rank."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def _bulk(felt: Felt) -> list[Metric]:
    left_bytes = BYTES_PER_S * felt.lasted_s - felt.alert_wire_bytes
    what = f"{len(felt.alerts_s)} alerts of about 200 B while {felt.bulk_bytes / 1e6:.0f} MB of objects drain; {_LINE}"
    how = "bytes of objects over what the line carried less all of P0's wire bytes"
    return [
        Metric("P0 p99, offered to receipt", percentile(felt.alerts_s, 0.99), "s", what, 1.0),
        Metric("P0 p50, offered to receipt", percentile(felt.alerts_s, 0.5), "s", "50 ms of it is P0's commit"),
        Metric("bulk's part of what P0 leaves", felt.bulk_bytes / left_bytes, "", how, 0.9, "at least"),
    ]  # fmt: skip


def _drained(felt: Felt) -> list[Metric]:
    share = felt.bulk_bytes / felt.lasted_s / BYTES_PER_S
    day_min = 8640 * BLOCK_BYTES / (share * BYTES_PER_S) / 60
    how = (
        f"{felt.bulk_bytes / 1e6:.1f} MB of signal blocks of {BLOCK_BYTES:,} B, encryption and TLS aside; {_LINE}; "
        f"so a day's {8640 * BLOCK_BYTES / 1e6:.0f} MB take {day_min:.0f} min"
    )
    alerts = f"{len(felt.alerts_s)} alerts meanwhile; their bytes are the backlog's loss"
    return [
        Metric("backlog over the line's rate", share, "", how, 0.95, "at least"),
        Metric("P0 p99 while a backlog drains", percentile(felt.alerts_s, 0.99), "s", alerts, 1.0),
    ]


def _budget(felt: Budgeted) -> list[Metric]:
    over = (felt.wire_bytes - BUDGET_BYTES) / felt.slice_bytes
    how = f"slices of {felt.slice_bytes:,} B by which {felt.wire_bytes:,} wire bytes passed a day of {BUDGET_BYTES:,}"
    counted = f"{felt.counted_bytes:,} bytes counted, headers of IP and TCP among them, over those that the proxies saw"
    return [
        Metric("budget's overshoot", max(0.0, over), "slices", how, 1.0),
        Metric("counted over seen", felt.counted_bytes / felt.wire_bytes, "x", counted, 1.0, "at least"),
    ]
