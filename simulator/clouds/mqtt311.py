"""MQTT 3.1.1 as a broker speaks it (OASIS, 2014): what a double needs of it, at QoS 0 and 1. No sockets here."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

MAX_PACKET_BYTES: Final = 320 * 1024


class Kind(IntEnum):
    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    SUBSCRIBE = 8
    SUBACK = 9
    UNSUBSCRIBE = 10
    UNSUBACK = 11
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14


class Malformed(Exception):
    """No packet that a client may send here."""


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet's fixed header and what follows it."""

    kind: Kind
    flags: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Connect:
    client_id: str
    username: str
    clean: bool  # no session before it, and none after


@dataclass(frozen=True, slots=True)
class Publish:
    """`packet_id` is None at QoS 0."""

    topic: str
    payload: bytes
    packet_id: int | None


class Framer:
    """Cuts a stream into packets. Raises Malformed; nothing can be read after that."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Packet]:
        self._buffer += data
        packets = []
        while (packet := self._next()) is not None:
            packets.append(packet)
        return packets

    def _next(self) -> Packet | None:
        length, at = 0, 1
        while True:
            if at >= len(self._buffer):
                return None
            digit = self._buffer[at]
            length |= (digit & 0x7F) << 7 * (at - 1)
            at += 1
            if not digit & 0x80:
                break
            if at > 4:
                raise Malformed("the remaining length has more than four bytes")
        if length > MAX_PACKET_BYTES:
            raise Malformed(f"a packet of {length} bytes")
        if len(self._buffer) < at + length:
            return None
        first, body = self._buffer[0], bytes(self._buffer[at : at + length])
        del self._buffer[: at + length]
        try:
            return Packet(Kind(first >> 4), first & 0x0F, body)
        except ValueError as error:
            raise Malformed(f"packet type {first >> 4}") from error


def read_connect(body: bytes) -> Connect:
    protocol, at = _text(body, 0)
    if protocol != "MQTT" or len(body) < at + 4 or body[at] != 4:
        raise Malformed("only MQTT 3.1.1 is spoken here")
    flags, at = body[at + 1], at + 4
    client_id, at = _text(body, at)
    if flags & 0x04:
        _, at = _text(body, at)
        _, at = _bytes(body, at)
    return Connect(client_id, _text(body, at)[0] if flags & 0x80 else "", bool(flags & 0x02))


def read_publish(packet: Packet) -> Publish:
    qos = packet.flags >> 1 & 3
    topic, at = _text(packet.body, 0)
    if qos > 1:
        raise Malformed("QoS 2 isn't taken here")
    if qos == 0:
        return Publish(topic, packet.body[at:], None)
    return Publish(topic, packet.body[at + 2 :], _number(packet.body, at))


def read_subscribe(body: bytes) -> tuple[int, list[str]]:
    """Packet id and topic filters."""
    filters, at = [], 2
    while at < len(body):
        topic, at = _text(body, at)
        filters.append(topic)
        at += 1
    return _number(body, 0), filters


def connack(code: int) -> bytes:
    return _packet(Kind.CONNACK, 0, bytes([0, code]))


def puback(packet_id: int) -> bytes:
    return _packet(Kind.PUBACK, 0, struct.pack(">H", packet_id))


def suback(packet_id: int, count: int) -> bytes:
    return _packet(Kind.SUBACK, 0, struct.pack(">H", packet_id) + b"\x01" * count)


def unsuback(packet_id: int) -> bytes:
    return _packet(Kind.UNSUBACK, 0, struct.pack(">H", packet_id))


def pingresp() -> bytes:
    return _packet(Kind.PINGRESP, 0, b"")


def publish(topic: str, payload: bytes) -> bytes:
    """At QoS 0."""
    encoded = topic.encode()
    return _packet(Kind.PUBLISH, 0, struct.pack(">H", len(encoded)) + encoded + payload)


def _packet(kind: Kind, flags: int, body: bytes) -> bytes:
    length, digits = len(body), bytearray()
    while True:
        length, digit = length >> 7, length & 0x7F
        digits.append(digit | 0x80 if length else digit)
        if not length:
            return bytes([kind << 4 | flags]) + bytes(digits) + body


def _number(body: bytes, at: int) -> int:
    if len(body) < at + 2:
        raise Malformed("a packet ends early")
    return int(struct.unpack_from(">H", body, at)[0])


def _bytes(body: bytes, at: int) -> tuple[bytes, int]:
    end = at + 2 + _number(body, at)
    if len(body) < end:
        raise Malformed("a packet ends early")
    return body[at + 2 : end], end


def _text(body: bytes, at: int) -> tuple[str, int]:
    data, end = _bytes(body, at)
    try:
        return data.decode(), end
    except UnicodeDecodeError as error:
        raise Malformed("a string that isn't UTF-8") from error
