"""The endpoint's conversation, packet by packet over real TLS: what a vehicle may do, and how all else ends."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import ssl
from collections.abc import Iterator
from pathlib import Path
from random import Random

import mqtt5
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from mqtt5 import DisconnectReasonCode, PubAckReasonCode, QoS, SubAckReasonCode, UnsubAckReasonCode

from ecu.clock import SECOND_NS
from receiver import admission, journal
from receiver.endpoint import CONNECTIONS_PER_VEHICLE, MAX_STATUS_BYTES
from receiver.inbox import QUARANTINED_PER_VEHICLE, Outcome
from receiver.service import Receiver
from receiver.session import MAX_WAITING_BYTES, Phase, Session
from receiver.store import FILE
from receiver.tables import quarantine
from telemetry.records import Lane
from telemetry.wire import MAX_BLOCK_BYTES, down_topic, status_topic, unpack_receipt, up_topic
from tests.receiver.fleet import (
    EPOCH,
    VEHICLE,
    RawVehicle,
    Vehicle,
    a_receiver,
    a_vehicle,
    make_block,
    todays_clock,
    until,
)

UP = up_topic(VEHICLE, Lane.P1)
OTHER = "veh-002"


def publish(topic: str, payload: bytes, packet_id: int = 1, qos: QoS = QoS.AT_LEAST_ONCE) -> mqtt5.PublishPacket:
    return mqtt5.PublishPacket(topic, payload, qos=qos, packet_id=packet_id if qos is not QoS.AT_MOST_ONCE else None)


def subscribe(*patterns: str) -> mqtt5.SubscribePacket:
    return mqtt5.SubscribePacket(9, [mqtt5.TopicFilter(pattern) for pattern in patterns])


def code_of(packet: mqtt5.Packet | None) -> object:
    assert isinstance(packet, mqtt5.PubAckPacket | mqtt5.DisconnectPacket | mqtt5.ConnAckPacket)
    return packet.reason_code


async def test_connack_announces_every_bound(tmp_path: Path) -> None:
    async with a_receiver(tmp_path, receive_maximum=7, keep_alive_max_s=50) as receiver:
        raw = await RawVehicle.dial(await a_vehicle(receiver, tmp_path))
        answer = await raw.ask(mqtt5.ConnectPacket("", session_expiry_interval=99))
        assert isinstance(answer, mqtt5.ConnAckPacket)
        assert (answer.receive_max, answer.max_qos, answer.retain_available) == (7, QoS.AT_LEAST_ONCE, False)
        assert answer.max_packet_size is not None
        assert answer.max_packet_size > MAX_BLOCK_BYTES
        assert (answer.session_expiry_interval, answer.session_present, answer.topic_alias_max) == (0, False, 0)
        assert (answer.server_keep_alive, answer.assigned_client_id) == (50, VEHICLE)
        await raw.close()


async def test_a_stored_block_is_acknowledged_and_then_receipted_in_that_order(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        raw = await RawVehicle.connected(await a_vehicle(receiver, tmp_path))
        granted = await raw.ask(subscribe(down_topic(VEHICLE, "#")))
        assert isinstance(granted, mqtt5.SubAckPacket)
        assert granted.reason_codes == [SubAckReasonCode.GRANTED_QOS_AT_MOST_ONCE]
        assert code_of(await raw.ask(publish(UP, make_block()))) is PubAckReasonCode.SUCCESS
        told = await raw.receive()
        assert isinstance(told, mqtt5.PublishPacket)
        assert told.topic == down_topic(VEHICLE, "receipt")
        receipt = unpack_receipt(told.payload)
        assert (receipt.lane, receipt.epoch, receipt.ranges) == (Lane.P1, EPOCH, ((0, 3),))
        await raw.close()


REFUSED = [
    (UP, b"junk", PubAckReasonCode.PAYLOAD_FORMAT_INVALID),
    (UP, make_block()[:-1] + b"?", PubAckReasonCode.PAYLOAD_FORMAT_INVALID),
    (UP, make_block(lane=Lane.P2), PubAckReasonCode.PAYLOAD_FORMAT_INVALID),
    (up_topic(OTHER, Lane.P1), make_block(), PubAckReasonCode.NOT_AUTHORIZED),
    (down_topic(VEHICLE, "receipt"), b"x", PubAckReasonCode.NOT_AUTHORIZED),
    (UP + "/x", make_block(), PubAckReasonCode.NOT_AUTHORIZED),
    (status_topic(OTHER), b"{}", PubAckReasonCode.NOT_AUTHORIZED),
    (status_topic(VEHICLE), b"[]", PubAckReasonCode.PAYLOAD_FORMAT_INVALID),
    (status_topic(VEHICLE), b'{"\xff":1}', PubAckReasonCode.PAYLOAD_FORMAT_INVALID),
    (status_topic(VEHICLE), b'{"a":' * 3000, PubAckReasonCode.PAYLOAD_FORMAT_INVALID),
    (status_topic(VEHICLE), b'"' + b"x" * MAX_STATUS_BYTES, PubAckReasonCode.PAYLOAD_FORMAT_INVALID),
]


async def test_a_refused_publish_says_why_and_the_session_goes_on(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        raw = await RawVehicle.connected(await a_vehicle(receiver, tmp_path))
        for topic, payload, code in REFUSED:
            refused = await raw.ask(publish(topic, payload))
            assert isinstance(refused, mqtt5.PubAckPacket)
            assert (refused.reason_code, bool(refused.reason_str)) == (code, True), (topic, payload[:20])
        assert code_of(await raw.ask(publish(UP, make_block()))) is PubAckReasonCode.SUCCESS
        assert receiver.counters.forbidden_publishes == 4
        await raw.close()


async def test_a_conflict_is_refused_without_a_receipt(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        raw = await RawVehicle.connected(await a_vehicle(receiver, tmp_path))
        assert code_of(await raw.ask(publish(UP, make_block()))) is PubAckReasonCode.SUCCESS
        await raw.ask(subscribe(down_topic(VEHICLE, "#")))
        conflict = await raw.ask(publish(UP, make_block(note="forged")))
        assert code_of(conflict) is PubAckReasonCode.IMPLEMENTATION_SPECIFIC_ERROR
        # Had there been a receipt, it would come before the answer to this.
        assert isinstance(await raw.ask(mqtt5.PingReqPacket()), mqtt5.PingRespPacket)
        await raw.close()


async def fill_quarantine(receiver: Receiver) -> None:
    kept = {"vehicle": VEHICLE, "reason": "", "received_ns": 0, "block": b""}
    full = [kept | {"sha256": n.to_bytes(32, "big")} for n in range(QUARANTINED_PER_VEHICLE)]
    await receiver.store.transact(lambda c: c.execute(quarantine.insert(), full))


async def test_a_conflict_that_nobody_keeps_stays_with_the_vehicle_and_is_alarmed_so_often(tmp_path: Path) -> None:
    async with a_receiver(tmp_path, todays_clock()) as receiver:
        raw = await RawVehicle.connected(await a_vehicle(receiver, tmp_path))
        assert code_of(await raw.ask(publish(UP, make_block()))) is PubAckReasonCode.SUCCESS
        await fill_quarantine(receiver)
        codes = [code_of(await raw.ask(publish(UP, make_block(note=str(n))))) for n in range(15)]
        assert codes == [PubAckReasonCode.QUOTA_EXCEEDED] * 15
        assert receiver.counters.blocks_unsettled == 15
        await raw.close()
        events = [entry.event for entry in await receiver.store.transact(journal.tail, 100)]
        assert events.count("conflict_unsettled") == 10


async def test_a_block_that_came_another_way_is_answered_and_alarmed_alike(tmp_path: Path) -> None:
    async with a_receiver(tmp_path, todays_clock()) as receiver:
        await a_vehicle(receiver, tmp_path)
        submit = receiver.endpoint.submit
        assert (await submit(VEHICLE, Lane.P1, make_block())).outcome is Outcome.STORED
        await fill_quarantine(receiver)
        assert (await submit(VEHICLE, Lane.P1, make_block(note="other"))).outcome is Outcome.UNSETTLED
        events = [entry.event for entry in await receiver.store.transact(journal.tail, 100)]
        assert events.count("conflict_unsettled") == 1


async def test_a_vehicle_hears_only_its_own_down_topics(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        raw = await RawVehicle.connected(await a_vehicle(receiver, tmp_path))
        foreign = [down_topic(OTHER, "#"), "#", "outrider/v1/+/down/#", f"$share/g/{down_topic(VEHICLE, '#')}", UP]
        granted = await raw.ask(subscribe(*foreign, down_topic(VEHICLE, "hint"), down_topic(VEHICLE, "+")))
        assert isinstance(granted, mqtt5.SubAckPacket)
        assert (
            granted.reason_codes
            == [SubAckReasonCode.NOT_AUTHORIZED] * 5 + [SubAckReasonCode.GRANTED_QOS_AT_MOST_ONCE] * 2
        )
        assert receiver.counters.forbidden_subscriptions == 5
        await raw.close()


async def test_what_isnt_subscribed_isnt_told(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        raw = await RawVehicle.connected(await a_vehicle(receiver, tmp_path))
        assert not receiver.operator.hint(VEHICLE, "look")
        await raw.ask(subscribe(down_topic(VEHICLE, "#")))
        assert receiver.operator.hint(VEHICLE, "look")
        hint = await raw.receive()
        assert isinstance(hint, mqtt5.PublishPacket)
        assert (hint.topic, hint.payload) == (down_topic(VEHICLE, "hint"), b"look")
        gone = await raw.ask(mqtt5.UnsubscribePacket(3, [down_topic(VEHICLE, "#"), "else"]))
        assert isinstance(gone, mqtt5.UnsubAckPacket)
        assert gone.reason_codes == [UnsubAckReasonCode.SUCCESS, UnsubAckReasonCode.NO_SUBSCRIPTION_EXISTED]
        assert not receiver.operator.hint(VEHICLE, "look")
        await raw.close()


VIOLATIONS: list[tuple[mqtt5.Packet | bytes, DisconnectReasonCode]] = [
    (publish(UP, b"", qos=QoS.AT_MOST_ONCE), DisconnectReasonCode.QOS_NOT_SUPPORTED),
    (publish(UP, b"", qos=QoS.EXACTLY_ONCE), DisconnectReasonCode.QOS_NOT_SUPPORTED),
    (
        mqtt5.PublishPacket(UP, b"", qos=QoS.AT_LEAST_ONCE, packet_id=1, retain=True),
        DisconnectReasonCode.RETAIN_NOT_SUPPORTED,
    ),
    (
        mqtt5.PublishPacket(UP, b"", qos=QoS.AT_LEAST_ONCE, packet_id=1, topic_alias=1),
        DisconnectReasonCode.TOPIC_ALIAS_INVALID,
    ),
    (publish(UP, b"", packet_id=0), DisconnectReasonCode.PROTOCOL_ERROR),
    (publish(UP, bytes(MAX_BLOCK_BYTES + 2000)), DisconnectReasonCode.PACKET_TOO_LARGE),
    (mqtt5.ConnectPacket("again"), DisconnectReasonCode.PROTOCOL_ERROR),
    (mqtt5.PubAckPacket(1), DisconnectReasonCode.PROTOCOL_ERROR),
    (mqtt5.AuthPacket(), DisconnectReasonCode.PROTOCOL_ERROR),
    (b"\x30\x03\x00\x01\xff", DisconnectReasonCode.MALFORMED_PACKET),
]


async def test_a_violation_ends_the_connection_with_its_reason_and_no_other_one(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        bystander = await RawVehicle.connected(await a_vehicle(receiver, tmp_path, OTHER))
        vehicle = await a_vehicle(receiver, tmp_path)
        for number, (packet, code) in enumerate(VIOLATIONS, 1):
            raw = await RawVehicle.connected(vehicle)
            assert code_of(await raw.ask(packet)) is code
            assert await raw.receive() is None
            assert receiver.counters.protocol_violations == number
            assert isinstance(await bystander.ask(mqtt5.PingReqPacket()), mqtt5.PingRespPacket)
            await raw.close()
        await bystander.close()


async def test_more_in_flight_than_announced_ends_the_connection(tmp_path: Path) -> None:
    async with a_receiver(tmp_path, receive_maximum=3) as receiver:
        raw = await RawVehicle.connected(await a_vehicle(receiver, tmp_path))
        raw.send(b"".join(publish(UP, make_block(3 * n), n + 1).write() for n in range(4)))
        assert code_of(await raw.receive()) is DisconnectReasonCode.RECEIVE_MAX_EXCEEDED
        await raw.close()


async def test_what_comes_before_connect_is_not_talked_to(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        raw = await RawVehicle.dial(await a_vehicle(receiver, tmp_path))
        assert await raw.ask(publish(UP, make_block())) is None
        assert receiver.counters.blocks_stored == 0
        await raw.close()


async def test_packets_right_behind_connect_wait_for_the_look_at_the_certificate(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        vehicle = await a_vehicle(receiver, tmp_path)
        raw = await RawVehicle.dial(vehicle)
        raw.send(mqtt5.ConnectPacket("x").write() + publish(UP, make_block()).write())
        assert isinstance(await raw.receive(), mqtt5.ConnAckPacket)
        assert code_of(await raw.receive()) is PubAckReasonCode.SUCCESS
        await receiver.operator.revoke(VEHICLE)
        again = await RawVehicle.dial(vehicle)
        again.send(mqtt5.ConnectPacket("x").write() + publish(UP, make_block(3)).write())
        assert code_of(await again.receive()) is mqtt5.ConnAckReasonCode.NOT_AUTHORIZED
        assert await again.receive() is None
        assert receiver.counters.blocks_stored == 1
        await raw.close()
        await again.close()


async def test_a_newer_connection_takes_over_and_the_older_is_told(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        vehicle = await a_vehicle(receiver, tmp_path)
        older = await RawVehicle.connected(vehicle)
        newer = await RawVehicle.connected(vehicle)
        assert code_of(await older.receive()) is DisconnectReasonCode.SESSION_TAKEN_OVER
        assert await older.receive() is None
        assert receiver.operator.stats()["taken_over"] == 1
        assert receiver.endpoint.is_connected(VEHICLE)
        assert isinstance(await newer.ask(mqtt5.PingReqPacket()), mqtt5.PingRespPacket)
        await older.close()
        await newer.close()


async def test_silence_ends_a_session_after_one_and_a_half_keep_alives_and_whole_packets_only_extend_it(
    tmp_path: Path,
) -> None:
    clock = todays_clock()
    async with a_receiver(tmp_path, clock) as receiver:
        with on_a_wire(receiver, await a_vehicle(receiver, tmp_path, clock=clock)) as (session, wire):
            session.data_received(mqtt5.ConnectPacket("x", keep_alive=10).write())
            await until(lambda: session.phase is Phase.OPEN)
            clock.advance(clock.boot_ns() + 14 * SECOND_NS)
            session.data_received(mqtt5.PingReqPacket().write())
            clock.advance(clock.boot_ns() + 14 * SECOND_NS)
            session.data_received(b"\x30\x80")  # a slow loris' tooth: the beginning of a packet
            receiver.endpoint.end_overdue()
            assert (session.phase, receiver.counters.overdue) == (Phase.OPEN, 0)
            clock.advance(clock.boot_ns() + 2 * SECOND_NS)
            receiver.endpoint.end_overdue()
            assert (session.phase, receiver.counters.overdue) == (Phase.OVER, 1)
            assert code_of(wire.heard()[-1]) is DisconnectReasonCode.KEEP_ALIVE_TIMEOUT


async def test_a_session_that_ended_is_counted_once_however_long_its_goodbye_takes(tmp_path: Path) -> None:
    clock = todays_clock()
    async with a_receiver(tmp_path, clock, connect_s=5) as receiver:
        with on_a_wire(receiver, await a_vehicle(receiver, tmp_path, clock=clock)) as (_, wire):
            clock.advance(clock.boot_ns() + 6 * SECOND_NS)
            receiver.endpoint.end_overdue()
            receiver.endpoint.end_overdue()
            assert receiver.endpoint.cut(VEHICLE, "revoked") == 0
            assert (wire.closing, receiver.counters.overdue, receiver.counters.cut) == (True, 1, 0)


async def test_revocation_ends_a_connection_before_connect_and_while_it_is_checked_and_counts_it(
    tmp_path: Path,
) -> None:
    async with a_receiver(tmp_path) as receiver:
        vehicle, other = await a_vehicle(receiver, tmp_path), await a_vehicle(receiver, tmp_path, OTHER)
        with (
            on_a_wire(receiver, vehicle) as (waiting, _),
            on_a_wire(receiver, vehicle) as (checked, _),
            on_a_wire(receiver, other) as (bystander, _),
        ):
            revoking = asyncio.create_task(receiver.operator.revoke(VEHICLE))
            # The store does one thing after another: this look at the certificate waits behind the revocation.
            checked.data_received(mqtt5.ConnectPacket("x").write())
            assert (waiting.phase, checked.phase) == (Phase.WAITING, Phase.CHECKING)
            assert (await revoking).connections_cut == receiver.counters.cut == 2
            phases = waiting.phase, checked.phase, bystander.phase
            assert phases == (Phase.OVER, Phase.OVER, Phase.WAITING)


async def test_a_connection_cut_while_it_is_checked_never_opens(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        with on_a_wire(receiver, await a_vehicle(receiver, tmp_path)) as (session, wire):
            session.data_received(mqtt5.ConnectPacket("x").write())
            assert receiver.endpoint.cut(VEHICLE, "revoked") == 1
            # Done after the look at the certificate, which is welcome.
            await asyncio.create_task(receiver.operator.fleet())
            assert (session.phase, wire.heard(), receiver.counters.sessions) == (Phase.OVER, [], 0)


async def test_a_session_does_not_outlive_its_certificate(tmp_path: Path) -> None:
    clock = todays_clock()
    async with a_receiver(tmp_path, clock, certificate_days=1, keep_alive_max_s=3600) as receiver:
        vehicle = await a_vehicle(receiver, tmp_path, clock=clock)
        raw = await RawVehicle.connected(vehicle, keep_alive=3600)
        for _ in range(24):
            assert isinstance(await raw.ask(mqtt5.PingReqPacket()), mqtt5.PingRespPacket)
            clock.advance(clock.boot_ns() + 3600 * SECOND_NS)
        receiver.endpoint.end_overdue()
        assert code_of(await raw.receive()) is DisconnectReasonCode.NOT_AUTHORIZED
        await raw.close()
        again = await RawVehicle.dial(vehicle)
        answer = await again.ask(mqtt5.ConnectPacket("x"))
        assert isinstance(answer, mqtt5.ConnAckPacket)
        assert answer.reason_code is mqtt5.ConnAckReasonCode.NOT_AUTHORIZED
        assert "has expired" in (answer.reason_str or "")
        await again.close()


async def test_a_connection_without_connect_is_ended_in_time(tmp_path: Path) -> None:
    clock = todays_clock()
    async with a_receiver(tmp_path, clock, connect_s=5) as receiver:
        raw = await RawVehicle.dial(await a_vehicle(receiver, tmp_path, clock=clock))
        raw.send(b"\x10")
        await until(lambda: receiver.endpoint.connections == 1)
        clock.advance(6 * SECOND_NS)
        receiver.endpoint.end_overdue()
        assert await raw.receive() is None
        await raw.close()


async def test_a_flood_from_one_vehicle_waits_at_its_own_end_and_slows_nobody(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        bystander = await RawVehicle.connected(await a_vehicle(receiver, tmp_path, OTHER))
        flooder = await RawVehicle.connected(await a_vehicle(receiver, tmp_path))
        transport = flooder.writer.transport
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()
        for _ in range(20):
            flooder.send(mqtt5.PingReqPacket().write() * 500_000)
            await asyncio.sleep(0)
        before = receiver.endpoint.clock.boot_ns()
        for n in range(5):
            block = publish(up_topic(OTHER, Lane.P0), make_block(3 * n, lane=Lane.P0), n + 1)
            assert code_of(await bystander.ask(block)) is PubAckReasonCode.SUCCESS
        assert receiver.endpoint.clock.boot_ns() - before < 2 * SECOND_NS
        assert transport.get_write_buffer_size() > 1_000_000
        transport.abort()
        await until(lambda: receiver.endpoint.connections == 1)
        await bystander.close()


async def test_a_full_house_takes_nobody_more_until_somebody_leaves(tmp_path: Path) -> None:
    async with a_receiver(tmp_path, max_vehicles=1) as receiver:
        first, second = await a_vehicle(receiver, tmp_path), await a_vehicle(receiver, tmp_path, OTHER)
        raw = await RawVehicle.connected(first)
        with pytest.raises((ConnectionError, ssl.SSLError)):
            await RawVehicle.dial(second)
        assert receiver.counters.handshakes_dropped == 1
        await raw.close()
        await until(lambda: receiver.endpoint.connections == 0)
        await (await RawVehicle.connected(second)).close()


async def test_one_vehicle_has_few_connections_and_its_oldest_silent_one_gives_way(tmp_path: Path) -> None:
    async with a_receiver(tmp_path, max_vehicles=CONNECTIONS_PER_VEHICLE + 2) as receiver:
        greedy, other = await a_vehicle(receiver, tmp_path), await a_vehicle(receiver, tmp_path, OTHER)
        open_one = await RawVehicle.connected(greedy)
        silent = [await RawVehicle.dial(greedy) for _ in range(2 * CONNECTIONS_PER_VEHICLE)]
        assert await silent[0].receive() is None
        await until(lambda: receiver.endpoint.connections == CONNECTIONS_PER_VEHICLE)
        # The newest may still begin, and nobody else's place was taken.
        newcomer = await RawVehicle.connected(other)
        assert code_of(await open_one.ask(publish(UP, make_block()))) is PubAckReasonCode.SUCCESS
        assert receiver.counters.crowded_out == CONNECTIONS_PER_VEHICLE + 1
        for raw in (open_one, newcomer, *silent):
            await raw.close()


async def test_an_attempt_to_speak_for_another_is_audited_once_a_session(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        raw = await RawVehicle.connected(await a_vehicle(receiver, tmp_path))
        for n in range(3):
            await raw.ask(publish(up_topic(OTHER, Lane.P0), make_block(), n + 1))
        await raw.close()
        events = [entry.event for entry in await receiver.store.transact(journal.tail, 100)]
        assert events.count("forbidden_publish") == 1
        assert receiver.counters.forbidden_publishes == 3


async def test_the_last_report_of_a_vehicle_is_kept(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        raw = await RawVehicle.connected(await a_vehicle(receiver, tmp_path))
        for n, status in enumerate((b'{"n":1}', b'{"n":2}')):
            assert code_of(await raw.ask(publish(status_topic(VEHICLE), status, n + 1))) is PubAckReasonCode.SUCCESS
        assert await receiver.store.transact(admission.last_report, VEHICLE) == b'{"n":2}'
        await raw.close()


async def test_reports_cost_a_vehicle_of_its_share(tmp_path: Path) -> None:
    async with a_receiver(tmp_path, vehicle_burst_bytes=2 * MAX_STATUS_BYTES, vehicle_bytes_per_s=1) as receiver:
        raw = await RawVehicle.connected(await a_vehicle(receiver, tmp_path))
        codes = [code_of(await raw.ask(publish(status_topic(VEHICLE), b"{}", n + 1))) for n in range(3)]
        assert codes == [PubAckReasonCode.SUCCESS] * 2 + [PubAckReasonCode.QUOTA_EXCEEDED]
        assert receiver.counters.reports == 2
        await raw.close()


async def test_a_stopping_receiver_tells_its_vehicles(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        raw = await RawVehicle.connected(await a_vehicle(receiver, tmp_path))
    assert code_of(await raw.receive()) is DisconnectReasonCode.SERVER_SHUTTING_DOWN
    await raw.close()


class Wire(asyncio.Transport):
    """A transport that keeps what is written; its peer reads when told to."""

    def __init__(self, certificate: bytes) -> None:
        super().__init__()
        self.written = b""
        self.reading = True
        self.closing = False
        self._certificate = certificate

    def get_extra_info(self, name: str, default: object = None) -> object:
        return self

    def getpeercert(self, binary: bool) -> bytes:
        return self._certificate

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None:
        """The peer takes its time to say goodbye."""
        self.closing = True

    def is_closing(self) -> bool:
        return self.closing

    def heard(self) -> list[mqtt5.Packet]:
        packets, rest = list[mqtt5.Packet](), self.written
        while rest:
            packet, end = mqtt5.read(memoryview(rest))
            packets, rest = [*packets, packet], rest[end:]
        return packets


@contextlib.contextmanager
def on_a_wire(receiver: Receiver, vehicle: Vehicle) -> Iterator[tuple[Session, Wire]]:
    certificate = vehicle.keys.certificate()
    assert certificate is not None
    wire = Wire(x509.load_pem_x509_certificate(certificate).public_bytes(Encoding.DER))
    session = receiver.endpoint.session()
    session.connection_made(wire)
    try:
        yield session, wire
    finally:
        session.connection_lost(None)


async def test_of_large_blocks_no_more_is_read_than_may_wait_for_the_disk(tmp_path: Path) -> None:
    notes = [Random(n).randbytes(45_000).hex() for n in range(MAX_WAITING_BYTES // 45_000 + 10)]
    blocks = [make_block(3 * n, 1, note=note) for n, note in enumerate(notes)]
    assert sum(map(len, blocks)) > MAX_WAITING_BYTES + len(blocks[0])
    async with a_receiver(tmp_path) as receiver:
        with on_a_wire(receiver, await a_vehicle(receiver, tmp_path)) as (session, wire):
            session.data_received(mqtt5.ConnectPacket("x").write())
            await until(lambda: session.phase is Phase.OPEN and wire.written != b"")
            wire.written = b""
            with contextlib.closing(sqlite3.connect(tmp_path / "receiver" / FILE, isolation_level=None)) as holder:
                holder.execute("begin immediate")
                session.data_received(b"".join(publish(UP, block, n + 1).write() for n, block in enumerate(blocks)))
                for _ in blocks:  # more turns than all of them take
                    await asyncio.sleep(0)
                assert (wire.reading, wire.heard()) == (False, [])
                holder.execute("rollback")
            await until(lambda: wire.reading and len(wire.heard()) == len(blocks))
            assert [code_of(packet) for packet in wire.heard()] == [PubAckReasonCode.SUCCESS] * len(blocks)
            assert receiver.counters.blocks_stored == len(blocks)


async def test_nothing_is_read_or_written_for_a_vehicle_that_reads_nothing(tmp_path: Path) -> None:
    ping, pong = mqtt5.PingReqPacket().write(), mqtt5.PingRespPacket().write()
    async with a_receiver(tmp_path) as receiver:
        with on_a_wire(receiver, await a_vehicle(receiver, tmp_path)) as (session, wire):
            session.data_received(mqtt5.ConnectPacket("x").write())
            assert not wire.reading
            await until(lambda: session.phase is Phase.OPEN)
            session.pause_writing()
            wire.written = b""
            session.data_received(ping * 1000)
            await asyncio.sleep(0)
            assert (wire.reading, wire.written.count(pong)) == (False, 0)
            session.resume_writing()
            await until(lambda: wire.written == pong * 1000)
            assert (wire.reading, session.phase) == (True, Phase.OPEN)
