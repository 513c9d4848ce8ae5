"""The vehicle's way to its receiver, against a real one: renewal under load, a clock years off, a revoked vehicle."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest
from cryptography import x509

from agent.anchors import ClockAnchors
from agent.cloud import CHECKPOINT_AFTER_NS, CHECKPOINT_EVERY_NS, CloudSide
from agent.config import LinkSection
from agent.https import VehicleLine
from agent.links import Trust
from agent.pairing import PairingRefused, renew
from ecu.clock import SECOND_NS, OffsetClock, SteppingClock, SystemClock
from ecu.conditions import Network
from ecu.disk import DiskFull, FolderDisk, RealDisk, replace_file
from ecu.keys import MemoryKeyStore, PendingIdentity
from ecu.network import Reach, SettableNetwork
from ota.audit import Audit
from receiver.times import Timeline
from telemetry.links.link import Unreachable
from telemetry.links.statusreport import StatusReport
from telemetry.objects.wire import OBJECTS_PATH
from telemetry.records import ClockAnchor, Health, Lane, Purpose, Record
from telemetry.spool import Spool, SpoolKeeper, SpoolLimits
from telemetry.spool.counts import LaneCounts, MemoryCounters
from telemetry.uplink.config import UplinkConfig
from telemetry.uplink.memory import MemoryBacklog
from telemetry.uplink.meter import BLOCK_OVERHEAD_BYTES, Meter
from telemetry.uplink.networks import NetworkConfig
from telemetry.uplink.status import UplinkState
from tests.contracts.scriptedbroker import HOST, a_scripted_broker, connack
from tests.receiver.fleet import Vehicle, a_receiver, a_vehicle, make_block, until

DAY_NS = 24 * 3600 * SECOND_NS
FEW = SpoolLimits().model_copy(
    update={"max_bytes": 2 << 20, "segment_bytes": 1 << 17, "reserve_segments": (1, 1, 1, 1)}
)
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


def a_full_spool(folder: Path) -> SpoolKeeper:
    """On real files, up to its quota: the oldest of what was offered have been evicted already."""
    spool = Spool.open(RealDisk(folder), MemoryKeyStore(), SystemClock(), os.urandom, FEW, MemoryCounters())
    for number in range(600):
        spool.offer(Record(Lane.P1, Purpose.OPERATION, number, Health("test", os.urandom(2000).hex())), wall_ns=number)
        if number % 20 == 19:
            batch = spool.take(0, everything=True)
            assert batch is not None
            spool.settle(spool.write(batch))
    return SpoolKeeper(spool, SystemClock())


def p1(spool: SpoolKeeper) -> LaneCounts:
    return spool.counts().lanes[Lane.P1]


async def test_a_certificate_renewed_with_a_full_spool_costs_no_record(tmp_path: Path) -> None:
    # Mutation: keys of the spool that hang on the identity; blocks under way that count as sent over the old session.
    async with a_receiver(tmp_path) as receiver:
        vehicle, spool = await a_vehicle(receiver, tmp_path), a_full_spool(tmp_path / "spool")
        full = p1(spool)
        assert full.evicted
        assert full.spooled >= 100
        before = serial(vehicle)
        trust = Trust(vehicle.paired, vehicle.keys, OffsetClock(SystemClock(), 10 * DAY_NS), vehicle.disk)
        side = CloudSide(trust, spool, SystemClock(), Random(7), LinkSection(), QUICK)
        async with running(side):
            await until(lambda: serial(vehicle) != before)
            await until(lambda: p1(spool).spooled == 0)
            await until(lambda: state(side) is UplinkState.CONNECTED)
        after = p1(spool)
        assert after.acknowledged == full.spooled
        assert (after.evicted, after.quarantined) == (full.evicted, {})
        assert receiver.counters.blocks_conflict == 0
        assert await spool.close(10 * SECOND_NS)


async def test_at_ignition_off_p0_is_stored_before_all_is_quiet_and_the_rest_waits(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        vehicle, backlog = await a_vehicle(receiver, tmp_path), MemoryBacklog()
        side = cloud_side(vehicle, OffsetClock(SystemClock()), backlog)
        async with running(side):
            await until(lambda: state(side) is UplinkState.CONNECTED)
        backlog.add(make_block(lane=Lane.P0))
        backlog.add(make_block(lane=Lane.P2))
        await side.last_call()
        assert (backlog.freed, len(backlog)) == (3, 1)
        assert state(side) is UplinkState.STOPPED


async def test_a_report_is_counted_and_of_counts_alone_waits_for_a_network_that_lets_p2(tmp_path: Path) -> None:
    # Mutation: abroad a report a minute takes more than the day's budget, uncounted.
    async with a_receiver(tmp_path) as receiver:
        vehicle, network = await a_vehicle(receiver, tmp_path), SettableNetwork(Network.ROAMING)
        drive, looks = SteppingClock(0, SystemClock().wall_ns()), itertools.count(1)
        meter = Meter(SystemClock(), NetworkConfig(), network)
        trust = Trust(vehicle.paired, vehicle.keys, OffsetClock(drive), vehicle.disk)
        side = CloudSide(
            trust, MemoryBacklog(), SystemClock(), Random(7), LinkSection(), QUICK, meter=meter,
            report=lambda: StatusReport(version="1", records_waiting=next(looks)),
        )  # fmt: skip

        async def pass_minutes(count: int) -> None:
            for _ in range(count * 60):
                drive.advance(drive.boot_ns() + SECOND_NS)
                await asyncio.sleep(0.001)

        async with running(side):
            await until(lambda: state(side) is UplinkState.CONNECTED)
            connected = meter.status().gone_bytes
            await pass_minutes(1)
            await until(lambda: meter.status().gone_bytes > connected)
            first = meter.status().gone_bytes - connected
            assert BLOCK_OVERHEAD_BYTES < first < 2 * BLOCK_OVERHEAD_BYTES, "one, whatever the network"
            await pass_minutes(3)
            assert meter.status().gone_bytes == connected + first
            network.reach = Reach(Network.WIFI)
            await until(lambda: meter.status().network == Network.WIFI.value)
            await pass_minutes(2)
            await until(lambda: meter.status().gone_bytes > BLOCK_OVERHEAD_BYTES)


async def test_bulk_is_marked_as_what_may_go_last(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        vehicle = await a_vehicle(receiver, tmp_path)
        marks = []
        for is_bulk in (False, True):
            paired = vehicle.paired
            line = VehicleLine(paired.host, paired.https_port, vehicle.context(), SystemClock(), is_bulk=is_bulk)
            await asyncio.to_thread(line.ask, "HEAD", f"{OBJECTS_PATH}/{'0' * 64}")
            assert line._wire is not None
            marks.append(line._wire.getsockopt(socket.IPPROTO_IP, socket.IP_TOS))
            line.close()
        assert marks == [0, 0x20], "DSCP CS1 is 8, six bits from the left"


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
        told: list[ClockAnchor] = []
        anchors = ClockAnchors(wall, "boot", {Lane.P1: bytes(16)}, told.append)
        trust = Trust(vehicle.paired, vehicle.keys, wall, vehicle.disk)
        side = CloudSide(trust, backlog, SystemClock(), Random(7), LinkSection(), QUICK, anchors=anchors)
        async with running(side):
            await until(lambda: backlog.freed == 3)
        assert abs(wall.offset_ns) < SECOND_NS
        assert [anchor.source for anchor in told] == ["receiver", "certificates"]
        # Who reads them places this very moment, within what the receiver said.
        placed = Timeline(told).place(Lane.P1, bytes(16), wall.boot_ns(), believed_ns=0)
        assert placed.within_ns is not None
        assert abs(placed.wall_ns - SystemClock().wall_ns()) <= placed.within_ns + SECOND_NS // 20


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


class Appointments(SteppingClock):
    """Knows for when somebody waits."""

    def __init__(self) -> None:
        super().__init__(wall_ns=time.time_ns())
        self.waited_for = set[int]()

    async def sleep_until(self, boot_ns: int) -> None:
        self.waited_for.add(boot_ns)
        await super().sleep_until(boot_ns)

    async def comes_to(self, boot_ns: int) -> None:
        """Once somebody waits for that."""
        await until(lambda: boot_ns in self.waited_for)
        self.advance(boot_ns)


async def test_the_audits_are_signed_some_minutes_after_the_start_and_once_an_hour_whatever_came_of_the_last_time(
    tmp_path: Path,
) -> None:
    # Mutation: no pause or one that grows, a task that ends with a refusal, an exchange without a connection.
    async with a_receiver(tmp_path) as receiver:
        vehicle, clock = await a_vehicle(receiver, tmp_path), Appointments()
        vehicle.disk.make_folder("updates")
        Audit(FolderDisk(vehicle.disk, "updates"), clock, vehicle.name).add("kept", "a release")
        trust = Trust(vehicle.paired, vehicle.keys, OffsetClock(SystemClock(), 0), vehicle.disk)
        side, hours = CloudSide(trust, MemoryBacklog(), clock, Random(7), LinkSection(), QUICK), CHECKPOINT_EVERY_NS
        async with running(side):
            await until(lambda: state(side) is UplinkState.CONNECTED and CHECKPOINT_AFTER_NS in clock.waited_for)
            clock.advance(CHECKPOINT_AFTER_NS - 1)
            assert CHECKPOINT_AFTER_NS + hours not in clock.waited_for
            await clock.comes_to(CHECKPOINT_AFTER_NS)
            await until(lambda: receiver.counters.audit_checkpoints == 1)
            kept = vehicle.disk.read("updates/audit")
            await until(lambda: CHECKPOINT_AFTER_NS + hours in clock.waited_for)
            vehicle.disk.remove("updates/audit")
            clock.advance(CHECKPOINT_AFTER_NS + hours)
            await until(lambda: CHECKPOINT_AFTER_NS + 2 * hours in clock.waited_for)
            assert receiver.counters.audit_checkpoints == 1, "it signs nothing while its own audit is another one"
            replace_file(vehicle.disk, "updates/audit", kept)
            clock.advance(CHECKPOINT_AFTER_NS + 2 * hours)
            await until(lambda: receiver.counters.audit_checkpoints == 2)
