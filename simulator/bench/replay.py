"""How fast a drive can be replayed, and that it comes out the same."""

from __future__ import annotations

import asyncio
import resource
import time

from simulator.bench.metric import Metric
from simulator.demo.demo import DRIVE, MODEL
from simulator.replay import ReplayResult, replay
from simulator.replaycli import DESK


def run() -> list[Metric]:
    began_ns, before = time.monotonic_ns(), _children_cpu_s()
    first, second = asyncio.run(_once()), asyncio.run(_once())
    wall_s, cpu_s = (time.monotonic_ns() - began_ns) / 1e9 / 2, (_children_cpu_s() - before) / 2
    same = float(first.digest == second.digest)
    return [
        Metric("same digest twice", same, "", first.digest, 1.0, "at least"),
        Metric("drive seconds a second", first.seconds_of_drive / wall_s, "x", "wall time, start-up included"),
        Metric("CPU of camera and worker a frame", cpu_s * 1e3 / first.frames.captured, "ms CPU", "start-up included"),
    ]


async def _once() -> ReplayResult:
    return await replay(DRIVE, DESK, MODEL, lambda step: None)


def _children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
