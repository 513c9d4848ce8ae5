"""A signal source over a real socket, scripted at its other end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest

from ecu.channel import Advance, ChannelClosed, Done, pair
from ecu.clock import SECOND_NS, SteppingClock
from ecu.errors import EXIT_ENVIRONMENT, UsageFault
from ecu.samples import Sample
from telemetry.signals import SocketSignals, SourceLost, unix_dial
from telemetry.signals.conversation import Conversation
from telemetry.signals.messages import Begin, Signals, SourceHello, ToSource
from telemetry.signals.source import SignalSample


class FarEnd:
    """Hands out one end of a new pair at each dial and keeps the other."""

    def __init__(self) -> None:
        self.dialled: asyncio.Queue[Conversation[ToSource]] = asyncio.Queue()
        self.ends: list[Conversation[ToSource]] = []
        self.absent = 0

    def dial(self) -> socket.socket:
        if self.absent:
            self.absent -= 1
            raise SourceLost("nobody there")
        ours, theirs = pair()
        self.ends.append(Conversation(theirs, ToSource))
        self.dialled.put_nowait(self.ends[-1])
        return ours

    async def greeted(self, now_ns: int = 100 * SECOND_NS) -> tuple[Conversation[ToSource], ToSource]:
        """The next reader, after both have greeted."""
        end = await self.dialled.get()
        await end.send(SourceHello(now_ns, 50))
        return end, await end.receive()

    def close(self) -> None:
        for end in self.ends:
            end.close()


@pytest.fixture
def clock() -> SteppingClock:
    return SteppingClock(boot_ns=100 * SECOND_NS)


@pytest.fixture
async def far() -> AsyncIterator[FarEnd]:
    far = FarEnd()
    yield far
    far.close()


@pytest.fixture
async def signals(far: FarEnd, clock: SteppingClock) -> AsyncIterator[SocketSignals]:
    signals = SocketSignals(far.dial, clock, Random(1))
    yield signals
    signals.close()


async def begun(far: FarEnd, signals: SocketSignals) -> Conversation[ToSource]:
    (end, begin), _ = await asyncio.gather(far.greeted(), signals.begin(7))
    assert begin == Begin(realtime=False, from_ns=7)
    return end


async def test_lockstep_gives_exactly_what_came_before_the_answer(far: FarEnd, signals: SocketSignals) -> None:
    end = await begun(far, signals)
    for grant, stamps in [(10, [8, 10]), (15, []), (20, [20])]:
        asking = asyncio.ensure_future(signals.advance(grant))
        assert await end.receive() == Advance(grant)
        for t_ns in stamps:
            await end.send(Signals(t_ns, t_ns, {"Vehicle.Speed": float(t_ns)}))
        assert not asking.done()
        await end.send(Done(grant))
        expected = [Sample("signals", t_ns, t_ns, {"Vehicle.Speed": float(t_ns)}) for t_ns in stamps]
        assert await asking == expected


@pytest.mark.parametrize(
    "answer",
    [
        [Signals(1, 11, {}), Done(10)],
        [Signals(1, 9, {}), Signals(2, 9, {}), Done(10)],
        [Done(9)],
        [SourceHello(0, 50)],
        [Advance(10)],
    ],
    ids=["beyond_the_grant", "backwards", "wrong_grant", "out_of_turn", "unknown"],
)
async def test_a_source_that_breaks_lockstep_ends_the_replay(
    far: FarEnd, signals: SocketSignals, answer: list[Signals | Done | SourceHello | Advance]
) -> None:
    # Mutation: without the check of the grant, a sample beyond it would be told before its time.
    end = await begun(far, signals)
    for message in answer:
        await end.send(message)
    with pytest.raises(SourceLost) as lost:
        await signals.advance(10)
    assert lost.value.exit_code == EXIT_ENVIRONMENT


async def test_a_lockstep_source_that_dies_is_told_at_once(far: FarEnd, signals: SocketSignals) -> None:
    end = await begun(far, signals)
    asking = asyncio.ensure_future(signals.advance(10))
    await end.receive()
    end.close()
    with pytest.raises(SourceLost, match="hung up"):
        await asking


async def test_advance_before_begin_is_refused(signals: SocketSignals) -> None:
    with pytest.raises(SourceLost, match="begin"):
        await signals.advance(10)


@contextlib.asynccontextmanager
async def listening(signals: SocketSignals) -> AsyncIterator[asyncio.Queue[SignalSample]]:
    heard: asyncio.Queue[SignalSample] = asyncio.Queue()

    async def listen() -> None:
        async with contextlib.aclosing(signals.samples()) as samples:
            async for sample in samples:
                heard.put_nowait(sample)

    task = asyncio.create_task(listen())
    try:
        yield heard
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_in_real_time_samples_come_as_they_are_sent_and_gaps_are_counted(
    far: FarEnd, signals: SocketSignals
) -> None:
    async with listening(signals) as heard:
        end, begin = await far.greeted()
        assert begin == Begin(realtime=True, from_ns=100 * SECOND_NS)
        for seq, t_ns in [(4, 10), (5, 20), (9, 30), (10, 25), (11, 40)]:
            await end.send(Signals(seq, t_ns, {}))
        assert [(await heard.get()).seq for _ in range(4)] == [4, 5, 9, 11]
        status = signals.status()
        assert status.connected
        assert (status.received, status.missed, status.late, status.last_t_ns) == (4, 3, 1, 40)


async def test_a_lost_source_is_counted_and_connected_to_again_after_a_pause(
    far: FarEnd, signals: SocketSignals, clock: SteppingClock
) -> None:
    async def next_reader() -> Conversation[ToSource]:
        waiting = asyncio.ensure_future(far.greeted())
        async with asyncio.timeout(10):
            while not waiting.done():
                clock.advance(clock.boot_ns() + SECOND_NS)
                await asyncio.sleep(0)
        return waiting.result()[0]

    far.absent = 3
    async with listening(signals) as heard:
        for life in range(3):
            end = await next_reader()
            await end.send(Signals(100 * life, clock.boot_ns() + life, {}))
            await heard.get()
            assert signals.status().losses == life
            end.close()
        await next_reader()
    assert signals.status().losses == 3
    assert signals.status().missed == 0


async def test_a_source_that_babbles_is_lost_not_believed(
    far: FarEnd, signals: SocketSignals, clock: SteppingClock
) -> None:
    async with listening(signals) as heard:
        end, _ = await far.greeted()
        await end.send(Begin(realtime=True, from_ns=0))
        async with asyncio.timeout(10):
            while "doesn't know" not in signals.status().reason:
                await asyncio.sleep(0)
        clock.advance(clock.boot_ns() + SECOND_NS)
        end, _ = await far.greeted()
        await end.send(Signals(0, clock.boot_ns(), {}))
        assert (await heard.get()).seq == 0
    assert signals.status().losses == 1


@pytest.mark.parametrize("jump_s", [10**9, -(10**9), 30, -30])
async def test_a_clock_that_jumps_makes_no_true_sample_late(
    far: FarEnd, signals: SocketSignals, clock: SteppingClock, jump_s: int
) -> None:
    # Mutation: without the anchor a sample from the future silences all after it, and a jump back all until its time.
    async with listening(signals) as heard:
        end, _ = await far.greeted(clock.boot_ns())
        for seq in range(30):
            clock.advance(clock.boot_ns() + SECOND_NS // 20)
            jump_ns = jump_s * SECOND_NS if 10 <= seq < 20 else 0
            await end.send(Signals(seq, clock.boot_ns() + jump_ns, {}))
            assert (await heard.get()).t_ns == clock.boot_ns()
        status = signals.status()
        assert (status.received, status.late, status.losses, status.moved) == (30, 0, 0, 2)


@pytest.mark.parametrize("apart_s", [3600, -90])
async def test_a_source_with_another_clock_is_understood_in_real_time(
    far: FarEnd, signals: SocketSignals, clock: SteppingClock, apart_s: int
) -> None:
    async with listening(signals) as heard:
        end, _ = await far.greeted(clock.boot_ns() + apart_s * SECOND_NS)
        clock.advance(clock.boot_ns() + 7)
        await end.send(Signals(0, clock.boot_ns() + apart_s * SECOND_NS, {}))
        assert (await heard.get()).t_ns == clock.boot_ns()
        assert signals.status().moved == 1


async def test_stopping_to_listen_hangs_up(far: FarEnd, signals: SocketSignals) -> None:
    async with listening(signals) as heard:
        end, _ = await far.greeted()
        await end.send(Signals(0, 1, {}))
        await heard.get()
    with pytest.raises(ChannelClosed):
        await end.receive()


def test_only_unix_urls_are_dialled_and_a_missing_socket_says_so(tmp_path: Path) -> None:
    for url in ("tcp:localhost", "unix:", "/run/x.sock"):
        with pytest.raises(UsageFault, match="unix:PATH"):
            unix_dial(url)
    with pytest.raises(SourceLost, match="No signal source answers at unix:"):
        unix_dial(f"unix:{tmp_path}/none.sock")()
