"""A hostile vehicle: packets that no client would send, and a bounded assault with them on an endpoint.

What it throws needs a connection that the endpoint took for a vehicle's, so `dial` is the caller's.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Final

import mqtt5
import zstandard
from mqtt5 import QoS

from telemetry.records import Lane, Purpose
from telemetry.wire import (
    CODEC_RECORDS_ZSTD,
    MAX_BLOCK_BYTES,
    NO_DICTIONARY,
    BlockHeader,
    down_topic,
    pack_block,
    status_topic,
    up_topic,
)

FATAL_SHARE: Final = 0.05
"""How much of it breaks the protocol and so costs a connection; the rest is hostile in good order."""
WAVE: Final = 12
"""Packets thrown before an answer is waited for: below the receive maximum, which is no part of this assault."""
HANGING: Final = 8
ANSWER_S: Final = 10.0

_LONGEST: Final = MAX_BLOCK_BYTES + 4096
_CONNECT: Final = mqtt5.ConnectPacket("hostile", clean_start=True, keep_alive=60).write()
_PING: Final = mqtt5.PingReqPacket().write()
_BOMB: Final = zstandard.compress(bytes(16 * 1024 * 1024), 19)

Dial = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


@dataclass(frozen=True, slots=True)
class Assault:
    """What was thrown, over how many connections, and how many of those the endpoint ended."""

    packets: int
    connections: int
    ended_by_endpoint: int


def hostile_packets(rng: Random, count: int, vehicle: str, other: str = "veh-other") -> Iterator[bytes]:
    """`count` packets of a vehicle gone bad: mutated, cut short, lying about their length; and in good order: broken
    blocks, bombs, foreign topics, floods. The same `rng` gives the same ones.

    One that breaks the protocol is followed by zeros, as part of it: no lie about length leaves its reader waiting.
    """
    for number in range(count):
        if rng.random() < FATAL_SHARE:
            yield rng.choice(_FATAL)(rng, _honest(rng, vehicle)) + bytes(_LONGEST)
        else:
            yield rng.choice(_IN_ORDER)(rng, number % 65_535 + 1, vehicle, other)


async def assault(dial: Dial, packets: Iterable[bytes]) -> Assault:
    """Throws them all, dialling again whenever the endpoint ends a connection, and leaves some connections hanging in
    the middle of a packet meanwhile. Raises TimeoutError when the endpoint no longer answers."""
    hanging = [await _hang(dial) for _ in range(HANGING)]
    waves, thrown, ended, goes_on = _waves(packets), 0, 0, True
    while goes_on:
        reader, writer = await dial()
        count, goes_on = await _throw(reader, writer, waves)
        thrown, ended = thrown + count, ended + goes_on
        await _close(writer)
    for writer in hanging:
        await _close(writer)
    return Assault(thrown, HANGING + ended + 1, ended)


def _waves(packets: Iterable[bytes]) -> Iterator[list[bytes]]:
    """What is longer than any packet may be ends its connection, and so its wave: none is thrown at a closed door."""
    wave: list[bytes] = []
    for packet in packets:
        wave.append(packet)
        if len(wave) == WAVE or len(packet) > _LONGEST:
            yield wave
            wave = []
    if wave:
        yield wave


async def _throw(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, waves: Iterator[list[bytes]]
) -> tuple[int, bool]:
    """How many packets it threw before there were no more, or (True) the endpoint ended the connection."""
    writer.write(_CONNECT)
    heard, count = bytearray(), 0
    for wave in waves:
        count += len(wave)
        writer.write(b"".join(wave) + _PING)
        if not await _answered(reader, heard):
            return count, True
    return count, False


async def _answered(reader: asyncio.StreamReader, heard: bytearray) -> bool:
    """Waits for the answer to the wave's ping; False when the endpoint closed instead."""
    async with asyncio.timeout(ANSWER_S):
        while not _has_pong(heard):
            try:
                data = await reader.read(65_536)
            except (ConnectionError, ssl.SSLError):
                data = b""
            if not data:
                return False
            heard += data
    return True


def _has_pong(heard: bytearray) -> bool:
    """Takes whole packets from the front, up to a PINGRESP."""
    while heard:
        try:
            packet, length = mqtt5.read(memoryview(bytes(heard)))
        except IndexError:
            return False
        del heard[:length]
        if isinstance(packet, mqtt5.PingRespPacket):
            return True
    return False


async def _hang(dial: Dial) -> asyncio.StreamWriter:
    _, writer = await dial()
    writer.write(b"\x10\x7f\x00\x04MQ")
    return writer


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        await writer.wait_closed()


# --- packets in good order -------------------------------------------------------------------------------------------


def _publish(packet_id: int, topic: str, payload: bytes) -> bytes:
    return mqtt5.PublishPacket(topic, payload, qos=QoS.AT_LEAST_ONCE, packet_id=packet_id).write()


def _block(rng: Random, body: bytes) -> bytes:
    """Whole and rightly summed; its body is whatever it is."""
    header = BlockHeader(
        rng.choice(list(Lane)), rng.choice(list(Purpose)), rng.randbytes(16), rng.randrange(1 << 62),
        rng.randrange(1, 1 << 16), CODEC_RECORDS_ZSTD, NO_DICTIONARY, len(body),
    )  # fmt: skip
    return pack_block(header, body)


def _junk_block(rng: Random, packet_id: int, vehicle: str, other: str) -> bytes:
    return _publish(packet_id, up_topic(vehicle, rng.choice(list(Lane))), rng.randbytes(rng.randrange(2000)))


def _torn_block(rng: Random, packet_id: int, vehicle: str, other: str) -> bytes:
    block = bytearray(_block(rng, rng.randbytes(200)))
    block[rng.randrange(len(block))] ^= 1 << rng.randrange(8)
    return _publish(packet_id, up_topic(vehicle, Lane(block[5] % 4)), bytes(block[: rng.randrange(1, len(block) + 1)]))


def _unreadable_block(rng: Random, packet_id: int, vehicle: str, other: str) -> bytes:
    block = _block(rng, rng.choice([_BOMB, rng.randbytes(300), zstandard.compress(b"\x91" * 4000)]))
    return _publish(packet_id, up_topic(vehicle, Lane(block[5])), block)


def _as_another(rng: Random, packet_id: int, vehicle: str, other: str) -> bytes:
    topics = up_topic(other, Lane.P0), status_topic(other), down_topic(vehicle, "command"), "$SYS/x", "outrider"
    return _publish(packet_id, rng.choice(topics), b"{}")


def _bad_status(rng: Random, packet_id: int, vehicle: str, other: str) -> bytes:
    bodies = b"[" * 5000, b'{"a":' * 900, b'"\xff"', rng.randbytes(50), b""
    return _publish(packet_id, status_topic(vehicle), rng.choice(bodies))


def _eavesdrop(rng: Random, packet_id: int, vehicle: str, other: str) -> bytes:
    patterns = "#", down_topic(other, "#"), "outrider/v1/+/down/#", f"$share/g/{down_topic(vehicle, '#')}"
    return mqtt5.SubscribePacket(packet_id, [mqtt5.TopicFilter(rng.choice(patterns)) for _ in range(20)]).write()


def _flood(rng: Random, packet_id: int, vehicle: str, other: str) -> bytes:
    return mqtt5.UnsubscribePacket(packet_id, [down_topic(vehicle, "hint")] * rng.randrange(1, 40)).write()


_IN_ORDER: Final = (
    _junk_block, _torn_block, _unreadable_block, _as_another, _bad_status, _eavesdrop, _flood
)  # fmt: skip


# --- packets that break the protocol ---------------------------------------------------------------------------------


def _honest(rng: Random, vehicle: str) -> bytes:
    """What a well-behaved client could send at some time."""
    topic = up_topic(vehicle, Lane.P1)
    return rng.choice(
        (
            _CONNECT,
            mqtt5.PublishPacket(topic, b"x", content_type="c").write(),
            mqtt5.PublishPacket(topic, b"x", qos=QoS.AT_LEAST_ONCE, packet_id=9, user_properties=[("k", "v")]).write(),
            mqtt5.SubscribePacket(9, [mqtt5.TopicFilter(down_topic(vehicle, "#"))]).write(),
            mqtt5.DisconnectPacket(reason_str="bye").write(),
            mqtt5.PubRelPacket(9).write(),
            mqtt5.AuthPacket(authentication_method="m").write(),
        )
    )


def _random_bytes(rng: Random, honest: bytes) -> bytes:
    return rng.randbytes(rng.randrange(1, 200))


def _mutated(rng: Random, honest: bytes) -> bytes:
    mutated = bytearray(honest)
    for _ in range(rng.randrange(1, 5)):
        mutated[rng.randrange(len(mutated))] = rng.randrange(256)
    return bytes(mutated)


def _cut_short(rng: Random, honest: bytes) -> bytes:
    return honest[: rng.randrange(1, len(honest))]


def _long_lie(rng: Random, honest: bytes) -> bytes:
    return honest[:1] + rng.choice((b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff", b"\xff\x1f", b"\x80\x80\x80\x80\x01"))


def _broken_text(rng: Random, honest: bytes) -> bytes:
    at = rng.randrange(2, len(honest))
    return honest[:at] + b"\xff\xfe\xc0" + honest[at + 3 :]


_FATAL: Final = (_random_bytes, _mutated, _cut_short, _long_lie, _broken_text)
