"""A minute of a real drive, every frame of its buses: captured by a campaign, spooled, sent, stored, and read back to
the last bit."""

from __future__ import annotations

import asyncio
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from agent.signals.capturing import Capturing
from ecu.clock import SECOND_NS, SystemClock
from ecu.disk import RealDisk
from ecu.keys import MemoryKeyStore
from receiver.store import FILE
from simulator.demo.proofs import stored_records
from telemetry.capture.campaigns.book import CampaignBook, MemoryShelf
from telemetry.capture.campaigns.floor import CampaignFloor
from telemetry.columns.block import decode
from telemetry.privacy.policy import PrivacyPolicy
from telemetry.records import Purpose, Record, SignalBlock, decode_event
from telemetry.signals.frames import Frames, by_id, concat
from telemetry.signals.plan import Cut, GroupCut, SignalPlan
from telemetry.signals.recording import open_recording
from telemetry.signals.schema import Form, Group, Schema, SignalSpec
from telemetry.spool import Spool, SpoolKeeper, SpoolLimits
from telemetry.spool.counts import MemoryCounters
from telemetry.spool.format import max_wire_bytes
from telemetry.spool.packing import max_event_bytes
from telemetry.uplink import Uplink
from tests.receiver.fleet import VEHICLE, a_receiver, a_vehicle

MINUTE = Path(__file__).parents[2] / "simulator" / "drives" / "comma2k19-rav4.frames"
FRAMES = 135_468
STEP_NS = 50_000_000
PLENTY = CampaignFloor(
    bytes_per_day=1 << 40,
    flash_bytes_per_day=1 << 40,
    ring_bytes=1 << 28,
    evaluations_per_s=1 << 20,
    work_per_s=1 << 20,
)


def whole_frames(frames: Frames) -> SignalPlan:
    """Each message's eight bytes as one number: nothing of the bus is left out, known to a DBC or not."""
    groups, cuts = [], []
    for bus, can_id, rows in by_id(frames):
        span_us = int(frames.t_ns[rows[-1]] - frames.t_ns[rows[0]]) // 1000
        name = f"Vehicle.Private.B{bus}.I{can_id:X}"
        groups.append(Group(name, (SignalSpec(name, Form.UINT),), max(1000, span_us // max(1, len(rows) - 1) // 2)))
        cuts.append(GroupCut(bus, can_id, (), (Cut(0, 64),)))
    return SignalPlan(Schema(tuple(groups)), tuple(cuts))


def everything(plan: SignalPlan) -> bytes:
    campaign = {
        "name": "everything", "revision": 1, "purpose": "driving", "lane": "p2", "not_after": 1 << 40,
        "trigger": {"kind": "periodic", "period_ms": 10_000},
        "signals": [{"path": group.name} for group in plan.schema.groups],
        "budget": {"bytes_per_day": 1 << 38},
    }  # fmt: skip
    return json.dumps({"revision": 1, "campaigns": [campaign]}).encode()


def captured(frames: Frames, plan: SignalPlan, longest_event: int) -> Iterator[Record]:
    """As the signals process does it, a step after the other."""
    privacy = PrivacyPolicy(consents=frozenset(Purpose))
    capturing = Capturing(plan, privacy, PLENTY, CampaignBook(None, MemoryShelf(), 0), longest_event)
    capturing.take(everything(plan), int(frames.t_ns[0]) - 1, None)
    for until_ns in range(int(frames.t_ns[0]), int(frames.t_ns[-1]) + STEP_NS, STEP_NS):
        first, last = np.searchsorted(frames.t_ns, [until_ns - STEP_NS, until_ns], side="right")
        capturing.hear(frames.rows(slice(int(first), int(last))))
        yield from capturing.step(until_ns).records
    yield from capturing.close(until_ns).records
    counts = capturing.counts()["everything"]
    assert counts["samples"] == FRAMES
    assert not any(number for name, number in counts.items() if name.startswith("untold"))


Rows = dict[str, tuple[NDArray[Any], NDArray[Any]]]


def sent(frames: Frames) -> Rows:
    """By path the times and the eight bytes, as they were recorded."""
    values = frames.data.view("<u8").ravel()
    return {
        f"Vehicle.Private.B{bus}.I{can_id:X}": (frames.t_ns[rows], values[rows])
        for bus, can_id, rows in by_id(frames)
    }  # fmt: skip


def read_back(events: Iterable[SignalBlock]) -> Rows:
    found: defaultdict[str, list[tuple[NDArray[Any], NDArray[Any]]]] = defaultdict(list)
    for event in events:
        block = decode(event.columns, lambda digest: None)
        for part in block.parts:
            [values] = part.values
            assert values is not None
            found[block.schema.groups[part.group].signals[0].path].append((part.t_ns, values))
    return {
        path: (np.concatenate([t for t, _ in parts]), np.concatenate([v for _, v in parts]))
        for path, parts in found.items()
    }


@pytest.mark.timeout(90)
async def test_a_real_minute_comes_back_to_the_last_bit_and_microsecond(tmp_path: Path) -> None:
    frames = concat(list(open_recording(MINUTE.read_bytes()).chunks()))
    assert len(frames) == FRAMES
    limits, clock = SpoolLimits(), SystemClock()
    spool = Spool.open(
        RealDisk(tmp_path / "spool"), MemoryKeyStore(), clock, os.urandom, limits, MemoryCounters()
    )  # fmt: skip
    keeper = SpoolKeeper(spool, clock)
    for record in captured(frames, whole_frames(frames), max_event_bytes(max_wire_bytes(limits.segment_bytes))):
        assert keeper.offer(record)
        await keeper.flush()
    async with a_receiver(tmp_path) as receiver:
        vehicle = await a_vehicle(receiver, tmp_path)
        uplink = asyncio.create_task(Uplink(vehicle.link(), keeper, clock, Random(1)).run())
        while keeper.any_spooled:
            left = asyncio.create_task(keeper.left())
            await asyncio.wait({left, uplink}, return_when=asyncio.FIRST_COMPLETED)
            assert not uplink.done()
        uplink.cancel()
        await asyncio.gather(uplink, return_exceptions=True)
    await keeper.close(SECOND_NS)
    stored = [record.record for record in stored_records(tmp_path / "receiver" / FILE, VEHICLE)]
    events = [decode_event(bytes(record.event)) for record in stored]
    found, wanted = read_back(event for event in events if isinstance(event, SignalBlock)), sent(frames)
    assert found.keys() == wanted.keys()
    for path, (times, values) in wanted.items():
        np.testing.assert_array_equal(found[path][0], times // 1000 * 1000)
        np.testing.assert_array_equal(found[path][1], values)
