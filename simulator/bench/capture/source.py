"""The floor: the source alone. `python -m simulator.bench.capture.source URL SECONDS` reads it and prints the CPU time
that took, in nanoseconds of all that the process used after its first batch, and how many frames came."""

from __future__ import annotations

import asyncio
import sys
from random import Random

from ecu.clock import SECOND_NS, SystemClock
from ecu.process import cpu_ns
from telemetry.signals.sources import open_frames


async def read(url: str, seconds: float) -> tuple[int, int]:
    clock = SystemClock()
    began_ns = end_ns = frames = 0
    async for batch in open_frames(url, clock, Random(0)).batches():
        if not end_ns:
            began_ns, end_ns = cpu_ns(), clock.boot_ns() + int(seconds * SECOND_NS)
        frames += len(batch)
        if clock.boot_ns() >= end_ns:
            break
    return cpu_ns() - began_ns, frames


if __name__ == "__main__":
    print(*asyncio.run(read(sys.argv[1], float(sys.argv[2]))))
