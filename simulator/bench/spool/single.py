"""Records offered one by one, beside the same bytes written and synced raw."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Final

from ecu.clock import SystemClock
from ecu.disk import RealDisk
from ecu.keys import MemoryKeyStore
from simulator.bench.metric import Metric
from telemetry.records import Record, VehicleSummary, record_of
from telemetry.signals import vss
from telemetry.spool import Spool, SpoolLimits
from telemetry.spool.counts import MemoryCounters

COMMITS: Final = 60
RECORDS_A_COMMIT: Final = 500


def rows() -> list[Metric]:
    with tempfile.TemporaryDirectory(prefix="outrider-bench-") as folder:
        disk = RealDisk(Path(folder) / "spool")
        spool = Spool.open(disk, MemoryKeyStore(), SystemClock(), os.urandom, SpoolLimits(), MemoryCounters())
        cpu_ns, wall_ns, payload = _commits(spool)
        flash = _flash_bytes(spool)
        raw_ns = _raw(Path(folder) / "raw", flash // COMMITS)
    records = COMMITS * RECORDS_A_COMMIT
    return [
        Metric("records a second of CPU", records / (cpu_ns / 1e9), "records", "offer, encode, zstd, AES-GCM, commit"),
        Metric("commit over a raw write and sync", median(wall_ns) / median(raw_ns), "x", "median wall times"),
        Metric("flash bytes a plain byte", flash / payload, "x", f"{payload:,} plain bytes in {COMMITS} commits"),
    ]  # fmt: skip


def _commits(spool: Spool) -> tuple[int, list[int], int]:
    """CPU time in all, wall time of each commit, and the plain bytes of the records."""
    cpu_ns, wall_ns, plain = 0, [], 0
    for number in range(COMMITS):
        records = [_record(number * RECORDS_A_COMMIT + i) for i in range(RECORDS_A_COMMIT)]
        began_cpu_ns = time.process_time_ns()
        for record in records:
            spool.offer(record, wall_ns=number)
        batch = spool.take(0, everything=True)
        assert batch is not None
        began_ns = time.monotonic_ns()
        spool.settle(spool.write(batch))
        wall_ns.append(time.monotonic_ns() - began_ns)
        cpu_ns += time.process_time_ns() - began_cpu_ns
        plain += sum(run.size for part in batch.parts for run in part.runs)
    return cpu_ns, wall_ns, plain


def _flash_bytes(spool: Spool) -> int:
    """Bytes of the blocks as they lie on flash, padding included."""
    pages = 0
    for lane in spool.counts().lanes:
        ref = spool.next_unsent(lane.lane, None)
        while ref is not None:
            pages += -(-(ref.wire_bytes + 64) // 4096)
            ref = spool.next_unsent(lane.lane, ref)
    return pages * 4096


def _raw(path: Path, size: int) -> list[int]:
    """The floor: one pwrite into a file that exists already, one fsync."""
    data, spent = os.urandom(size), []
    path.write_bytes(bytes(size))
    fd = os.open(path, os.O_WRONLY)
    os.fsync(fd)
    for _ in range(COMMITS):
        began = time.monotonic_ns()
        os.pwrite(fd, data, 0)
        os.fsync(fd)
        spent.append(time.monotonic_ns() - began)
    os.close(fd)
    return spent


def _record(number: int) -> Record:
    values = {vss.SPEED: 80.0 + number % 50 / 10, vss.BRAKE_PEDAL: float(number % 7), vss.HEADING: number % 360 / 1.0}
    return record_of(number * 50_000_000, VehicleSummary(values))
