"""A hostile vehicle: packets that no client would send, and a bounded assault with them on an endpoint.

What it throws needs a connection that the endpoint took for a vehicle's, so `dial` is the caller's. Loopback only.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from random import Random
from typing import Final

import mqtt5
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

FATAL_SHARE: Final = 0.06
"""How much of it breaks the protocol, and so costs a connection. The rest is as hostile, but in order."""
LEFT_HANGING: Final = 8
_ANSWER_S: Final = 5.0

Dial = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


@dataclass(frozen=True, slots=True)
class Assault:
    """What was thrown, on how many connections, and how many of those the endpoint ended."""

    packets: int
    connections: int
    ended_by_endpoint: int


def hostile_packets(rng: Random, count: int, vehicle: str, other: str = "veh-other") -> Iterator[bytes]:
    """`count` packets from a vehicle's own connection: lies about length and type, broken text, bad blocks, foreign
    topics, floods. The same `rng` gives the same ones."""
    for number in range(count):
        if rng.random() < FATAL_SHARE:
            yield rng.choice(_FATAL)(rng, _honest(rng, number, vehicle))
        else:
            yield _in_order(rng, number, vehicle, other)


async def assault(dial: Dial, packets: Iterable[bytes], per_connection: int = 500, in_flight: int = 8) -> Assault:
    """Throws them all, `in_flight` at a time, each connection until the endpoint ends it; then leaves some connections
    hanging in the middle of a packet, and closes them. Raises TimeoutError when the endpoint stops answering."""
    source, thrown, connections, ended = iter(packets), 0, 0, 0
    while batch := list(islice(source, per_connection)):
        reader, writer = await dial()
        connections += 1
        count = await _throw(reader, writer, batch, in_flight)
        thrown += min(count, len(batch))
        if count < len(batch):
            ended += 1
            source = _chain(batch[count:], source)
        await _close(writer)
    hanging = await asyncio.gather(*(_leave_hanging(dial) for _ in range(LEFT_HANGING)))
    for writer in hanging:
        await _close(writer)
    return Assault(thrown, connections + LEFT_HANGING, ended)
