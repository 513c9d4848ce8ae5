"""Laws of the door: whoever is silent in front of it keeps nobody out."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from receiver.listener import HANDSHAKES_AT_ONCE, HANDSHAKES_PER_ADDRESS, to_drop
from receiver.web import CONNECTIONS_AT_ONCE
from telemetry.links.tls import pinned_context
from tests.receiver.fleet import RawVehicle, a_receiver, a_vehicle, until
from tests.receiver.test_api import ask

OURS, THEIRS = "127.0.0.1", "127.0.0.2"


@contextlib.asynccontextmanager
async def silent_connections(count: int, port: int, address: str) -> AsyncIterator[list[asyncio.StreamReader]]:
    opened = [
        await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0), limit=1024) for _ in range(count)
    ]
    try:
        yield [reader for reader, _ in opened]
    finally:
        for _, writer in opened:
            writer.transport.abort()


async def test_silent_connections_keep_no_vehicle_out(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        vehicle = await a_vehicle(receiver, tmp_path)
        for address in (OURS, THEIRS):
            async with silent_connections(HANDSHAKES_AT_ONCE + 8, receiver.address.mqtt_port, address) as silent:
                async with asyncio.timeout(5):
                    assert await silent[0].read() == b""
                    raw = await RawVehicle.connected(vehicle)
                await raw.close()


async def test_one_address_drops_nobody_elses_handshake(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        port = receiver.address.mqtt_port
        async with silent_connections(1, port, OURS) as (first,), silent_connections(HANDSHAKES_AT_ONCE, port, THEIRS):
            await until(lambda: receiver.counters.handshakes_dropped == HANDSHAKES_AT_ONCE - HANDSHAKES_PER_ADDRESS)
            assert not first.at_eof()


def test_the_oldest_gives_way_its_own_before_others() -> None:
    few = dict.fromkeys(range(HANDSHAKES_PER_ADDRESS), THEIRS)
    assert to_drop(few, OURS) is None
    assert to_drop({-1: OURS} | few, THEIRS) == 0
    assert to_drop({-1: OURS} | few, OURS) is None
    many = {n: f"10.0.0.{n}" for n in range(HANDSHAKES_AT_ONCE)}
    assert to_drop(many, OURS) == 0
    del many[0]
    assert to_drop(many, OURS) is None


async def test_idle_https_connections_keep_nobody_from_asking(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        context, port = pinned_context(receiver.authority.pem), receiver.address.https_port
        idle = [await asyncio.open_connection("localhost", port, ssl=context) for _ in range(CONNECTIONS_AT_ONCE + 1)]
        idle[1][1].write(b"POST /v1/pair HTTP/1.1\r\nhost: x\r\ncontent-length: 50\r\n\r\nslow")
        assert (await asyncio.to_thread(ask, receiver, "GET", "/v1/health"))[0] == 200
        async with asyncio.timeout(5):
            for reader, _ in idle[:2]:
                with contextlib.suppress(ConnectionError):
                    assert await reader.read() == b""
        assert receiver.counters.crowded_out == 2
        for _, writer in idle:
            writer.transport.abort()
