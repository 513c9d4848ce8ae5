"""A recording as a source of frames: as it was, faster or slower, once or again and again, or in lockstep."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from dataclasses import replace

import numpy as np

from ecu.clock import Clock
from telemetry.signals.farend import SourceLost
from telemetry.signals.frames import Frames, concat, no_frames
from telemetry.signals.framesource import LIMITS, BatchLimits, FrameStatus, portions
from telemetry.signals.recording import Recording, RecordingRefused


class Tape:
    """A recording that begins to play at `start_ns`. Looping, it goes on after its end as after any other frame."""

    def __init__(self, recording: Recording, start_ns: int, rate: float = 1.0, loop: bool = False) -> None:
        self._recording = recording
        self._start_ns = start_ns
        self._rate = rate
        self._frames = self._played(loop)
        self._held = no_frames()

    def next_ns(self) -> int | None:
        """When the next frame is due; None at the end. Raises RecordingRefused."""
        if not len(self._held):
            self._held = next(self._frames, self._held)
        return int(self._held.t_ns[0]) if len(self._held) else None

    def until(self, t_ns: int) -> Frames:
        """The frames up to and including `t_ns` that weren't given before. Raises RecordingRefused."""
        parts: list[Frames] = []
        while (next_ns := self.next_ns()) is not None and next_ns <= t_ns:
            end = int(np.searchsorted(self._held.t_ns, t_ns, side="right"))
            parts.append(self._held.rows(slice(0, end)))
            self._held = self._held.rows(slice(end, None))
        return concat(parts)

    def _played(self, loop: bool) -> Iterator[Frames]:
        length_ns = self._recording.last_ns - self._recording.first_ns
        length_ns += max(1000, length_ns // max(1, self._recording.frames - 1))
        shift_ns = 0
        while True:
            for frames in self._recording.chunks():
                since_ns = frames.t_ns - self._recording.first_ns + shift_ns
                at = since_ns if self._rate == 1.0 else np.round(since_ns / self._rate).astype(np.int64)
                yield replace(frames, t_ns=self._start_ns + at)
            if not loop:
                return
            shift_ns += length_ns


class RecordingSource:
    """Plays a recording; in real time it begins when `batches` does. A damaged recording is a lost source."""

    def __init__(
        self,
        recording: Recording,
        clock: Clock,
        rate: float = 1.0,
        loop: bool = False,
        limits: BatchLimits = LIMITS,
    ) -> None:
        self._recording = recording
        self._clock = clock
        self._rate = rate
        self._loop = loop
        self._limits = limits
        self._tape: Tape | None = None
        self._status = FrameStatus(connected=False, reason="not started")

    def status(self) -> FrameStatus:
        return self._status

    async def batches(self) -> AsyncGenerator[Frames, None]:
        tape = self._begun(self._clock.boot_ns(), self._rate)
        try:
            while (next_ns := tape.next_ns()) is not None:
                await self._clock.sleep_until(next_ns + self._limits.latency_ns)
                for frames in portions(tape.until(self._clock.boot_ns()), self._limits.frames):
                    self._count(frames)
                    yield frames
            self._status = replace(self._status, reason="the recording is at its end")
        except RecordingRefused as refused:
            self._status = replace(self._status, reason=str(refused), losses=self._status.losses + 1)
        finally:
            self.close()

    async def begin(self, from_ns: int) -> None:
        """The recording's first frame is at `from_ns`."""
        self._begun(from_ns, self._rate)

    async def advance(self, t_ns: int) -> Frames:
        if self._tape is None:
            raise SourceLost("The recording doesn't play: begin first.")
        try:
            frames = self._tape.until(t_ns)
        except RecordingRefused as refused:
            raise SourceLost(str(refused)) from refused
        self._count(frames)
        return frames

    def close(self) -> None:
        self._tape = None
        self._status = replace(self._status, connected=False)

    def _begun(self, start_ns: int, rate: float) -> Tape:
        self._tape = Tape(self._recording, start_ns, rate, self._loop)
        self._status = replace(self._status, connected=True, reason="")
        return self._tape

    def _count(self, frames: Frames) -> None:
        if len(frames):
            received = self._status.received + len(frames)
            self._status = replace(self._status, received=received, last_t_ns=int(frames.t_ns[-1]))
