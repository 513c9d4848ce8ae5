"""Each fault is what an application would see of it, takes effect while bytes are on their way, and loses none."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecu.clock import MILLISECOND_NS, SECOND_NS, SteppingClock
from simulator.faults.net import Conditions, FaultProxy, Flow, Throttle, piece_bytes

PATIENCE_S = 10.0
STANDS_STILL_S = 0.15


class Far:
    """The target, and what the test holds of it: a pair of stream ends for each connection that arrives."""

    def __init__(self) -> None:
        self.arrivals: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
        self.to_close: list[asyncio.StreamWriter] = []

    async def meet(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.wait_for(self.arrivals.get(), PATIENCE_S)


class Ends:
    """One connection through the proxy, seen from both sides."""

    def __init__(
        self,
        near: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        far: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self.near_in, self.near_out = near
        self.far_in, self.far_out = far

    async def up(self, data: bytes) -> None:
        self.near_out.write(data)
        assert await asyncio.wait_for(self.far_in.readexactly(len(data)), PATIENCE_S) == data

    async def down(self, data: bytes) -> None:
        self.far_out.write(data)
        assert await asyncio.wait_for(self.near_in.readexactly(len(data)), PATIENCE_S) == data


@asynccontextmanager
async def proxied(clock: SteppingClock | None = None) -> AsyncIterator[tuple[FaultProxy, Far]]:
    far = Far()

    def arrived(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far.to_close.append(writer)
        far.arrivals.put_nowait((reader, writer))

    server = await asyncio.start_server(arrived, "127.0.0.1", 0)
    try:
        host, port = server.sockets[0].getsockname()
        async with FaultProxy(host, port, clock) as proxy:
            yield proxy, far
    finally:
        server.close()
        for writer in far.to_close:
            writer.close()


async def connected(proxy: FaultProxy, far: Far) -> Ends:
    near = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", proxy.port), PATIENCE_S)
    far.to_close.append(near[1])
    return Ends(near, await far.meet())


async def stands_still(reader: asyncio.StreamReader) -> bool:
    try:
        await asyncio.wait_for(reader.read(1), STANDS_STILL_S)
    except TimeoutError:
        return True
    return False


async def is_reset(reader: asyncio.StreamReader) -> bool:
    try:
        await asyncio.wait_for(reader.read(1), PATIENCE_S)
    except ConnectionResetError:
        return True
    return False


async def test_every_byte_passes_both_ways_unchanged_and_an_end_is_passed_on() -> None:
    data = random.Random(1).randbytes(3_000_001)
    async with proxied() as (proxy, far):
        ends = await connected(proxy, far)
        ends.near_out.write(data)
        ends.near_out.write_eof()
        assert await asyncio.wait_for(ends.far_in.read(-1), PATIENCE_S) == data
        ends.far_out.write(data[::-1])
        ends.far_out.write_eof()
        assert await asyncio.wait_for(ends.near_in.read(-1), PATIENCE_S) == data[::-1]
        assert (proxy.counters.up_bytes, proxy.counters.down_bytes) == (len(data), len(data))
        assert (proxy.counters.accepted, proxy.counters.reset) == (1, 0)


async def test_a_cut_resets_what_is_connected_and_refuses_what_comes_until_it_is_mended() -> None:
    async with proxied() as (proxy, far):
        ends = await connected(proxy, far)
        port = proxy.port
        proxy.cut()
        assert await is_reset(ends.near_in)
        assert await is_reset(ends.far_in)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        proxy.restore()
        again = await connected(proxy, far)
        await again.up(b"hello")
        assert (proxy.port, proxy.counters.accepted, proxy.counters.reset) == (port, 2, 1)


async def test_no_other_process_can_take_the_port_during_a_cut() -> None:
    async with proxied() as (proxy, _):
        proxy.cut()
        with socket.socket() as thief, pytest.raises(OSError, match="in use"):
            thief.bind(("127.0.0.1", proxy.port))


async def test_in_a_blackhole_all_stands_still_and_then_goes_on_without_a_byte_lost() -> None:
    async with proxied() as (proxy, far):
        ends = await connected(proxy, far)
        await ends.up(b"before")
        proxy.blackhole()
        ends.near_out.write(b"up in the dark")
        ends.far_out.write(b"down in the dark")
        assert await stands_still(ends.far_in)
        assert await stands_still(ends.near_in)
        proxy.restore()
        assert await asyncio.wait_for(ends.far_in.readexactly(14), PATIENCE_S) == b"up in the dark"
        assert await asyncio.wait_for(ends.near_in.readexactly(16), PATIENCE_S) == b"down in the dark"


async def test_a_blackhole_answers_no_connection_until_it_ends() -> None:
    async with proxied() as (proxy, far):
        proxy.blackhole()
        waiting = asyncio.create_task(asyncio.open_connection("127.0.0.1", proxy.port))
        done, _ = await asyncio.wait([waiting], timeout=STANDS_STILL_S)
        assert not done
        proxy.restore()
        ends = Ends(await asyncio.wait_for(waiting, PATIENCE_S), await far.meet())
        far.to_close.append(ends.near_out)
        await ends.up(b"hello")


async def test_one_direction_can_stall_alone() -> None:
    async with proxied() as (proxy, far):
        ends = await connected(proxy, far)
        proxy.shape(up=Flow(stalled=True))
        ends.near_out.write(b"held")
        await ends.down(b"free")
        assert await stands_still(ends.far_in)
        proxy.shape(up=Flow())
        assert await asyncio.wait_for(ends.far_in.readexactly(4), PATIENCE_S) == b"held"


async def test_half_open_is_silence_for_the_old_and_nothing_to_the_new() -> None:
    async with proxied() as (proxy, far):
        old = await connected(proxy, far)
        proxy.half_open()
        old.near_out.write(b"is anybody there?")
        old.far_out.write(b"anybody?")
        new = await connected(proxy, far)
        await new.up(b"hello")
        assert await stands_still(old.far_in)
        assert await stands_still(old.near_in)
        proxy.restore()
        assert await is_reset(old.near_in)
        await new.down(b"still here")
        assert (proxy.counters.half_opened, proxy.counters.reset) == (1, 1)


async def test_latency_holds_bytes_for_its_time_and_keeps_their_order() -> None:
    clock = SteppingClock()
    async with proxied(clock) as (proxy, far):
        ends = await connected(proxy, far)
        proxy.shape(up=Flow(latency_ns=200 * MILLISECOND_NS))
        ends.near_out.write(b"first")
        await ends.down(b"undelayed")
        clock.advance(100 * MILLISECOND_NS)
        proxy.shape(up=Flow(latency_ns=0))
        ends.near_out.write(b" second")
        await ends.down(b"undelayed")
        clock.advance(199 * MILLISECOND_NS)
        assert await stands_still(ends.far_in)
        clock.advance(200 * MILLISECOND_NS)
        assert await asyncio.wait_for(ends.far_in.readexactly(12), PATIENCE_S) == b"first second"


async def test_a_throttled_flow_takes_its_time_and_a_new_rate_counts_at_once() -> None:
    async with proxied() as (proxy, far):
        ends = await connected(proxy, far)
        proxy.shape(up=Flow(bytes_per_s=1_000_000))
        started = time.monotonic()
        await ends.up(os.urandom(300_000))
        assert time.monotonic() - started >= 0.29
        proxy.shape(up=Flow(bytes_per_s=1_000))
        ends.near_out.write(bytes(1_000_000))
        await asyncio.wait_for(ends.far_in.readexactly(50), PATIENCE_S)
        proxy.restore()
        await asyncio.wait_for(ends.far_in.readexactly(999_950), PATIENCE_S)


async def test_a_target_that_is_not_there_resets_its_client() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        async with FaultProxy(*nobody.getsockname()) as proxy:
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            assert await is_reset(reader)
            assert proxy.counters.reset == 1
            writer.close()


async def test_a_targets_reset_reaches_the_client_as_one() -> None:
    async with proxied() as (proxy, far):
        ends = await connected(proxy, far)
        ends.far_out.transport.abort()
        ends.near_out.write(b"x")
        assert await is_reset(ends.near_in) or ends.near_in.at_eof()


async def test_leaving_frees_every_connection_whatever_its_state() -> None:
    async with proxied() as (proxy, far):
        stalled, dead = await connected(proxy, far), await connected(proxy, far)
        proxy.half_open()
        fresh = await connected(proxy, far)
        proxy.blackhole()
        assert proxy.connections == 3
        for ends in (stalled, dead, fresh):
            far.to_close.remove(ends.near_out)
    assert proxy.connections == 0
    for ends in (stalled, dead, fresh):
        assert await is_reset(ends.near_in)
        ends.near_out.close()


async def test_an_error_inside_the_block_comes_out_as_it_is() -> None:
    async def fails_inside() -> None:
        async with proxied() as (proxy, far):
            await connected(proxy, far)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fails_inside()


async def test_many_megabytes_pass_unchanged() -> None:
    size = 48 * 1024 * 1024
    block = random.Random(2).randbytes(1024 * 1024)
    digest = hashlib.blake2b(digest_size=16)
    async with proxied() as (proxy, far):
        ends = await connected(proxy, far)

        async def send() -> None:
            for _ in range(size // len(block)):
                ends.near_out.write(block)
                await ends.near_out.drain()
            ends.near_out.write_eof()

        sending = asyncio.create_task(send())
        while data := await asyncio.wait_for(ends.far_in.read(1 << 18), PATIENCE_S):
            digest.update(data)
        await sending
    assert digest.digest() == hashlib.blake2b(block * (size // len(block)), digest_size=16).digest()


# --- the arithmetic --------------------------------------------------------------------------------------------------

pieces = st.lists(st.tuples(st.integers(1, 100_000), st.integers(0, SECOND_NS)), min_size=1, max_size=30)


@given(pieces, st.floats(100, 1e8))
def test_over_any_time_no_more_than_the_rate_and_one_piece_pass(sent: list[tuple[int, int]], rate: float) -> None:
    throttle, now_ns = Throttle(), 0
    passed: list[tuple[int, int]] = []
    for size, pause_ns in sent:
        now_ns += pause_ns
        passed.append((throttle.reserve(size, rate, now_ns), size))
        now_ns = max(now_ns, passed[-1][0])
    for i, (from_ns, _) in enumerate(passed):
        for to_ns, _ in passed[i:]:
            inside = sum(size for at_ns, size in passed if from_ns <= at_ns <= to_ns)
            allowed = rate * (to_ns - from_ns) / SECOND_NS + max(size for _, size in passed)
            assert inside <= allowed * 1.001 + len(passed)


@given(st.integers(1, 10**9), st.none() | st.floats(0.001, 1e9))
def test_pieces_always_advance_and_last_at_most_a_slice(available: int, rate: float | None) -> None:
    size = piece_bytes(available, rate)
    assert 1 <= size <= available
    assert rate is None or size == 1 or size / rate <= 0.0501


def test_conditions_are_good_by_default() -> None:
    assert Conditions() == Conditions(up=Flow(0, None, False), down=Flow(0, None, False))
