"""How time goes on in the signals process: with its bus, without it, and after it stood still."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from agent.signals.messages import (
    Admission,
    Captured,
    Finish,
    FromSignals,
    Item,
    SignalsStatus,
    Told,
    ToSignals,
    Values,
    Wanted,
    Work,
)
from agent.signals.process import MOST_WAITING, MOST_WAITING_BYTES, TICK_NS, SignalProcess, _portion
from ecu.channel import Done, pair
from ecu.clock import SECOND_NS, SteppingClock
from telemetry.privacy.policy import PrivacyPolicy
from telemetry.records import Lane, Purpose, Record, Triggered, decode_event
from telemetry.signals.conversation import Conversation
from telemetry.signals.framesource import LIMITS
from telemetry.signals.messages import Begin, SourceHello
from telemetry.signals.plan import encode_plan
from telemetry.signals.unixbus import message_of
from tests.agent.signals.bus import MS, PEDAL, PLAN, SPEED, STEADY, campaign, campaigns, drive
from tests.agent.signals.test_capturing import FLOOR, told_of

BOOT_NS = 10**15
"""The computer has been on for some days when the process begins."""


class Vehicle:
    """A signals process, and its two other ends: the agent's and the bus's, if there is one."""

    def __init__(self, folder: Path, has_bus: bool) -> None:
        self.clock = SteppingClock(BOOT_NS)
        self._has_bus = has_bus
        self.heard: list[FromSignals] = []
        (folder / "signals.plan").write_bytes(encode_plan(PLAN))
        self._door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._door.bind(str(folder / "bus"))
        self._door.listen()
        self._door.setblocking(False)
        ours, theirs = pair()
        self.agent: Conversation[Any] = Conversation(ours, FromSignals)
        self.bus: Conversation[Any]
        self.work = Work(
            source=f"bus:{folder / 'bus'}" if has_bus else "", plan=str(folder / "signals.plan") if has_bus else "",
            privacy=PrivacyPolicy(consents=frozenset(Purpose)).model_dump_json(), floor=FLOOR.model_dump_json(),
            told=(), folder=str(folder / "book"), most_event_bytes=90_000, realtime=True, from_ns=BOOT_NS,
        )  # fmt: skip
        self._there: Conversation[Any] = Conversation(theirs, ToSignals)
        self.process = SignalProcess(self._there, self.work, self.clock, Random(1))

    async def greet(self) -> None:
        end, _ = await asyncio.get_running_loop().sock_accept(self._door)
        self.bus = Conversation(end, Begin)
        await self.bus.send(SourceHello(self.clock.boot_ns(), 20 * MS))
        assert isinstance(await self.bus.receive(), Begin)

    async def until(self, kind: type[Any]) -> Any:
        """What the process says next of that kind."""
        async with asyncio.timeout(20):
            while not isinstance(message := await self.agent.receive(), kind):
                self.heard.append(message)
        self.heard.append(message)
        return message

    async def finished(self) -> list[Record]:
        await self.agent.send(Finish(self.clock.boot_ns()))
        await self.until(Done)
        items = [item for message in self.heard if isinstance(message, Captured) for item in message.items]
        return [
            Record(Lane(item.lane), Purpose(item.purpose), item.captured_ns, decode_event(item.event)) for item in items
        ]

    def close(self) -> None:
        self.agent.close()
        self._there.close()
        if self._has_bus:
            self.bus.close()
        self._door.close()


@asynccontextmanager
async def on_the_road(folder: Path, wanted: bytes, *, has_bus: bool = True) -> AsyncIterator[Vehicle]:
    vehicle = Vehicle(folder, has_bus)
    await vehicle.agent.send(Wanted(wanted))
    running = asyncio.create_task(vehicle.process.run())
    try:
        if has_bus:
            await vehicle.greet()
        assert (await vehicle.until(Admission)).refused == ""
        yield vehicle
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        vehicle.close()


@pytest.mark.parametrize("still_s", [5, 30 * 86_400])
async def test_after_it_stood_still_what_the_bus_said_meanwhile_is_told_as_it_was(tmp_path: Path, still_s: int) -> None:
    async with on_the_road(tmp_path, campaigns(STEADY)) as vehicle:
        await vehicle.bus.send(message_of(drive(5, BOOT_NS), 0))
        vehicle.clock.advance(BOOT_NS + still_s * SECOND_NS)
        await vehicle.until(SignalsStatus)
        vehicle.clock.advance(BOOT_NS + still_s * SECOND_NS + LIMITS.latency_ns)
        await vehicle.until(Captured)
        records = await vehicle.finished()
    assert len(told_of(records, SPEED)) == 5 * 50


async def test_a_fetch_of_a_set_that_is_there_from_the_start_brings_what_comes_then(tmp_path: Path) -> None:
    fetch = campaign("fetch", {"kind": "once", "id": 1, "post_ms": 1000}, SPEED)
    async with on_the_road(tmp_path, campaigns(fetch)) as vehicle:
        await vehicle.bus.send(message_of(drive(4, BOOT_NS), 0))
        vehicle.clock.advance(BOOT_NS + 4 * SECOND_NS)
        await vehicle.until(SignalsStatus)
        vehicle.clock.advance(BOOT_NS + 4 * SECOND_NS + LIMITS.latency_ns)
        records = await vehicle.finished()
    assert len(told_of(records, SPEED)) == 50
    assert [record.captured_ns for record in records if isinstance(record.event, Triggered)] == [BOOT_NS - 1]


async def test_what_the_agent_tells_keeps_its_stamp_although_time_went_on_meanwhile(tmp_path: Path) -> None:
    async with on_the_road(tmp_path, campaigns(STEADY), has_bus=False) as vehicle:
        vehicle.clock.advance(BOOT_NS + 9 * TICK_NS)
        await vehicle.until(SignalsStatus)
        await vehicle.agent.send(Told(BOOT_NS + MS, {SPEED: 7.0}))
        vehicle.clock.advance(BOOT_NS + SECOND_NS)
        records = await vehicle.finished()
    assert told_of(records, SPEED) == [(BOOT_NS + MS, 7.0)]


async def test_an_agent_that_hears_nothing_is_kept_for_so_much_and_the_rest_is_counted(tmp_path: Path) -> None:
    async with on_the_road(tmp_path, campaigns(STEADY)) as vehicle:
        for number in range(MOST_WAITING + 10):
            vehicle.process._say(Values(number, {SPEED: 1.0}))
        vehicle.process._say(Admission(7, ""))
        assert (await vehicle.until(Admission)).revision == 7, "an answer is never left out"
        vehicle.clock.advance(BOOT_NS + SECOND_NS)
        status = await vehicle.until(SignalsStatus)
        assert sum(isinstance(message, Values) for message in vehicle.heard) == MOST_WAITING
    assert status.counts["unsaid"] == 10


async def test_two_frames_of_one_instant_are_told_although_a_batch_ends_between_them(tmp_path: Path) -> None:
    frames = drive(1, BOOT_NS)
    first, second = frames.rows(slice(0, 1)), frames.rows(slice(1, None))
    assert first.t_ns[-1] == second.t_ns[0]
    async with on_the_road(tmp_path, campaigns(STEADY)) as vehicle:
        for seq, part in ((0, first), (len(first), second)):
            await vehicle.bus.send(message_of(part, seq))
            received = 0
            while received < seq + len(part):
                vehicle.clock.advance(vehicle.clock.boot_ns() + 250 * MS)
                status = await vehicle.until(SignalsStatus) if vehicle.clock.boot_ns() % SECOND_NS == 0 else None
                received = status.counts["received"] if status is not None else 0
        records = await vehicle.finished()
    assert (len(told_of(records, SPEED)), len(told_of(records, PEDAL))) == (50, 10)


async def test_all_that_is_captured_reaches_an_agent_that_hears_it_however_much_that_is(tmp_path: Path) -> None:
    long = Item(1, int(Purpose.DRIVING), 0, bytes(60_000), 0)
    async with on_the_road(tmp_path, campaigns(STEADY)) as vehicle:
        for _ in range(MOST_WAITING_BYTES // (3 * 60_000) + 2):
            for batch in _portions([long] * 3):
                vehicle.process._say(Captured(tuple(batch)))
                assert len((await vehicle.until(Captured)).items) == 1
        vehicle.clock.advance(BOOT_NS + SECOND_NS)
        assert (await vehicle.until(SignalsStatus)).counts["unsaid"] == 0


def _portions(items: list[Item]) -> Iterator[list[Item]]:
    while items:
        yield (batch := _portion(items))
        items = items[len(batch) :]


async def test_what_the_agent_told_while_the_process_began_keeps_its_stamp(tmp_path: Path) -> None:
    vehicle = Vehicle(tmp_path, has_bus=False)
    vehicle.clock.advance(BOOT_NS + 2 * SECOND_NS)
    vehicle.process = SignalProcess(vehicle._there, vehicle.work, vehicle.clock, Random(1))
    await vehicle.agent.send(Wanted(campaigns(STEADY)))
    told = [(BOOT_NS + n * 100 * MS, float(n)) for n in range(20)]
    for t_ns, speed in told:
        await vehicle.agent.send(Told(t_ns, {SPEED: speed}))
    running = asyncio.create_task(vehicle.process.run())
    try:
        await vehicle.until(Admission)
        vehicle.clock.advance(BOOT_NS + 3 * SECOND_NS)
        records = await vehicle.finished()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        vehicle.close()
    assert told_of(records, SPEED) == told
