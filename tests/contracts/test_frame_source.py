"""FrameSource, one law at a time, on every source that there is. CAN's own sockets are UDP's here, which have the same
stamps, counts and buffers of the same kernel; a datagram is a frame on both."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from random import Random

import numpy as np
import pytest

from ecu.channel import pair
from ecu.clock import MILLISECOND_NS, SECOND_NS, SteppingClock
from ecu.errors import UsageFault
from simulator.bus import SimulatedBus
from telemetry.signals.canlayout import rows_of
from telemetry.signals.frames import EXTENDED, Frames, concat, no_frames
from telemetry.signals.framesource import BatchLimits, FrameSource
from telemetry.signals.recording import encode_recording, open_recording
from telemetry.signals.replay import RecordingSource
from telemetry.signals.socketcan import SocketCan
from telemetry.signals.source import SourceLost
from telemetry.signals.unixbus import UnixBus

BOOT_NS = 1000 * SECOND_NS
LIMITS = BatchLimits(latency_ns=20 * MILLISECOND_NS, frames=64)


def some_frames(count: int = 300, seed: int = 1, width: int = 8) -> Frames:
    """A third of a second of two buses, each message of its own length."""
    rng = np.random.default_rng(seed)
    can_id = rng.choice(np.array([0x100, 0x7FF, 0x123 | EXTENDED, 5], np.uint32), count)
    length = (can_id % (width + 1)).astype(np.uint8)
    data = rng.integers(0, 256, (count, width), dtype=np.uint8)
    data[np.arange(width) >= length[:, None]] = 0
    t_ns = np.sort(rng.integers(0, 333_000, count)) * 1000
    return Frames(t_ns, rng.integers(0, 2, count).astype(np.uint8), can_id, length, data)


class World:
    """A source, and what is at its other end. `step` happens at every millisecond of the clock."""

    lockstep = True

    def __init__(self, clock: SteppingClock, frames: Frames) -> None:
        self.clock = clock
        self.frames = frames
        self.began_ns = clock.boot_ns()

    def source(self) -> FrameSource:
        raise NotImplementedError

    def step(self) -> None: ...

    async def close(self) -> None: ...


class Replayed(World):
    def source(self) -> FrameSource:
        return RecordingSource(open_recording(encode_recording(self.frames, 1)), self.clock, limits=LIMITS)


class Unix(World):
    def __init__(self, clock: SteppingClock, frames: Frames) -> None:
        super().__init__(clock, frames)
        recording = open_recording(encode_recording(frames, 1))
        limits = BatchLimits(latency_ns=MILLISECOND_NS, frames=50)
        self.bus = SimulatedBus(lambda: RecordingSource(recording, clock, limits=limits), clock)
        self.telling: list[asyncio.Task[None]] = []

    def dial(self) -> socket.socket:
        ours, theirs = pair()
        self.telling.append(asyncio.ensure_future(self.bus.tell(theirs)))
        return ours

    def source(self) -> FrameSource:
        return UnixBus(self.dial, self.clock, Random(1), LIMITS)

    async def close(self) -> None:
        for task in self.telling:
            task.cancel()
        await asyncio.gather(*self.telling, return_exceptions=True)


class Can(World):
    lockstep = False

    def __init__(self, clock: SteppingClock, frames: Frames) -> None:
        super().__init__(clock, frames)
        self.wires: dict[int, socket.socket] = {}
        self.sent = 0

    def opener(self, bus: int) -> Callable[[], socket.socket]:
        def opened() -> socket.socket:
            end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            end.setblocking(False)
            end.bind(("127.0.0.1", 0))
            if bus in self.wires:
                self.wires[bus].close()
            self.wires[bus] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.wires[bus].connect(end.getsockname())
            return end

        return opened

    def source(self) -> FrameSource:
        return SocketCan([self.opener(0), self.opener(1)], self.clock, Random(1), LIMITS)

    def step(self) -> None:
        while self.sent < len(self.frames) and self.began_ns + self.frames.t_ns[self.sent] <= self.clock.boot_ns():
            self.say(self.sent)
            self.sent += 1

    def say(self, row: int) -> None:
        one = self.frames.rows(slice(row, row + 1))
        if int(one.bus[0]) in self.wires:
            self.wires[int(one.bus[0])].send(rows_of(one).tobytes())

    async def close(self) -> None:
        for wire in self.wires.values():
            wire.close()


WORLDS = [Replayed, Unix, Can]
LOCKSTEP = [world for world in WORLDS if world.lockstep]


@dataclass
class Reading:
    """What was read in real time, and when it was handed on."""

    batches: list[Frames]
    at_ns: list[int]

    @property
    def frames(self) -> Frames:
        return concat(self.batches) if self.batches else no_frames()


@contextlib.asynccontextmanager
async def reading(world: World, source: FrameSource) -> AsyncIterator[Reading]:
    got = Reading([], [])

    async def read() -> None:
        async with contextlib.aclosing(source.batches()) as batches:
            async for frames in batches:
                got.batches.append(frames)
                got.at_ns.append(world.clock.boot_ns())

    task = asyncio.ensure_future(read())
    await settle()
    try:
        yield got
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        source.close()
        await world.close()


async def settle() -> None:
    for _ in range(12):
        await asyncio.sleep(0)


async def passing(world: World, milliseconds: int) -> None:
    for _ in range(milliseconds):
        world.clock.advance(world.clock.boot_ns() + MILLISECOND_NS)
        world.step()
        await settle()


@pytest.fixture(params=WORLDS, ids=lambda kind: kind.__name__.lower())
def world(request: pytest.FixtureRequest) -> World:
    kind: type[World] = request.param
    return kind(SteppingClock(boot_ns=BOOT_NS), some_frames())


def content(frames: Frames) -> list[tuple[int, int, int, bytes]]:
    columns = frames.bus.tolist(), frames.can_id.tolist(), frames.length.tolist()
    rows = zip(*columns, (row.tobytes().rstrip(b"\0") for row in frames.data), strict=True)
    return [(bus, can_id, length, data) for bus, can_id, length, data in rows]


def each_bus(frames: Frames) -> list[list[tuple[int, int, int, bytes]]]:
    """Of each bus in its order: between two buses a kernel knows none finer than its stamps."""
    return [content(frames.rows(np.flatnonzero(frames.bus == bus))) for bus in (0, 1)]


async def test_every_frame_comes_once_in_order_and_as_it_was(world: World) -> None:
    async with reading(world, source := world.source()) as got:
        await passing(world, 400)
        assert each_bus(got.frames) == each_bus(world.frames)
        assert source.status().received == len(world.frames)
        assert source.status().missed == source.status().losses == source.status().moved == 0


async def test_stamps_never_run_backwards_and_never_are_of_the_future(world: World) -> None:
    async with reading(world, world.source()) as got:
        await passing(world, 400)
        assert (np.diff(np.concatenate([batch.t_ns for batch in got.batches])) >= 0).all()
        assert all(int(batch.t_ns[-1]) <= at_ns for batch, at_ns in zip(got.batches, got.at_ns, strict=True))


async def test_no_batch_is_empty_or_beyond_its_limit_and_no_frame_waits_long(world: World) -> None:
    async with reading(world, world.source()) as got:
        await passing(world, 400)
        assert all(1 <= len(batch) <= LIMITS.frames for batch in got.batches)
        slack_ns = 3 * MILLISECOND_NS  # the clock's steps, and the far end's
        waits = [at_ns - int(batch.t_ns[0]) for batch, at_ns in zip(got.batches, got.at_ns, strict=True)]
        assert max(waits) <= LIMITS.latency_ns + slack_ns
        assert len(got.batches) < 40  # they are gathered, not handed on one by one


@pytest.mark.parametrize("kind", WORLDS, ids=lambda kind: kind.__name__.lower())
async def test_a_burst_comes_whole_and_no_more_at_once_than_the_limit(kind: type[World]) -> None:
    frames = some_frames()
    world = kind(SteppingClock(boot_ns=BOOT_NS), replace(frames, t_ns=np.full(len(frames), 1000, np.int64)))
    async with reading(world, world.source()) as got:
        await passing(world, 60)
        assert each_bus(got.frames) == each_bus(world.frames)
        assert max(map(len, got.batches)) <= LIMITS.frames


async def test_a_closed_generator_hangs_up_and_another_begins_anew(world: World) -> None:
    source = world.source()
    batches = source.batches()
    first = asyncio.ensure_future(anext(batches))
    await settle()
    await passing(world, 60)
    assert len(await first)
    await batches.aclose()
    assert not source.status().connected
    world.began_ns = world.clock.boot_ns()
    if isinstance(world, Can):
        world.sent = 0
    async with reading(world, source) as got:
        await passing(world, 400)
        assert each_bus(got.frames) == each_bus(world.frames)


async def test_a_source_that_hung_up_is_counted_and_found_again() -> None:
    world = Unix(SteppingClock(boot_ns=BOOT_NS), some_frames())
    async with reading(world, source := world.source()) as got:
        await passing(world, 100)
        before = len(got.frames)
        assert before
        world.telling[-1].cancel()
        await passing(world, 600)
        assert source.status().losses == 1
        assert len(got.frames) > before


@pytest.mark.parametrize("kind", LOCKSTEP, ids=lambda kind: kind.__name__.lower())
@pytest.mark.parametrize("step_ms", [1, 7, 100, 1000])
async def test_lockstep_gives_the_same_frames_whatever_the_steps(kind: type[World], step_ms: int) -> None:
    world = kind(SteppingClock(boot_ns=BOOT_NS), some_frames())
    source = world.source()
    from_ns = 77 * SECOND_NS
    await source.begin(from_ns)
    parts = []
    for until_ms in range(0, 1001, step_ms):
        frames = await source.advance(from_ns + until_ms * MILLISECOND_NS)
        assert not len(frames) or int(frames.t_ns[-1]) <= from_ns + until_ms * MILLISECOND_NS
        parts.append(frames)
    whole = concat(parts)
    assert content(whole) == content(world.frames)
    assert np.array_equal(whole.t_ns, world.frames.t_ns - world.frames.t_ns[0] + from_ns)
    source.close()
    await world.close()


async def test_a_bus_waits_for_nobody() -> None:
    source = Can(SteppingClock(boot_ns=BOOT_NS), some_frames()).source()
    with pytest.raises(UsageFault, match="record it"):
        await source.begin(0)
    with pytest.raises(SourceLost):
        await source.advance(0)


@pytest.mark.parametrize("kind", LOCKSTEP, ids=lambda kind: kind.__name__.lower())
async def test_who_advances_without_beginning_is_told(kind: type[World]) -> None:
    source = kind(SteppingClock(boot_ns=BOOT_NS), some_frames()).source()
    with pytest.raises(SourceLost, match="begin first"):
        await source.advance(0)


@pytest.mark.parametrize("kind", WORLDS, ids=lambda kind: kind.__name__.lower())
async def test_frames_of_can_fd_come_whole(kind: type[World]) -> None:
    world = kind(SteppingClock(boot_ns=BOOT_NS), some_frames(width=64))
    async with reading(world, world.source()) as got:
        await passing(world, 400)
        assert each_bus(got.frames) == each_bus(world.frames)
