"""What the tests of the objects' way share: a link to a receiver, a store on real files, an uplink between them."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

from agent.objectlink import HttpsObjectLink
from ecu.clock import Clock, SystemClock
from ecu.disk import RealDisk
from ecu.keys import MemoryKeyStore
from telemetry.objects import ObjectKeeper, ObjectsConfig, ObjectStore
from telemetry.objects.uplink import ObjectUplink
from telemetry.objects.wire import ByteRange, Have
from telemetry.privacy import RedactedPicture
from telemetry.records import Purpose
from telemetry.uplink.config import UplinkConfig
from tests.receiver.fleet import Vehicle
from tests.telemetry.objects.rig import no_counters

SLICE = 16 * 1024
FAST = ObjectsConfig(slice_bytes=SLICE, bytes_per_s=1e9)
IMPATIENT = UplinkConfig(backoff_base_s=0.01, backoff_cap_s=0.05, unauthorized_pause_s=0.2, throttle_cap_s=0.2)


def named(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def link_of(vehicle: Vehicle, port: int | None = None, clock: Clock | None = None) -> HttpsObjectLink:
    """To its receiver, or to whoever stands before it."""
    paired = vehicle.paired
    return HttpsObjectLink(
        paired.host, port or paired.https_port, vehicle.context(), clock or SystemClock(), timeout_s=10
    )


def send_all(link: HttpsObjectLink, data: bytes, sha256: str | None = None, slice_bytes: int = SLICE) -> Have:
    """From where the receiver is, to the end; what it says last."""
    name = sha256 or named(data)
    have = link.look(name)
    while not have.stored:
        end = min(len(data), have.bytes + slice_bytes)
        have = link.send(name, ByteRange(have.bytes, end, len(data)), data[have.bytes : end])
    return have


def picture(data: bytes) -> RedactedPicture:
    return RedactedPicture(data, 1280, 720, 1, 1, 0, "hard_brake")


class Car:
    """A vehicle's store and the uplink that empties it. `keys` are the store's, and outlive it."""

    def __init__(self, folder: Path, keys: MemoryKeyStore | None = None, config: ObjectsConfig = FAST) -> None:
        self.keys = keys or MemoryKeyStore()
        self.config = config
        disk = RealDisk(folder)
        self.store = ObjectStore.open(disk, self.keys, os.urandom, config, no_counters())
        self.keeper = ObjectKeeper(self.store)

    async def take(self, data: bytes) -> None:
        await self.keeper.put(picture(data), Purpose.PERCEPTION)

    @asynccontextmanager
    async def sending(self, link: HttpsObjectLink) -> AsyncIterator[ObjectUplink]:
        uplink = ObjectUplink(link, self.keeper, SystemClock(), Random(1), self.config, IMPATIENT)
        running = asyncio.create_task(uplink.run())
        try:
            yield uplink
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def emptied(self) -> None:
        async with asyncio.timeout(30):
            while self.store.oldest() is not None:
                await asyncio.sleep(0.005)
