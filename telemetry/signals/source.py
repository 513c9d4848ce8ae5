"""Signals from another process over a Unix SOCK_SEQPACKET socket, in real time or in lockstep."""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Final

from ecu.channel import Advance, BadMessage, ChannelClosed, Done, Message
from ecu.clock import SECOND_NS, Clock
from ecu.errors import EnvironmentFault, UsageFault
from ecu.samples import Sample
from telemetry.backoff import backoff_s
from telemetry.records import TelemetryError
from telemetry.signals.anchor import Anchor
from telemetry.signals.conversation import Conversation
from telemetry.signals.messages import Begin, FromSource, Signals, SourceHello

RECONNECT_BASE_S: Final = 0.1
RECONNECT_CAP_S: Final = 5.0

SignalSample = Sample[dict[str, float]]

Dial = Callable[[], socket.socket]
"""Returns a connected socket; raises SourceLost when nobody answers. Never waits."""


class SourceLost(TelemetryError, EnvironmentFault):
    """The signal source is gone, was never there, or speaks nonsense. In real time: connect again."""


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


def unix_dial(url: str) -> Dial:
    """Dials `unix:PATH`. Raises UsageFault for any other URL."""
    scheme, _, path = url.partition(":")
    if scheme != "unix" or not path:
        raise UsageFault(f"{url!r} is no signal source: write unix:PATH, the socket that the source listens on.")

    def dial() -> socket.socket:
        end = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        end.setblocking(False)
        try:
            end.connect(path)
        except OSError as error:
            end.close()
            raise SourceLost(f"No signal source answers at {url} ({error.strerror}): start it there.") from error
        return end

    return dial


class SocketSignals:
    """One channel of samples. Use either `samples` (real time) or `begin` and `advance` (lockstep), from one task.

    What isn't read yet waits in the socket's buffer only: the kernel bounds it, and a source that finds it full leaves
    samples out, which `status().missed` counts.
    """

    def __init__(self, dial: Dial, clock: Clock, rng: Random, channel: str = "signals") -> None:
        self._dial = dial
        self._clock = clock
        self._rng = rng
        self._name = channel
        self._conversation: Conversation[FromSource] | None = None
        self._last_seq: int | None = None
        self._anchor: Anchor | None = None
        self._status = SignalStatus(connected=False, reason="not started")

    def status(self) -> SignalStatus:
        return self._status

    async def samples(self) -> AsyncGenerator[SignalSample, None]:
        """Samples as they come, for ever; a lost source is counted and connected to again with full jitter.

        Closing the generator hangs up.
        """
        attempt = 0
        while True:
            try:
                await self._open(Begin(realtime=True, from_ns=self._clock.boot_ns()))
                while True:
                    sample = self._taken(await self._receive())
                    attempt = 0
                    if sample is not None:
                        yield sample
            except SourceLost as lost:
                losses = self._status.losses + self._status.connected
                self._status = replace(self._status, connected=False, reason=str(lost), losses=losses)
            finally:
                self.close()
            pause_s = backoff_s(attempt, self._rng, RECONNECT_BASE_S, RECONNECT_CAP_S)
            attempt += 1
            await self._clock.sleep_until(self._clock.boot_ns() + int(pause_s * SECOND_NS))

    async def begin(self, from_ns: int) -> None:
        """Connects for lockstep from `from_ns` on. Raises SourceLost."""
        await self._open(Begin(realtime=False, from_ns=from_ns))

    async def advance(self, t_ns: int) -> list[SignalSample]:
        """All samples up to and including `t_ns` that weren't told before, in order. Raises SourceLost."""
        await self._send(Advance(t_ns))
        samples: list[SignalSample] = []
        while not isinstance(message := await self._receive(), Done):
            sample = self._taken(message)
            if sample is None or sample.t_ns > t_ns:
                raise SourceLost(f"The signal source broke lockstep: {message} came before the answer to {t_ns} ns.")
            samples.append(sample)
        if message.t_ns != t_ns:
            raise SourceLost(f"The signal source broke lockstep: it answered {message.t_ns} ns to {t_ns} ns.")
        return samples

    def close(self) -> None:
        if self._conversation is not None:
            self._conversation.close()
            self._conversation = None
        self._status = replace(self._status, connected=False)

    async def _open(self, begin: Begin) -> None:
        self.close()
        self._conversation = Conversation(self._dial(), FromSource)
        self._last_seq = None
        hello = await self._receive()
        if not isinstance(hello, SourceHello):
            raise SourceLost(f"The signal source didn't greet, it said {hello}: check that its version is ours.")
        self._anchor = Anchor() if begin.realtime else None
        if self._anchor is not None:
            self._anchor.greet(hello.now_ns, self._clock.boot_ns())
            self._status = replace(self._status, moved=self._status.moved + self._anchor.moved)
        await self._send(begin)
        self._status = replace(self._status, connected=True, reason="")

    def _taken(self, message: FromSource) -> SignalSample | None:
        """The sample to hand on, None when it ran backwards. Raises SourceLost for what isn't a sample."""
        if not isinstance(message, Signals):
            raise SourceLost(f"The signal source said {message} out of turn: check that its version is ours.")
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

    async def _send(self, message: Message) -> None:
        try:
            await self._conversing().send(message)
        except ChannelClosed as error:
            raise SourceLost("The signal source hung up.") from error

    async def _receive(self) -> FromSource:
        try:
            return await self._conversing().receive()
        except ChannelClosed as error:
            raise SourceLost("The signal source hung up.") from error
        except BadMessage as error:
            raise SourceLost(f"The signal source said what this version doesn't know: {error}.") from error

    def _conversing(self) -> Conversation[FromSource]:
        if self._conversation is None:
            raise SourceLost("The signal source isn't connected: begin first.")
        return self._conversation
