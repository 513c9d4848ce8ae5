"""Lockstep: the agent grants an instant, every process does what is due up to it, and all that came of it is one order.

The same drive gives the same samples in the same order whatever the load is (law 7), since nothing moves on before
everything before it is done.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from agent.perception import Perception
from agent.pipeline import Pipeline
from ecu.clock import SteppingClock
from ecu.samples import Order, Sample
from inference.messages import Seen
from telemetry.records import Record
from telemetry.signals import SocketSignals

SIGNALS_CHANNEL = "signals"

AnySample = Sample[Seen] | Sample[dict[str, float]]


@dataclass(frozen=True, slots=True)
class Moment:
    """One sample and the records that came of it."""

    sample: AnySample
    records: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """All that happened up to `t_ns`, in the samples' order."""

    t_ns: int
    moments: tuple[Moment, ...]
    captured: tuple[Record, ...] = ()
    """What campaigns told of them, in their own order: it comes behind the moments."""


class Captures(Protocol):
    """What runs campaigns (agent/signals/room.py)."""

    async def begin(self) -> None: ...

    def tell(self, t_ns: int, values: Mapping[str, float]) -> None: ...

    def see(self, seen: Seen, disagreement: float | None) -> None: ...

    async def advance(self, t_ns: int) -> list[Record]: ...


class LockstepDrive:
    """Drives the sources through time, `step_ns` a grant. `views` is where the perception's results arrive."""

    def __init__(
        self,
        perception: Perception,
        views: list[Seen],
        camera: str,
        signals: SocketSignals | None,
        pipeline: Pipeline,
        clock: SteppingClock,
        captures: Captures | None = None,
    ) -> None:
        self._captures = captures
        self._perception = perception
        self._views = views
        self._camera_channel = f"camera/{camera}"
        self._signals = signals
        self._pipeline = pipeline
        self._clock = clock
        # A vehicle's own signals of an instant are known before what the camera saw at it.
        self._order = Order([SIGNALS_CHANNEL, self._camera_channel])

    async def steps(self, from_ns: int, step_ns: int, until_ns: int | None) -> AsyncIterator[Step]:
        """Ends with the drive's last frame, or at `until_ns`. Raises UsageFault for an unusable source, SourceLost,
        EnvironmentFault, ModelUnfit."""
        if self._signals is not None:
            await self._signals.begin(from_ns)
        if self._captures is not None:
            await self._captures.begin()
        t_ns, going_on = from_ns, True
        while going_on and (until_ns is None or t_ns < until_ns):
            t_ns = t_ns + step_ns if until_ns is None else min(t_ns + step_ns, until_ns)
            going_on = await self._perception.advance(t_ns - 1)
            if not going_on:
                t_ns = self._perception.next_due_ns
            signals = await self._signals.advance(t_ns - 1) if self._signals is not None else []
            self._clock.advance(t_ns)
            samples = self._in_order(signals)
            yield Step(t_ns, tuple(map(self._moment, samples)), tuple(await self._captured(samples, t_ns - 1)))

    async def _captured(self, samples: Sequence[AnySample], until_ns: int) -> list[Record]:
        if self._captures is None:
            return []
        for sample in samples:
            match sample.payload:
                case Seen() as seen:
                    self._captures.see(seen, None)
                case values:
                    self._captures.tell(sample.t_ns, values)
        told = await self._captures.advance(until_ns)
        return [kept for record in told for kept in self._pipeline.on_captured(record)]

    def _in_order(self, signals: list[Sample[dict[str, float]]]) -> list[AnySample]:
        views = [Sample(self._camera_channel, seen.t_ns, seen.frame_id, seen) for seen in self._views]
        self._views.clear()
        samples: list[AnySample] = [*signals, *views]
        return sorted(samples, key=self._order.key)

    def _moment(self, sample: AnySample) -> Moment:
        match sample.payload:
            case Seen() as seen:
                return Moment(sample, tuple(self._pipeline.on_seen(seen)))
            case values:
                return Moment(sample, tuple(self._pipeline.on_signals(sample.t_ns, values)))
