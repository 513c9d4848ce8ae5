"""A vehicle killed again and again while it sends brings every object, and sends little of it twice."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from random import Random

import pytest

from agent.pairing import load_paired
from ecu.disk import RealDisk
from receiver.client import OperatorClient
from simulator.bench.link.fleet import a_fleet
from simulator.faults.net import Bottleneck, FaultProxy
from tests.agent.sender import CONFIG, OBJECTS

KILLS = 12
CONNECTIONS_BYTES = 2 * 6_000
"""Two handshakes with certificates, and the question where the receiver is."""


async def sender(folder: Path, port: int) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(sys.executable, "-m", "tests.agent.sender", str(folder), str(port))


@pytest.mark.soak
@pytest.mark.timeout(300)
async def test_a_kill_costs_no_more_than_the_slices_that_were_under_way(tmp_path: Path) -> None:
    # Mutation: an offset that is kept on the vehicle, or an object begun anew after a start.
    chance = Random(9)
    with a_fleet(tmp_path, 1) as fleet:
        folder = fleet.vehicles[0]
        assert await (await sender(folder, 0)).wait() == 0
        paired = load_paired(RealDisk(folder))
        line = Bottleneck(250_000.0, 32 * 1024)
        async with FaultProxy(paired.host, paired.https_port, bottleneck=line) as proxy:
            for _ in range(KILLS):
                process = await sender(folder, proxy.port)
                at = proxy.counters.up_bytes + chance.randrange(8_000, 140_000)
                async with asyncio.timeout(30):
                    while proxy.counters.up_bytes < at:
                        await asyncio.sleep(0.002)
                process.kill()
                await process.wait()
            process = await sender(folder, proxy.port)
            assert await process.wait() == 0
            sent = proxy.counters.up_bytes
        stored = {Path(line.path).read_bytes() for line in OperatorClient(fleet.state).objects()}
        assert stored == set(OBJECTS)
    slices = 2 * CONFIG.slice_bytes
    once = sum(map(len, OBJECTS))
    assert once <= sent <= once + once // 20 + (KILLS + 1) * (slices + CONNECTIONS_BYTES)
