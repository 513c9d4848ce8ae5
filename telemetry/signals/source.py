"""Signals from another process over a Unix SOCK_SEQPACKET socket, in real time or in lockstep."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from random import Random

from ecu.clock import Clock
from ecu.samples import Sample
from telemetry.signals.anchor import Anchor
from telemetry.signals.farend import Dial, FarEnd, SourceLost
from telemetry.signals.messages import Begin, FromSource, Signals
from telemetry.signals.redial import Redial

SignalSample = Sample[dict[str, float]]


@dataclass(frozen=True, slots=True)
class SignalStatus:
    """How the source does. `missed` samples were left out by the source, `late` ones ran backwards and were dropped;
    `moved` counts how often its clock jumped, or was another than ours (telemetry/signals/anchor.py)."""

    connected: bool
    reason: str
    received: int = 0
    missed: int = 0
    late: int = 0
    losses: int = 0
    last_t_ns: int = -1
    moved: int = 0


class SocketSignals:
    """One channel of samples. Use either `samples` (real time) or `begin` and `advance` (lockstep), from one task.

    What isn't read yet waits in the socket's buffer only: the kernel bounds it, and a source that finds it full leaves
    samples out, which `status().missed` counts.
    """

    def __init__(self, dial: Dial, clock: Clock, rng: Random, channel: str = "signals") -> None:
        self._far: FarEnd[FromSource] = FarEnd(dial, FromSource, "The signal source")
        self._clock = clock
        self._rng = rng
        self._name = channel
        self._last_seq: int | None = None
        self._anchor: Anchor | None = None
        self._status = SignalStatus(connected=False, reason="not started")

    def status(self) -> SignalStatus:
        return self._status

    async def samples(self) -> AsyncGenerator[SignalSample, None]:
        """Samples as they come, for ever; a lost source is counted and connected to again with full jitter.

        Closing the generator hangs up.
        """
        redial = Redial(self._clock, self._rng)
        while True:
            try:
                await self._open(Begin(realtime=True, from_ns=self._clock.boot_ns()))
                while True:
                    sample = self._taken(await self._far.receive())
                    redial.heard()
                    if sample is not None:
                        yield sample
            except SourceLost as lost:
                losses = self._status.losses + self._status.connected
                self._status = replace(self._status, connected=False, reason=str(lost), losses=losses)
            finally:
                self.close()
            await redial.pause()

    async def begin(self, from_ns: int) -> None:
        """Connects for lockstep from `from_ns` on. Raises SourceLost."""
        await self._open(Begin(realtime=False, from_ns=from_ns))

    async def advance(self, t_ns: int) -> list[SignalSample]:
        """All samples up to and including `t_ns` that weren't told before, in order. Raises SourceLost."""
        samples: list[SignalSample] = []
        async for message in self._far.granted(t_ns):
            sample = self._taken(message)
            if sample is None or sample.t_ns > t_ns:
                raise self._far.broke_lockstep(f"a sample out of its time came before the answer to {t_ns} ns")
            samples.append(sample)
        return samples

    def close(self) -> None:
        self._far.close()
        self._status = replace(self._status, connected=False)

    async def _open(self, begin: Begin) -> None:
        self.close()
        self._last_seq = None
        hello = await self._far.open(begin)
        self._anchor = Anchor() if begin.realtime else None
        if self._anchor is not None:
            self._anchor.greet(hello.now_ns, self._clock.boot_ns())
            self._status = replace(self._status, moved=self._status.moved + self._anchor.moved)
        self._status = replace(self._status, connected=True, reason="")

    def _taken(self, message: FromSource) -> SignalSample | None:
        """The sample to hand on, None when it ran backwards. Raises SourceLost for what isn't a sample."""
        if not isinstance(message, Signals):
            raise self._far.out_of_turn(message)
        expected = message.seq if self._last_seq is None else self._last_seq + 1
        self._last_seq = message.seq
        status = replace(self._status, missed=self._status.missed + max(0, message.seq - expected))
        t_ns = message.t_ns
        if self._anchor is not None:
            moved = self._anchor.moved
            self._anchor.see(t_ns, t_ns, self._clock.boot_ns())
            status = replace(status, moved=status.moved + self._anchor.moved - moved)
            t_ns += self._anchor.offset_ns
        if t_ns <= status.last_t_ns:
            self._status = replace(status, late=status.late + 1)
            return None
        self._status = replace(status, received=status.received + 1, last_t_ns=t_ns)
        return Sample(self._name, t_ns, message.seq, message.values)
