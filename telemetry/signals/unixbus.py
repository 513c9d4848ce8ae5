"""A bus at the other end of a Unix SOCK_SEQPACKET socket: simulated, or a gateway that isn't Linux's own."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace
from random import Random

import numpy as np

from ecu.clock import Clock
from telemetry.signals.anchor import Anchor
from telemetry.signals.canlayout import CAN_FRAME, CANFD_FRAME, frames_of, rows_of
from telemetry.signals.farend import Dial, FarEnd, SourceLost
from telemetry.signals.frames import CLASSIC_BYTES, Frames, concat, in_order
from telemetry.signals.framesource import LIMITS, BatchLimits, FrameStatus, anchored, portions
from telemetry.signals.messages import MAX_FRAMES_A_MESSAGE, MOST_NS, Begin, FrameBatch, FromBus
from telemetry.signals.redial import Redial


class UnixBus:
    """Frames that a process at the other end tells (telemetry/signals/messages.py)."""

    def __init__(self, dial: Dial, clock: Clock, rng: Random, limits: BatchLimits = LIMITS) -> None:
        self._far: FarEnd[FromBus] = FarEnd(dial, FromBus, "The bus")
        self._clock = clock
        self._rng = rng
        self._limits = limits
        self._anchor: Anchor | None = None
        self._next_seq: int | None = None
        self._status = FrameStatus(connected=False, reason="not started")
        self._moved_before = 0

    def status(self) -> FrameStatus:
        moved = self._moved_before + (self._anchor.moved if self._anchor is not None else 0)
        return replace(self._status, moved=moved)

    async def batches(self) -> AsyncGenerator[Frames, None]:
        """For ever. Whatever the other end does, nothing is raised: it is dialled again."""
        redial = Redial(self._clock, self._rng)
        while True:
            try:
                await self._open(Begin(realtime=True, from_ns=self._clock.boot_ns()))
                was_full = False
                while True:
                    first = self._taken(await self._far.receive())
                    redial.heard()
                    if not was_full:
                        # More comes meanwhile, and a wake for each message would cost more than its decoding.
                        await self._clock.sleep_until(self._clock.boot_ns() + self._limits.latency_ns)
                    frames, lost = self._with_what_waits(first)
                    was_full = len(frames) >= self._limits.frames
                    for portion in portions(frames, self._limits.frames):
                        yield portion
                    if lost is not None:
                        raise lost
            except SourceLost as lost:
                losses = self._status.losses + self._status.connected
                self._status = replace(self._status, connected=False, reason=str(lost), losses=losses)
            finally:
                self.close()
            await redial.pause()

    async def begin(self, from_ns: int) -> None:
        await self._open(Begin(realtime=False, from_ns=from_ns))

    async def advance(self, t_ns: int) -> Frames:
        parts: list[Frames] = []
        async for message in self._far.granted(t_ns):
            frames = self._taken(message)
            if len(frames) and int(frames.t_ns[-1]) > t_ns:
                raise self._far.broke_lockstep(f"frames of {frames.t_ns[-1]} ns came in answer to {t_ns} ns")
            parts.append(frames)
        return concat(parts)

    def close(self) -> None:
        self._far.close()
        self._status = replace(self._status, connected=False)

    async def _open(self, begin: Begin) -> None:
        self.close()
        self._next_seq = None
        hello = await self._far.open(begin)
        if self._anchor is not None:
            self._moved_before += self._anchor.moved
        self._anchor = Anchor() if begin.realtime else None
        if self._anchor is not None:
            self._anchor.greet(hello.now_ns, self._clock.boot_ns())
        last_t_ns = self._status.last_t_ns if begin.realtime else -1
        self._status = replace(self._status, connected=True, reason="", last_t_ns=last_t_ns)

    def _with_what_waits(self, first: Frames) -> tuple[Frames, SourceLost | None]:
        """What has come, as far as a batch has room, and why no more will come. What came before that isn't lost."""
        parts, rows, lost = [first], len(first), None
        while lost is None and rows < self._limits.frames:
            try:
                message = self._far.try_receive()
                if message is None:
                    break
                parts.append(self._taken(message))
                rows += len(parts[-1])
            except SourceLost as error:
                lost = error
        return concat(parts), lost

    def _taken(self, message: FromBus) -> Frames:
        """Its frames; raises SourceLost for what isn't any."""
        if not isinstance(message, FrameBatch):
            raise self._far.out_of_turn(message)
        frames = frames_from(message)
        missed = 0 if self._next_seq is None else max(0, message.seq - self._next_seq)
        self._next_seq = message.seq + len(frames)
        if len(frames) and self._anchor is not None:
            floor_ns = self._status.last_t_ns
            frames = replace(frames, t_ns=anchored(frames.t_ns, self._anchor, floor_ns, self._clock.boot_ns()))
        elif len(frames) and int(frames.t_ns[0]) < self._status.last_t_ns:
            raise self._far.broke_lockstep(f"{frames.t_ns[0]} ns came after {self._status.last_t_ns} ns")
        self._status = replace(
            self._status,
            received=self._status.received + len(frames),
            missed=self._status.missed + missed,
            last_t_ns=int(frames.t_ns[-1]) if len(frames) else self._status.last_t_ns,
        )
        return frames


def message_of(frames: Frames, seq: int) -> FrameBatch:
    """At most MAX_FRAMES_A_MESSAGE frames, as a message."""
    fd = frames.width > CLASSIC_BYTES
    return FrameBatch(seq, fd, frames.t_ns.tobytes(), frames.bus.tobytes(), rows_of(frames).tobytes())


def frames_from(message: FrameBatch) -> Frames:
    """Raises SourceLost when the message's parts don't fit each other."""
    kind = CANFD_FRAME if message.fd else CAN_FRAME
    count = len(message.bus)
    if count > MAX_FRAMES_A_MESSAGE or (len(message.t_ns), len(message.frames)) != (count * 8, count * kind.itemsize):
        raise SourceLost(
            f"The bus sent {len(message.t_ns)} bytes of times and {len(message.frames)} of frames for {count} frames:"
            " check that its version is ours."
        )
    t_ns, bus = np.frombuffer(message.t_ns, np.int64), np.frombuffer(message.bus, np.uint8)
    if ((t_ns < -MOST_NS) | (t_ns > MOST_NS)).any():
        raise SourceLost("The bus sent a time that no clock can have: check that its version is ours.")
    return in_order(frames_of(np.frombuffer(message.frames, kind), t_ns, bus))
