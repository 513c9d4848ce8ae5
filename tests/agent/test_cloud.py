"""The vehicle's way to its receiver, against a real one: renewal under load, a clock years off, a revoked vehicle."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest
from cryptography import x509

from agent.cloud import CloudSide
from agent.config import LinkSection
from agent.links import Trust
from agent.pairing import PairingRefused, renew
from ecu.clock import SECOND_NS, OffsetClock, SystemClock
from ecu.disk import DiskFull
from ecu.keys import MemoryKeyStore, PendingIdentity
from telemetry.links.link import Unreachable
from telemetry.uplink.config import UplinkConfig
from telemetry.uplink.memory import MemoryBacklog
from telemetry.uplink.status import UplinkState
from tests.contracts.scriptedbroker import HOST, a_scripted_broker, connack
from tests.receiver.fleet import Vehicle, a_receiver, a_vehicle, make_block, until

DAY_NS = 24 * 3600 * SECOND_NS
QUICK = UplinkConfig(backoff_base_s=0.02, backoff_cap_s=0.1, unauthorized_pause_s=30.0)


def cloud_side(vehicle: Vehicle, wall: OffsetClock, backlog: MemoryBacklog) -> CloudSide:
    trust = Trust(vehicle.paired, vehicle.keys, wall, vehicle.disk)
    return CloudSide(trust, backlog, SystemClock(), Random(7), LinkSection(), QUICK)


@contextlib.asynccontextmanager
async def running(side: CloudSide) -> AsyncIterator[None]:
    task = asyncio.create_task(side.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def state(side: CloudSide) -> UplinkState:
    status = side.status().uplink
    assert status is not None
    return status.state


def serial(vehicle: Vehicle) -> int:
    certificate = vehicle.keys.certificate()
    assert certificate is not None
    return x509.load_pem_x509_certificate(certificate).serial_number


async def test_a_certificate_past_two_thirds_of_its_life_is_renewed_and_a_full_backlog_loses_nothing(
    tmp_path: Path,
) -> None:
    async with a_receiver(tmp_path) as receiver:
        vehicle, backlog = await a_vehicle(receiver, tmp_path), MemoryBacklog()
        before = serial(vehicle)
        for number in range(40):
            backlog.add(make_block(base_seq=3 * number))
        side = cloud_side(vehicle, OffsetClock(SystemClock(), 10 * DAY_NS), backlog)
        async with running(side):
            await until(lambda: serial(vehicle) != before)
            await until(lambda: backlog.freed == 120)
            await until(lambda: state(side) is UplinkState.CONNECTED)
    assert backlog.quarantined == {}


async def test_a_young_certificate_is_left_alone(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        vehicle, backlog = await a_vehicle(receiver, tmp_path), MemoryBacklog()
        before = serial(vehicle)
        backlog.add(make_block())
        side = cloud_side(vehicle, OffsetClock(SystemClock(), 9 * DAY_NS), backlog)
        async with running(side):
            await until(lambda: backlog.freed == 3)
        assert serial(vehicle) == before


async def test_a_clock_in_1970_is_set_by_the_receivers_signed_time_and_then_everything_goes(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        vehicle, backlog = await a_vehicle(receiver, tmp_path), MemoryBacklog()
        wall = OffsetClock(SystemClock(), -SystemClock().wall_ns())
        backlog.add(make_block())
        async with running(cloud_side(vehicle, wall, backlog)):
            await until(lambda: backlog.freed == 3)
        assert abs(wall.offset_ns) < SECOND_NS


async def test_a_connect_that_began_before_a_renewal_doesnt_make_the_former_identity_superfluous(
    tmp_path: Path,
) -> None:
    async with a_receiver(tmp_path) as receiver:
        vehicle = await a_vehicle(receiver, tmp_path)
        side = cloud_side(vehicle, OffsetClock(SystemClock()), MemoryBacklog())
        side._connecting()
        await asyncio.to_thread(renew, vehicle.paired, vehicle.keys, vehicle.clock)
        side._connected()
        assert vehicle.keys.previous_certificate() is not None
        side._take_identity()
        side._connecting()
        side._connected()
        assert vehicle.keys.previous_certificate() is None


def behind_a_broker(vehicle: Vehicle, wall: OffsetClock, port: int) -> CloudSide:
    trust = Trust(vehicle.paired, vehicle.keys, wall, vehicle.disk)
    link = LinkSection(broker=True, host=HOST, port=port)
    return CloudSide(trust, MemoryBacklog(), SystemClock(), Random(7), link, QUICK)


def banned(kind: int, body: bytes) -> bytes | None:
    return connack(code=0x8A)


async def test_a_renewal_is_settled_by_the_receiver_whatever_a_broker_says_of_the_vehicle(tmp_path: Path) -> None:
    async with (
        a_receiver(tmp_path) as receiver,
        a_scripted_broker(tmp_path, banned, receiver.authority) as broker,
    ):
        vehicle = await a_vehicle(receiver, tmp_path)
        before = serial(vehicle)
        side = behind_a_broker(vehicle, OffsetClock(SystemClock(), 10 * DAY_NS), broker.port)
        async with running(side):
            await until(lambda: state(side) is UplinkState.UNAUTHORIZED)
            await until(lambda: serial(vehicle) != before and vehicle.keys.previous_certificate() is None)
            await until(lambda: state(side) is UplinkState.UNAUTHORIZED)
        assert serial(vehicle) != before


async def test_no_brokers_word_takes_a_renewal_back_or_makes_the_former_identity_superfluous(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        vehicle = await a_vehicle(receiver, tmp_path)
        side = behind_a_broker(vehicle, OffsetClock(SystemClock()), 1)
        await asyncio.to_thread(renew, vehicle.paired, vehicle.keys, vehicle.clock)
        renewed = serial(vehicle)
        side._take_identity()
        side._connecting()
        side._connected()
        assert vehicle.keys.previous_certificate() is not None
    # Nobody is there now who could settle it.
    for _ in range(2):
        with pytest.raises(Unreachable):
            await side._do(side._due())
    assert serial(vehicle) == renewed
    assert vehicle.keys.previous_certificate() is not None


async def test_behind_a_broker_a_renewal_is_taken_back_when_the_receiver_itself_refuses_it(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        vehicle = await a_vehicle(receiver, tmp_path)
        before = serial(vehicle)
        side = behind_a_broker(vehicle, OffsetClock(SystemClock()), 1)
        await asyncio.to_thread(renew, vehicle.paired, vehicle.keys, vehicle.clock)
        await receiver.operator.revoke(vehicle.name)
        with pytest.raises(PairingRefused, match="revoked"):
            await side._do(side._due())
        assert serial(vehicle) == before
        assert vehicle.keys.previous_certificate() is None


class FullDisk(MemoryKeyStore):
    """Can't make a key, nor put one away."""

    asked = 0

    def begin_identity(self) -> PendingIdentity:
        self.asked += 1
        raise DiskFull("Can't write identity-b.0: the disk is full.")

    def retire_previous(self) -> None:
        raise DiskFull("Can't write identity-b.0: the disk is full.")


async def test_a_full_disk_at_renewal_stops_neither_the_uplink_nor_the_agent(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        vehicle, backlog = await a_vehicle(receiver, tmp_path), MemoryBacklog()
        full = FullDisk()
        full._identities = vehicle.keys._identities
        backlog.add(make_block())
        trust = Trust(vehicle.paired, full, OffsetClock(SystemClock(), 10 * DAY_NS), vehicle.disk)
        side = CloudSide(trust, backlog, SystemClock(), Random(7), LinkSection(), QUICK)
        async with running(side):
            await until(lambda: backlog.freed == 3 and full.asked > 0)
            backlog.add(make_block(base_seq=3))
            await until(lambda: backlog.freed == 6)
            assert state(side) is UplinkState.CONNECTED


async def test_a_revoked_vehicle_pauses_and_keeps_everything(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        vehicle, backlog = await a_vehicle(receiver, tmp_path), MemoryBacklog()
        side = cloud_side(vehicle, OffsetClock(SystemClock()), backlog)
        async with running(side):
            await until(lambda: state(side) is UplinkState.CONNECTED)
            await receiver.operator.revoke(vehicle.name)
            await until(lambda: state(side) is UplinkState.UNAUTHORIZED)
            backlog.add(make_block())
            status = side.status().uplink
        assert status is not None
        assert status.reason
        assert backlog.freed == 0
