"""MQTT 5 packets from hostile hands (OASIS MQTT 5.0): framed, bounded and checked before the codec sees them.

The codec (mqtt5) would wait for a packet of any announced length, and text that isn't UTF-8 makes it panic: an
exception outside Exception, and a page on standard error. So lengths and text are looked at here first.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Final, get_args

import mqtt5

MAX_CONTROL_BYTES: Final = 4096
"""Any packet but PUBLISH. CONNECT with everything that we'd read in it fits many times."""

Incoming = (
    mqtt5.ConnectPacket
    | mqtt5.PublishPacket
    | mqtt5.SubscribePacket
    | mqtt5.UnsubscribePacket
    | mqtt5.PingReqPacket
    | mqtt5.DisconnectPacket
)


_INCOMING: Final[tuple[type[Incoming], ...]] = get_args(Incoming)


class Kind(IntEnum):
    """The packets that a vehicle may send us: we publish to it with QoS 0, so it has nothing to acknowledge."""

    CONNECT = 1
    PUBLISH = 3
    SUBSCRIBE = 8
    UNSUBSCRIBE = 10
    PINGREQ = 12
    DISCONNECT = 14


_KINDS: Final = {int(kind): kind for kind in Kind}


class Violation(Exception):
    """These bytes break the protocol or our bounds: the connection ends. `code` is MQTT's reason."""

    def __init__(self, code: mqtt5.DisconnectReasonCode, words: str) -> None:
        super().__init__(words)
        self.code = code


class Framer:
    """Bytes in, whole packets out. It holds one packet at most, and of that only what its announced length allows."""

    def __init__(self, max_publish_bytes: int) -> None:
        self._max_publish_bytes = max_publish_bytes
        self._buffer = bytearray()
        self._at = 0

    def extend(self, data: bytes) -> None:
        del self._buffer[: self._at]
        self._at = 0
        self._buffer += data

    def next(self) -> bytes | None:
        """The next whole packet; None until more bytes come. Raises Violation as soon as a header is wrong."""
        if (end := self._end()) is None or end > len(self._buffer):
            return None
        packet = bytes(memoryview(self._buffer)[self._at : end])
        self._at = end
        return packet

    def _end(self) -> int | None:
        if self._at == len(self._buffer):
            return None
        kind = _kind(self._buffer[self._at])
        if (announced := _announced(self._buffer, self._at + 1)) is None:
            return None
        length, start = announced
        limit = self._max_publish_bytes if kind is Kind.PUBLISH else MAX_CONTROL_BYTES
        if length > limit:
            raise Violation(
                mqtt5.DisconnectReasonCode.PACKET_TOO_LARGE, f"{length} bytes of {kind.name} are more than {limit}"
            )
        return start + length


def decode(packet: bytes) -> Incoming:
    """The packet's value. Raises Violation for one that isn't wholly in order."""
    if not _is_plain_publish(packet):
        _check_fields(packet)
    try:
        value, length = mqtt5.read(memoryview(packet))
    except (ValueError, IndexError) as error:
        raise _malformed(str(error)) from error
    if length != len(packet):
        raise _malformed(f"{len(packet)} bytes hold a packet of {length}")
    if not isinstance(value, _INCOMING):
        raise _malformed(f"a {type(value).__name__} isn't for us")
    return value


class Cursor:
    """Walks over a packet's fields (section 1.5). Raises Violation on running out of bytes and on text that isn't."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self.at

    def skip(self, count: int) -> bytes:
        if count > self.left:
            raise _malformed(f"{count} bytes should follow, {self.left} do")
        self.at += count
        return self._data[self.at - count : self.at]

    def byte(self) -> int:
        return self.skip(1)[0]

    def varint(self) -> int:
        if (announced := _announced(self._data, self.at)) is None:
            raise _malformed("a variable byte integer should follow")
        value, self.at = announced
        return value

    def binary(self) -> bytes:
        return self.skip(int.from_bytes(self.skip(2), "big"))

    def text(self) -> None:
        try:
            text = self.binary().decode()
        except UnicodeDecodeError as error:
            raise _malformed("text that isn't UTF-8") from error
        if "\0" in text:
            raise _malformed("text with a null character")

    def properties(self) -> None:
        """Section 2.2.2. Which of them belong to which packet is for the codec to say."""
        inner = Cursor(self.skip(self.varint()))
        while inner.left:
            if (skip := _PROPERTIES.get(inner.varint())) is None:
                raise _malformed("a property that MQTT 5 doesn't know")
            skip(inner)


def _bytes(count: int) -> Callable[[Cursor], object]:
    return lambda cursor: cursor.skip(count)


def _pair(cursor: Cursor) -> None:
    cursor.text()
    cursor.text()


_PROPERTIES: Final[dict[int, Callable[[Cursor], object]]] = {
    **dict.fromkeys((1, 23, 25, 36, 37, 40, 41, 42), _bytes(1)),
    **dict.fromkeys((19, 33, 34, 35), _bytes(2)),
    **dict.fromkeys((2, 17, 24, 39), _bytes(4)),
    **dict.fromkeys((3, 8, 18, 21, 26, 28, 31), Cursor.text),
    **dict.fromkeys((9, 22), Cursor.binary),
    11: Cursor.varint,
    38: _pair,
}


def _is_plain_publish(packet: bytes) -> bool:
    """Nearly every packet: its topic is ASCII and it has no properties, which one look tells. False says nothing."""
    announced = _announced(packet, 1)
    if announced is None or packet[0] >> 4 != Kind.PUBLISH:
        return False
    topic = announced[1] + 2
    end = topic + int.from_bytes(packet[topic - 2 : topic], "big")
    properties = end + (2 if packet[0] & 0b110 else 0)
    name = packet[topic:end]
    return packet[properties : properties + 1] == b"\0" and name.isascii() and b"\0" not in name


def _announced(data: bytes | bytearray, at: int) -> tuple[int, int] | None:
    """The variable byte integer at `at` (section 1.5.5) and where it ends; None while its end is missing."""
    value = 0
    for end in range(at + 1, at + 5):
        if end > len(data):
            return None
        byte = data[end - 1]
        value |= (byte & 0x7F) << 7 * (end - 1 - at)
        if byte < 0x80:
            return value, end
    raise _malformed("a variable byte integer has more than four bytes")


def _check_fields(packet: bytes) -> None:
    cursor = Cursor(packet)
    first = cursor.byte()
    cursor.varint()
    match _kind(first):
        case Kind.CONNECT:
            _check_connect(cursor)
        case Kind.PUBLISH:
            cursor.text()
            cursor.skip(2 if first & 0b110 else 0)
            cursor.properties()
        case Kind.SUBSCRIBE | Kind.UNSUBSCRIBE as kind:
            cursor.skip(2)
            cursor.properties()
            _check_filters(cursor, options=1 if kind is Kind.SUBSCRIBE else 0)
        case Kind.DISCONNECT if cursor.left > 1:
            cursor.skip(1)
            cursor.properties()


def _check_connect(cursor: Cursor) -> None:
    cursor.text()
    version, flags = cursor.skip(2)
    if version != 5:
        raise Violation(mqtt5.DisconnectReasonCode.PROTOCOL_ERROR, f"MQTT version {version} is spoken, not 5")
    cursor.skip(2)
    cursor.properties()
    cursor.text()
    if flags & 0x04:
        cursor.properties()
        cursor.text()
        cursor.binary()
    if flags & 0x80:
        cursor.text()
    if flags & 0x40:
        cursor.binary()


def _check_filters(cursor: Cursor, options: int) -> None:
    if not cursor.left:
        raise Violation(mqtt5.DisconnectReasonCode.PROTOCOL_ERROR, "a subscription to nothing")
    while cursor.left:
        cursor.text()
        cursor.skip(options)


def _kind(first: int) -> Kind:
    if (kind := _KINDS.get(first >> 4)) is None:
        raise Violation(mqtt5.DisconnectReasonCode.PROTOCOL_ERROR, f"packet type {first >> 4} isn't for us")
    return kind


def _malformed(words: str) -> Violation:
    return Violation(mqtt5.DisconnectReasonCode.MALFORMED_PACKET, words)
