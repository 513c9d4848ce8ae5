"""A bus at the other end of a socket that breaks its word, and one whose clock can't be trusted."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from random import Random

import numpy as np
import pytest

from ecu.channel import Advance, ChannelClosed, Done, Message, pair
from ecu.clock import MILLISECOND_NS, SECOND_NS, SteppingClock
from ecu.errors import EXIT_ENVIRONMENT
from telemetry.signals.conversation import Conversation
from telemetry.signals.farend import SourceLost
from telemetry.signals.frames import ERROR, REMOTE, Frames, concat
from telemetry.signals.framesource import BatchLimits
from telemetry.signals.messages import MAX_FRAMES_A_MESSAGE, FrameBatch, Signals, SourceHello, ToSource
from telemetry.signals.unixbus import UnixBus, frames_from, message_of

NOW_NS = 100 * SECOND_NS


def frames(*t_ns: int) -> Frames:
    count = len(t_ns)
    lengths, data = np.full(count, 8, np.uint8), np.arange(count * 8, dtype=np.uint8).reshape(-1, 8)
    return Frames(np.array(t_ns, np.int64), np.zeros(count, np.uint8), np.full(count, 5, np.uint32), lengths, data)


class Rig:
    """A bus, and its far end to speak from."""

    def __init__(self) -> None:
        self.clock = SteppingClock(boot_ns=NOW_NS)
        self.far: asyncio.Queue[Conversation[ToSource]] = asyncio.Queue()
        self.ends: list[Conversation[ToSource]] = []
        self.bus = UnixBus(self.dial, self.clock, Random(1), BatchLimits(latency_ns=MILLISECOND_NS))

    def dial(self) -> socket.socket:
        ours, theirs = pair()
        self.ends.append(Conversation(theirs, ToSource))
        self.far.put_nowait(self.ends[-1])
        return ours

    async def greeted(self, now_ns: int) -> Conversation[ToSource]:
        end = await self.far.get()
        await end.send(SourceHello(now_ns, 1))
        await end.receive()
        return end

    async def begun(self) -> Conversation[ToSource]:
        end, _ = await asyncio.gather(self.greeted(0), self.bus.begin(0))
        return end

    async def next_batch(self, batches: AsyncIterator[Frames]) -> Frames:
        coming = asyncio.ensure_future(anext(batches))
        async with asyncio.timeout(10):
            while not coming.done():
                await asyncio.sleep(0)
                self.clock.advance(self.clock.boot_ns() + MILLISECOND_NS // 4)
        return await coming


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    yield rig
    rig.bus.close()
    for end in rig.ends:
        end.close()


@pytest.mark.parametrize(
    "answer",
    [
        [message_of(frames(11), 0), Done(10)],
        [message_of(frames(9), 0), message_of(frames(8), 1), Done(10)],
        [Done(9)],
        [SourceHello(0, 1)],
        [Signals(0, 1, {})],
        [FrameBatch(0, False, bytes(8), bytes(1), bytes(15))],
        [FrameBatch(0, True, bytes(8), bytes(1), bytes(16))],
        [FrameBatch(0, False, bytes(7), bytes(1), bytes(16))],
        [FrameBatch(0, False, bytes(8 * 1025), bytes(1025), bytes(16 * 1025))],
    ],
    ids=["beyond", "backwards", "wrong_grant", "out_of_turn", "unknown", "short", "no_fd", "no_times", "too_many"],
)
async def test_a_bus_that_breaks_its_word_in_lockstep_ends_the_replay(rig: Rig, answer: list[Message]) -> None:
    end = await rig.begun()
    for message in answer:
        await end.send(message)
    with pytest.raises(SourceLost) as lost:
        await rig.bus.advance(10)
    assert lost.value.exit_code == EXIT_ENVIRONMENT


async def test_a_bus_that_hangs_up_in_lockstep_is_told_at_once(rig: Rig) -> None:
    end = await rig.begun()
    asking = asyncio.ensure_future(rig.bus.advance(10))
    assert await end.receive() == Advance(10)
    end.close()
    with pytest.raises(SourceLost, match="hung up"):
        await asking


async def test_what_a_bus_left_out_is_counted_by_its_numbers(rig: Rig) -> None:
    end = await rig.begun()
    for seq, stamp in [(0, 1), (2, 2), (1000, 3)]:
        await end.send(message_of(frames(stamp, stamp), seq))
    await end.send(Done(10))
    assert len(await rig.bus.advance(10)) == 6
    assert (rig.bus.status().received, rig.bus.status().missed) == (6, 996)


@pytest.mark.parametrize("jump_s", [10**9, -(10**9), 40, -40])
async def test_a_clock_that_jumps_makes_no_true_frame_late(rig: Rig, jump_s: int) -> None:
    async with contextlib.aclosing(rig.bus.batches()) as batches:
        greeting = asyncio.ensure_future(rig.greeted(NOW_NS))
        first = asyncio.ensure_future(anext(batches))
        end = await greeting
        await end.send(message_of(frames(NOW_NS), 0))
        async with asyncio.timeout(10):
            while not first.done():
                await asyncio.sleep(0)
                rig.clock.advance(rig.clock.boot_ns() + MILLISECOND_NS)
        for seq in range(1, 20):
            jump_ns = jump_s * SECOND_NS if 5 <= seq < 12 else 0
            sent_ns = rig.clock.boot_ns()
            await end.send(message_of(frames(sent_ns + jump_ns), seq))
            batch = await rig.next_batch(batches)
            assert sent_ns <= batch.t_ns[0] <= rig.clock.boot_ns()
        status = rig.bus.status()
        assert (status.received, status.moved, status.losses) == (20, 2, 0)


@pytest.mark.parametrize("hello_ns", [-(1 << 63), (1 << 64) - 1, 0])
async def test_a_time_that_no_clock_can_have_is_a_lost_source(rig: Rig, hello_ns: int) -> None:
    # Mutation: what is added to such a clock fits no 64 bits, and the process that reads the bus dies, again and again.
    async with contextlib.aclosing(rig.bus.batches()) as batches:
        coming = asyncio.ensure_future(anext(batches))
        for _ in range(3):
            end = await rig.far.get()
            await end.send(SourceHello(hello_ns, 1))
            for stamp in (-(1 << 63), (1 << 63) - 1):
                with contextlib.suppress(ChannelClosed):
                    await end.send(message_of(frames(stamp), 0))
            async with asyncio.timeout(10):
                while not coming.done() and rig.far.empty():
                    await asyncio.sleep(0)
                    rig.clock.advance(rig.clock.boot_ns() + MILLISECOND_NS)
            assert not coming.done()
        assert rig.bus.status().received == 0
        assert rig.bus.status().reason
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)


async def test_what_came_before_a_bus_hung_up_isnt_lost(rig: Rig) -> None:
    async with contextlib.aclosing(rig.bus.batches()) as batches:
        first = asyncio.ensure_future(anext(batches))
        end = await rig.greeted(NOW_NS)
        for seq in range(3):
            await end.send(message_of(frames(NOW_NS + seq), seq))
        end.close()
        async with asyncio.timeout(10):
            while not first.done():
                await asyncio.sleep(0)
                rig.clock.advance(rig.clock.boot_ns() + MILLISECOND_NS)
        assert len(await first) == 3


def test_what_has_no_data_is_never_taken_for_data() -> None:
    sent = replace(frames(1, 2, 3), can_id=np.array([ERROR | 5, REMOTE | 5, 5], np.uint32))
    assert frames_from(message_of(sent, 0)).can_id.tolist() == [ERROR | 5, REMOTE | 5, 5]


def test_a_message_is_read_as_it_was_made() -> None:
    many = frames(*range(MAX_FRAMES_A_MESSAGE))
    for made in (
        many,
        replace(many, data=np.zeros((len(many), 64), np.uint8), length=np.full(len(many), 64, np.uint8)),
    ):
        read = frames_from(message_of(made, 0))
        assert np.array_equal(read.t_ns, made.t_ns)
        assert np.array_equal(read.can_id, made.can_id)
        assert np.array_equal(read.length, made.length)
        assert np.array_equal(read.bus, made.bus)
        assert np.array_equal(read.data, made.data)
    assert len(concat([])) == 0
