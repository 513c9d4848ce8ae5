"""One vehicle's connection to the endpoint: the MQTT 5 conversation, from TLS done to closed.

A vehicle may CONNECT once, publish to its own `up/` topics with QoS 1, subscribe to its own `down/` topics, and ping.
Everything else ends the connection, this one alone, with MQTT's reason.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from typing import Final, Protocol, assert_never

import mqtt5
from mqtt5 import ConnAckReasonCode, DisconnectReasonCode, PubAckReasonCode, SubAckReasonCode

from ecu.clock import SECOND_NS, Clock
from receiver.counters import Counters
from receiver.inbox import Answer, Outcome, Verdict
from receiver.packets import Framer, Incoming, Violation, decode
from receiver.pki import Identity, Stranger, identify
from telemetry.records import Lane
from telemetry.wire import DOWN_KINDS, MAX_BLOCK_BYTES, down_topic, status_topic, up_topic

MAX_PUBLISH_BYTES: Final = MAX_BLOCK_BYTES + 1024
MAX_UNSENT_BYTES: Final = 256 * 1024
MAX_WAITING_BYTES: Final = 3 * 1024 * 1024
"""Of one vehicle's blocks that wait for the disk; then nothing more of it is read. Small blocks never come near."""
PACKETS_A_TURN: Final = 32
"""How many packets one vehicle has handled before the others have their turn: a flood is slow, and slows nobody."""

_PUBACK: Final = {
    Outcome.STORED: PubAckReasonCode.SUCCESS,
    Outcome.DUPLICATE: PubAckReasonCode.SUCCESS,
    Outcome.BAD: PubAckReasonCode.PAYLOAD_FORMAT_INVALID,
    Outcome.CONFLICT: PubAckReasonCode.IMPLEMENTATION_SPECIFIC_ERROR,
    # Not for good: 0x83 would let the vehicle forget the only copy.
    Outcome.UNSETTLED: PubAckReasonCode.QUOTA_EXCEEDED,
    Outcome.THROTTLED: PubAckReasonCode.QUOTA_EXCEEDED,
}


class Phase(Enum):
    WAITING = auto()  # for CONNECT
    CHECKING = auto()  # whether its certificate is welcome
    OPEN = auto()
    OVER = auto()


_LISTENING: Final = (Phase.WAITING, Phase.OPEN)


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """What one connection may take of us, and how many there may be."""

    connect_s: float = 10.0
    keep_alive_max_s: int = 300
    receive_maximum: int = 128
    connections: int = 10_000


class Desk(Protocol):
    """What a session asks of the endpoint it belongs to."""

    clock: Clock
    counters: Counters
    limits: SessionLimits

    def arrived(self, session: Session) -> None:
        """A connection with a vehicle's certificate; from now on it can be cut."""
        ...

    def check(self, session: Session) -> None:
        """Has `welcome` or `turn_away` called, some time later."""
        ...

    def left(self, session: Session) -> None: ...

    def offer(self, vehicle: str, lane: Lane, block: bytes, answer: Answer) -> None:
        """Has `answer` called, at once or some time later."""
        ...

    def report(self, vehicle: str, status: bytes) -> asyncio.Future[Verdict]: ...

    def alarm(self, vehicle: str, event: str, detail: str) -> None: ...


class Session(asyncio.Protocol):
    """`identity` is the certificate's. The endpoint ends it for silence at `deadline_ns` (boot time), and when its
    certificate expires at `welcome_until_ns` (wall time)."""

    identity: Identity
    deadline_ns: int

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._framer = Framer(MAX_PUBLISH_BYTES)
        self._in_flight: dict[int, int] = {}  # packet id -> bytes
        self._waiting_bytes = 0
        self._kinds: set[str] = set()
        self._unsent: list[bytes] = []
        self._connect: mqtt5.ConnectPacket | None = None
        self._alarmed = False
        self._arrived = False
        self._congested = False
        self._has_more = False
        self.phase = Phase.WAITING
        self.welcome_until_ns = 1 << 63

    # The transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._lanes: dict[str, Lane] = {}
        try:
            self.identity = identify(transport.get_extra_info("ssl_object").getpeercert(True))
        except Stranger:
            self._desk.counters.not_admitted += 1
            self._end()
            return
        self._lanes = {up_topic(self.vehicle, lane): lane for lane in Lane}
        self._wait(self._desk.limits.connect_s)
        self._arrived = True
        self._desk.arrived(self)

    def data_received(self, data: bytes) -> None:
        if self.phase is not Phase.OVER:
            self._framer.extend(data)
            self._go_on()

    def pause_writing(self) -> None:
        # It reads nothing, so we read nothing: whatever it still owes, its keep-alive time ends.
        self._congested = True
        self._regulate()

    def resume_writing(self) -> None:
        self._congested = False
        self._go_on()

    def connection_lost(self, error: Exception | None) -> None:
        self.phase = Phase.OVER
        if self._arrived:
            self._desk.left(self)

    # The endpoint's side

    @property
    def vehicle(self) -> str:
        return self.identity.vehicle

    def welcome(self, until_ns: int) -> None:
        """Its certificate is one of ours and not revoked."""
        if self.phase is not Phase.CHECKING or self._connect is None:
            return
        self.welcome_until_ns = until_ns
        self.phase = Phase.OPEN
        self._send(self._connack(self._connect).write())
        self._go_on()

    def turn_away(self, code: ConnAckReasonCode, words: str) -> None:
        if self.phase is Phase.CHECKING:
            self._send(mqtt5.ConnAckPacket(reason_code=code, reason_str=words).write())
            self._end()

    def cut(self, code: DisconnectReasonCode, words: str) -> None:
        """Ends it at once; what it sent and isn't stored yet gets no answer."""
        if self.phase is Phase.OPEN:
            self._send(mqtt5.DisconnectPacket(reason_code=code, reason_str=words).write())
        self._end()

    def tell(self, kind: str, payload: bytes) -> bool:
        """Publishes to the vehicle, if it has subscribed; False when it hasn't, or doesn't read what it is sent."""
        if self.phase is not Phase.OPEN or kind not in self._kinds:
            return False
        if self._transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            self._desk.counters.slow_readers += 1
            self._transport.abort()
            return False
        self._send(mqtt5.PublishPacket(down_topic(self.vehicle, kind), payload).write())
        return True

    # The conversation

    @property
    def _listens(self) -> bool:
        return self.phase in _LISTENING and not self._congested and self._waiting_bytes < MAX_WAITING_BYTES

    def _go_on(self) -> None:
        if not self._has_more:
            self._work()

    def _work(self) -> None:
        self._has_more = False
        try:
            for _ in range(PACKETS_A_TURN):
                if not self._listens or (packet := self._framer.next()) is None:
                    break
                self._handle(decode(packet))
            else:
                self._has_more = True
                asyncio.get_running_loop().call_soon(self._work)
        except Violation as violation:
            self._desk.counters.protocol_violations += 1
            self.cut(violation.code, str(violation))
        self._regulate()

    def _regulate(self) -> None:
        if self._transport.is_closing():
            return
        if self._listens and not self._has_more:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def _handle(self, packet: Incoming) -> None:
        if isinstance(packet, mqtt5.ConnectPacket):
            self._greet(packet)
            return
        if self.phase is Phase.WAITING:
            raise _protocol_error("a connection begins with CONNECT")
        self._wait(self._silence_s)
        match packet:
            case mqtt5.PublishPacket():
                self._publish(packet)
            case mqtt5.SubscribePacket():
                self._subscribe(packet)
            case mqtt5.UnsubscribePacket():
                self._unsubscribe(packet)
            case mqtt5.PingReqPacket():
                self._send(mqtt5.PingRespPacket().write())
            case mqtt5.DisconnectPacket():
                self._end()
            case _:
                assert_never(packet)

    def _greet(self, packet: mqtt5.ConnectPacket) -> None:
        if self.phase is not Phase.WAITING:
            raise _protocol_error("CONNECT comes once")
        self._connect = packet
        self._silence_s = 1.5 * _keep_alive_s(packet.keep_alive, self._desk.limits.keep_alive_max_s)
        self.phase = Phase.CHECKING
        self._wait(max(self._silence_s, self._desk.limits.connect_s))
        self._desk.check(self)

    def _connack(self, connect: mqtt5.ConnectPacket) -> mqtt5.ConnAckPacket:
        limits = self._desk.limits
        keep_alive_s = _keep_alive_s(connect.keep_alive, limits.keep_alive_max_s)
        return mqtt5.ConnAckPacket(
            session_expiry_interval=0,
            assigned_client_id=None if connect.client_id else self.vehicle,
            server_keep_alive=None if keep_alive_s == connect.keep_alive else keep_alive_s,
            receive_max=limits.receive_maximum,
            max_qos=mqtt5.QoS.AT_LEAST_ONCE,
            retain_available=False,
            max_packet_size=MAX_PUBLISH_BYTES,
            subscription_id_available=False,
            shared_subscription_available=False,
        )

    def _publish(self, packet: mqtt5.PublishPacket) -> None:
        if packet.qos != mqtt5.QoS.AT_LEAST_ONCE or packet.packet_id is None:
            raise Violation(DisconnectReasonCode.QOS_NOT_SUPPORTED, "blocks travel with QoS 1")
        if packet.retain:
            raise Violation(DisconnectReasonCode.RETAIN_NOT_SUPPORTED, "nothing is retained here")
        if packet.topic_alias is not None:
            raise Violation(DisconnectReasonCode.TOPIC_ALIAS_INVALID, "there are no topic aliases here")
        if packet.packet_id == 0 or packet.packet_id in self._in_flight:
            raise _protocol_error(f"packet id {packet.packet_id} is taken")
        if len(self._in_flight) >= self._desk.limits.receive_maximum:
            raise Violation(DisconnectReasonCode.RECEIVE_MAX_EXCEEDED, "more is in flight than the receive maximum")
        self._route(packet.packet_id, packet.topic, packet.payload)

    def _route(self, packet_id: int, topic: str, payload: bytes) -> None:
        if (lane := self._lanes.get(topic)) is not None:
            self._wait_for(packet_id, len(payload))
            self._desk.offer(self.vehicle, lane, payload, partial(self._answer, packet_id))
        elif topic == status_topic(self.vehicle):
            self._wait_for(packet_id, len(payload))
            told = self._desk.report(self.vehicle, payload)
            told.add_done_callback(lambda done: None if done.cancelled() else self._answer(packet_id, done.result()))
        else:
            self._desk.counters.forbidden_publishes += 1
            self._alarm("forbidden_publish", topic)
            self._puback(packet_id, PubAckReasonCode.NOT_AUTHORIZED, "this topic isn't this vehicle's to publish to")

    def _answer(self, packet_id: int, verdict: Verdict) -> None:
        if self._waiting_bytes >= MAX_WAITING_BYTES:
            asyncio.get_running_loop().call_soon(self._go_on)
        self._waiting_bytes -= self._in_flight.pop(packet_id)
        if self.phase is Phase.OPEN:
            self._puback(packet_id, _PUBACK[verdict.outcome], verdict.words)

    def _wait_for(self, packet_id: int, size: int) -> None:
        self._in_flight[packet_id] = size
        self._waiting_bytes += size

    def _puback(self, packet_id: int, code: PubAckReasonCode, words: str) -> None:
        said = words if words and self._connect is not None and self._connect.request_problem_info else None
        self._send(mqtt5.PubAckPacket(packet_id, reason_code=code, reason_str=said).write())

    def _subscribe(self, packet: mqtt5.SubscribePacket) -> None:
        codes = [self._grant(wanted.pattern) for wanted in packet.topic_filters]
        self._send(mqtt5.SubAckPacket(packet.packet_id, codes).write())

    def _grant(self, pattern: str) -> SubAckReasonCode:
        if (kinds := self._kinds_of(pattern)) is None:
            self._desk.counters.forbidden_subscriptions += 1
            self._alarm("forbidden_subscription", pattern)
            return SubAckReasonCode.NOT_AUTHORIZED
        self._kinds |= kinds
        return SubAckReasonCode.GRANTED_QOS_AT_MOST_ONCE

    def _unsubscribe(self, packet: mqtt5.UnsubscribePacket) -> None:
        codes = [self._forget(pattern) for pattern in packet.patterns]
        self._send(mqtt5.UnsubAckPacket(packet.packet_id, codes).write())

    def _forget(self, pattern: str) -> mqtt5.UnsubAckReasonCode:
        kinds = self._kinds_of(pattern) or set()
        if not kinds & self._kinds:
            return mqtt5.UnsubAckReasonCode.NO_SUBSCRIPTION_EXISTED
        self._kinds -= kinds
        return mqtt5.UnsubAckReasonCode.SUCCESS

    def _kinds_of(self, pattern: str) -> set[str] | None:
        """What of the vehicle's own `down/` the filter names; None for any other filter."""
        if pattern in (down_topic(self.vehicle, "#"), down_topic(self.vehicle, "+")):
            return set(DOWN_KINDS)
        named = {kind for kind in DOWN_KINDS if pattern == down_topic(self.vehicle, kind)}
        return named or None

    def _alarm(self, event: str, detail: str) -> None:
        if not self._alarmed:
            self._alarmed = True
            self._desk.alarm(self.vehicle, event, detail)

    def _wait(self, seconds: float) -> None:
        self.deadline_ns = self._desk.clock.boot_ns() + int(seconds * SECOND_NS)

    def _send(self, packet: bytes) -> None:
        # Many small packets of one turn of the loop are one TLS record.
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._flush)
        self._unsent.append(packet)

    def _flush(self) -> None:
        if self._unsent and not self._transport.is_closing():
            self._transport.write(b"".join(self._unsent))
        self._unsent.clear()

    def _end(self) -> None:
        self.phase = Phase.OVER
        self._flush()
        self._transport.close()


def _keep_alive_s(asked_s: int, longest_s: int) -> int:
    return asked_s if 0 < asked_s <= longest_s else longest_s


def _protocol_error(words: str) -> Violation:
    return Violation(DisconnectReasonCode.PROTOCOL_ERROR, words)
