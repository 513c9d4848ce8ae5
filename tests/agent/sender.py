"""A vehicle's objects in a process of its own: `python -m tests.agent.sender FOLDER PORT`.

To port 0 it fills its store; to another it sends what that holds until it is empty, or it is killed.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from random import Random

from agent.objectlink import HttpsObjectLink
from ecu.clock import SystemClock
from ecu.disk import RealDisk
from ecu.keys import FileKeyStore
from simulator.bench.link.fleet import vehicle_in
from telemetry.objects import LEDGER_NAMES, ObjectKeeper, ObjectsConfig, ObjectStore
from telemetry.objects.uplink import ObjectUplink
from telemetry.privacy.pictures import RedactedPicture
from telemetry.records import Purpose
from telemetry.spool.counts import MemoryCounters
from tests.telemetry.objects.rig import content

CONFIG = ObjectsConfig(slice_bytes=32 * 1024, bytes_per_s=1e9)


OBJECTS = [content(number, 600_000) for number in range(3)]


def opened(folder: Path) -> ObjectStore:
    keys, counters = FileKeyStore.open(folder / "store-keys"), MemoryCounters(False, LEDGER_NAMES)
    return ObjectStore.open(RealDisk(folder / "objects"), keys, os.urandom, CONFIG, counters)


def fill(folder: Path) -> None:
    store = opened(folder)
    for data in OBJECTS:
        store.put(RedactedPicture(data, 1280, 720, 1, 1, 0, "hard_brake"), Purpose.PERCEPTION)
    store.close()


async def send(folder: Path, port: int) -> None:
    paired, context = vehicle_in(folder)
    clock = SystemClock()
    first, second = (HttpsObjectLink(paired.host, port, context, clock) for _ in range(2))
    keeper = ObjectKeeper(opened(folder))
    sending = asyncio.ensure_future(ObjectUplink(first, keeper, clock, Random(), CONFIG, second=second).run())
    async with asyncio.timeout(60):
        while keeper.oldest() is not None:
            await asyncio.sleep(0.01)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    await keeper.close()


if __name__ == "__main__":
    if sys.argv[2] == "0":
        fill(Path(sys.argv[1]))
    else:
        asyncio.run(send(Path(sys.argv[1]), int(sys.argv[2])))
