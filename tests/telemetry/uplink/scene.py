"""What the uplink's tests are played with: real wire blocks, stepped time, and a link that misbehaves by a script."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from enum import Enum, auto
from random import Random

import msgspec

from ecu.clock import SECOND_NS, SteppingClock
from telemetry.links.link import (
    Accepted,
    Acks,
    ClockUntrusted,
    Hint,
    LinkError,
    Refused,
    Throttled,
    Unauthorized,
    Unreachable,
    Untrusted,
)
from telemetry.links.stream import ended
from telemetry.records import Health, Lane, Purpose, Stored, encode_event
from telemetry.uplink import UplinkConfig
from telemetry.uplink.uplink import Uplink
from telemetry.wire import BlockHeader, Receipt, pack_block, pack_body, unpack_block

EPOCH = b"e" * 16
Key = tuple[Lane, bytes, int]


def a_block(lane: Lane, base_seq: int, count: int = 3, padding: int = 0, epoch: bytes = EPOCH) -> bytes:
    """A whole wire block of `count` records, each about `padding` incompressible bytes."""
    noise = Random(base_seq)
    events = [Health("test", noise.randbytes(padding).hex()[:padding]) for _ in range(count)]
    body = pack_body([Stored(base_seq + i, 0, msgspec.Raw(encode_event(event))) for i, event in enumerate(events)])
    return pack_block(BlockHeader(lane, Purpose.OPERATION, epoch, base_seq, count, 1, 0, len(body)), body)


def key_of(block: bytes) -> Key:
    header, _ = unpack_block(block)
    return header.lane, header.epoch, header.base_seq


async def idle(turns: int = 30) -> None:
    """Lets everything run that can run without time passing."""
    for _ in range(turns):
        await asyncio.sleep(0)


async def until(
    clock: SteppingClock, holds: Callable[[], bool], within_s: float = 3_600.0, step_s: float = 0.5
) -> None:
    """Steps time until `holds`; fails when `within_s` of it passed in vain."""
    deadline_ns = clock.boot_ns() + int(within_s * SECOND_NS)
    await idle()
    while not holds():
        assert clock.boot_ns() < deadline_ns, f"nothing came of it within {within_s} s"
        clock.advance(clock.boot_ns() + int(step_s * SECOND_NS))
        await idle()


@contextlib.asynccontextmanager
async def running(uplink: Uplink) -> AsyncIterator[asyncio.Task[None]]:
    """Runs the uplink, and cancels it at the end; what else ended it comes out."""
    task = asyncio.create_task(uplink.run())
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


HASTY = UplinkConfig(backoff_base_s=0.5, backoff_cap_s=4.0, receipt_timeout_s=10.0, unauthorized_pause_s=6.0)
"""Pauses short enough that many fit into a test."""


class Move(Enum):
    """What the network and the receiver do to one publish."""

    STORE = auto()
    STORE_SLOWLY = auto()
    STORE_BEFORE_ACCEPTING = auto()
    LOSE_RECEIPT = auto()
    REPEAT_RECEIPT = auto()
    HOLD_RECEIPT = auto()
    FAIL = auto()
    BREAK_BEFORE = auto()
    BREAK_AFTER = auto()
    THROTTLE = auto()
    STORE_AND_THROTTLE = auto()
    UNWELCOME = auto()
    FORGE_RECEIPT = auto()


class ScriptedLink:
    """A Link with its receiver, which dedupes and refuses `poison`. Meets each publish with the next move, then with
    STORE for ever. Checks what no caller may do: publish without a connection, or after close."""

    acks = Acks.STORED

    def __init__(
        self,
        clock: SteppingClock,
        moves: Iterable[Move] = (),
        poison: Iterable[Key] = (),
        connect_failures: Iterable[LinkError] = (),
        chance: Random | None = None,
    ) -> None:
        self.stored: dict[Key, bytes] = {}
        self.started: list[Key] = []
        self.most_in_flight = 0
        self.connects = 0
        self.closed = False
        self._clock = clock
        self._moves = deque(moves)
        self._poison = set(poison)
        self._connect_failures = deque(connect_failures)
        self._chance = chance or Random(0)
        self._in_flight = 0
        self._broken: asyncio.Future[None] | None = None
        self._receipts: asyncio.Queue[Receipt] = asyncio.Queue()
        self._held: list[Receipt] = []

    async def connect(self) -> None:
        assert not self.closed, "connected after close"
        self.connects += 1
        await asyncio.sleep(0)
        if self._connect_failures:
            raise self._connect_failures.popleft()
        self._broken = asyncio.get_running_loop().create_future()
        self._receipts = asyncio.Queue()

    async def publish(self, lane: Lane, block: bytes) -> Accepted:
        assert not self.closed, "published after close"
        self.started.append(key_of(block))
        self._in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self._in_flight)
        try:
            return await self._publish(lane, block)
        finally:
            self._in_flight -= 1

    async def _publish(self, lane: Lane, block: bytes) -> Accepted:
        await asyncio.sleep(0)
        if self._broken is None or self._broken.done():
            raise Unreachable("no connection")
        if key_of(block) in self._poison:
            raise Refused("poison")
        await self._meet(self._moves.popleft() if self._moves else Move.STORE, lane, block)
        return Accepted()

    async def _meet(self, move: Move, lane: Lane, block: bytes) -> None:
        match move:
            case Move.STORE:
                self._store(block, copies=1)
            case Move.STORE_SLOWLY:
                await self._clock.sleep_until(self._clock.boot_ns() + SECOND_NS)
                self._store(block, copies=1)
            case Move.STORE_BEFORE_ACCEPTING:
                self._store(block, copies=1)
                await idle(5)
            case Move.LOSE_RECEIPT:
                self._store(block, copies=0)
            case Move.REPEAT_RECEIPT:
                self._store(block, copies=3)
            case Move.HOLD_RECEIPT:
                self._held.append(self._store(block, copies=0))
            case Move.FAIL:
                raise Unreachable("no answer in time")
            case Move.BREAK_BEFORE:
                self.break_off()
                raise Unreachable("broke before")
            case Move.BREAK_AFTER:
                self._store(block, copies=1)
                self.break_off()
                raise Unreachable("broke after")
            case Move.THROTTLE:
                raise Throttled("patience", after_s=self._chance.choice([0.0, 0.7, 3.0]))
            case Move.STORE_AND_THROTTLE:
                self._store(block, copies=1)
                raise Throttled("taken, but patience", after_s=3.0)
            case Move.UNWELCOME:
                raise Unauthorized("go away")
            case Move.FORGE_RECEIPT:
                self._receipts.put_nowait(Receipt(lane, EPOCH, ((0, 1 << 40),)))
                self._store(block, copies=1)

    def _store(self, block: bytes, copies: int) -> Receipt:
        header, _ = unpack_block(block)
        self.stored[key_of(block)] = block
        receipt = Receipt(header.lane, header.epoch, ((header.base_seq, header.end_seq),))
        told = [receipt] * copies
        if copies:
            self._chance.shuffle(self._held)
            told += self._held
            self._held = []
        for one in told:
            self._receipts.put_nowait(one)
        return receipt

    def break_off(self) -> None:
        if self._broken is not None and not self._broken.done():
            self._broken.set_result(None)

    async def receipts(self) -> AsyncIterator[Receipt]:
        broken, queue = self._broken, self._receipts
        assert broken is not None
        while True:
            getting = asyncio.ensure_future(queue.get())
            try:
                await asyncio.wait((getting, broken), return_when=asyncio.FIRST_COMPLETED)
                if not getting.done():
                    raise Unreachable("the connection broke")
                yield getting.result()
            finally:
                getting.cancel()

    def hints(self) -> AsyncIterator[Hint]:
        return ended("no hints here")

    async def report(self, status: bytes) -> None:
        raise Unreachable("no reports here")

    async def close(self) -> None:
        self.closed = True
        self.break_off()


CONNECT_FAILURES = (Unreachable("tunnel"), Untrusted("who?"), ClockUntrusted("1970"), Unauthorized("no"))
