"""A hostile vehicle against a real endpoint: whatever it sends, the endpoint stays up and the others are unharmed."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from receiver.packets import Framer, Violation, decode
from receiver.session import MAX_PUBLISH_BYTES
from simulator.faults.packets import FATAL_SHARE, assault, hostile_packets
from telemetry.links.link import Link
from telemetry.records import Lane
from tests.receiver.fleet import VEHICLE, a_receiver, a_vehicle, make_block, until

HOSTILE = "veh-666"


async def under_assault(folder: Path, count: int) -> None:
    async with a_receiver(folder) as receiver:
        hostile, honest = await a_vehicle(receiver, folder, HOSTILE), await a_vehicle(receiver, folder)
        context, port = hostile.context(), hostile.paired.mqtt_port

        async def dial() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            return await asyncio.open_connection("localhost", port, ssl=context)

        link = honest.link()
        await link.connect()
        raging = asyncio.create_task(assault(dial, hostile_packets(Random(666), count, HOSTILE, VEHICLE)))
        receipted: set[int] = set()
        listening = asyncio.create_task(collect(link, receipted))
        sent = 0
        while not raging.done():
            await link.publish(Lane.P1, make_block(3 * sent))
            sent += 1
        done = await raging
        assert done.packets == count
        assert 0.5 * FATAL_SHARE < done.ended_by_endpoint / count < 2 * FATAL_SHARE

        # The honest vehicle kept its one session and every record, and got a receipt for each.
        await until(lambda: len(receipted) == 3 * sent)
        listening.cancel()
        members = {member.vehicle: member for member in await receiver.operator.fleet()}
        assert (members[VEHICLE].records["P1"], members[VEHICLE].connected) == (3 * sent, True)
        assert set(members[HOSTILE].records.values()) == {0}
        await link.close()

        counted = receiver.counters
        assert counted.protocol_violations >= 0.8 * done.ended_by_endpoint
        assert min(counted.blocks_bad, counted.forbidden_publishes, counted.forbidden_subscriptions) > count / 50
        await until(lambda: receiver.endpoint.connections == 0)


async def collect(link: Link, receipted: set[int]) -> None:
    async for receipt in link.receipts():
        for start, end in receipt.ranges:
            receipted |= set(range(start, end))


async def test_an_assault_leaves_the_endpoint_up_and_the_others_unharmed(tmp_path: Path) -> None:
    await under_assault(tmp_path, 2_000)


@pytest.mark.soak
async def test_a_long_assault_leaves_the_endpoint_up_and_the_others_unharmed(tmp_path: Path) -> None:
    await under_assault(tmp_path, 20_000)


def test_twenty_thousand_mutated_packets_are_values_or_violations(capfd: pytest.CaptureFixture[str]) -> None:
    rng, outcomes = Random(20_000), {"value": 0, "violation": 0, "unfinished": 0}
    for packet in hostile_packets(rng, 20_000, HOSTILE):
        framer = Framer(MAX_PUBLISH_BYTES)
        framer.extend(_mutated(rng, packet[:300]))
        try:
            whole = framer.next()
            outcomes["unfinished" if whole is None else "value"] += 1
            if whole is not None:
                decode(whole)
        except Violation:
            outcomes["violation"] += 1
    assert min(outcomes.values()) > 500
    # A panic of the codec would have left a page on standard error.
    assert capfd.readouterr().err == ""


def _mutated(rng: Random, packet: bytes) -> bytes:
    mutated = bytearray(packet)
    for _ in range(rng.randrange(0, 4)):
        mutated[rng.randrange(len(mutated))] = rng.randrange(256)
    return bytes(mutated)


def test_the_same_chance_gives_the_same_packets() -> None:
    one, two = (list(hostile_packets(Random(1), 300, HOSTILE)) for _ in range(2))
    assert one == two
    assert any(a != b for a, b in pairwise(one))
