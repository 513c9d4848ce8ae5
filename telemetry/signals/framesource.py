"""Where raw frames come from: a bus, a simulated one, or a recording. One port for all."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from ecu.clock import MILLISECOND_NS
from telemetry.signals.anchor import TOLERANCE_NS, Anchor
from telemetry.signals.frames import Frames


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """A frame waits in its source for others at most `latency_ns`; no batch has more than `frames`."""

    latency_ns: int = 40 * MILLISECOND_NS
    frames: int = 2000


LIMITS: Final = BatchLimits()


@dataclass(frozen=True, slots=True)
class FrameStatus:
    """How a source does. All but `connected`, `reason` and `last_t_ns` count since it was made."""

    connected: bool
    reason: str
    received: int = 0
    missed: int = 0
    """Frames that the source or the kernel had no room for."""
    moved: int = 0
    """Times that its clock jumped, or was another than ours."""
    losses: int = 0
    """Times that it was lost: hung up, an interface gone down."""
    remote: int = 0
    """Frames that ask for data and have none."""
    errors: int = 0
    """Frames by which the controller tells of errors, `bus_offs` among them."""
    bus_offs: int = 0
    last_t_ns: int = -1


class FrameSource(Protocol):
    """Use either `batches` (real time) or `begin` and `advance` (lockstep), from one task.

    Frames are in order of time over all batches, and none is stamped later than it was handed on. What isn't read yet
    waits in a bounded buffer; what found no room there is counted in `status().missed`.
    """

    def status(self) -> FrameStatus: ...

    def batches(self) -> AsyncGenerator[Frames, None]:
        """Batches as they come, none empty, until the source has no more, most never. A source that is lost is counted,
        and connected to again with full jitter. Closing the generator hangs up."""
        ...

    async def begin(self, from_ns: int) -> None:
        """Begins lockstep at `from_ns`. Raises SourceLost; UsageFault when it is a bus, which waits for nobody."""
        ...

    async def advance(self, t_ns: int) -> Frames:
        """All frames up to and including `t_ns` that weren't told before. Raises SourceLost."""
        ...

    def close(self) -> None: ...


def portions(frames: Frames, most: int) -> Iterator[Frames]:
    """The same frames, at most so many at once."""
    for begin in range(0, len(frames), most):
        yield frames.rows(slice(begin, begin + most))


def anchored(stamps: NDArray[np.int64], anchor: Anchor, floor_ns: int, now_ns: int) -> NDArray[np.int64]:
    """A source's stamps (n,) as boot time: not descending, from `floor_ns` on, and none beyond `now_ns`."""
    parts: list[NDArray[np.int64]] = []
    jumps = np.flatnonzero(np.abs(np.diff(stamps)) > TOLERANCE_NS) + 1
    for part in np.split(stamps, jumps):
        anchor.see(int(part[0]), int(part.max()), now_ns)
        parts.append(part + anchor.offset_ns)
    moved = np.minimum(np.concatenate(parts), now_ns)
    return np.maximum.accumulate(np.maximum(moved, min(floor_ns, now_ns)))
