"""What a start costs over a full spool, each life of it in a process of its own.

`python -m simulator.bench.spool.opening FOLDER` opens it and prints nanoseconds of CPU for that alone, and the most
memory the process ever had resident, KiB. With one of FILLINGS behind, it fills it and ends without closing it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Final

from ecu.clock import SystemClock
from ecu.disk import RealDisk
from ecu.keys import FileKeyStore
from simulator.bench.metric import Metric
from telemetry.records import Lane, Purpose, RecordBatch, SignalBlock
from telemetry.spool import Spool, SpoolLimits
from telemetry.spool.counts import MemoryCounters

CPU_BAR_MS: Final = 50.0
MEMORY_BAR_MB: Final = 10.0
OPENS: Final = 5
LIMITS: Final = SpoolLimits(max_bytes=2 << 30, queue_records=1_000_000, queue_bytes=64 << 20)
_SMALL_COMMITS: Final = 50_000


def rows() -> list[Metric]:
    with tempfile.TemporaryDirectory(prefix="outrider-bench-") as folder:
        _, empty_kib = _measured(Path(folder) / "empty", None)
        full = {what: _measured(Path(folder) / str(n), what) for n, what in enumerate(FILLINGS)}
    how = f"median of {OPENS} fresh processes after a kill: nothing was closed"
    return [
        metric
        for what, (cpu_ms, kib) in full.items()
        for metric in (
            Metric(f"open over {what}", cpu_ms, "ms CPU", how, CPU_BAR_MS),
            Metric(f"memory over {what}", (kib - empty_kib) / 1000, "MB", "beyond an empty spool's", MEMORY_BAR_MB),
        )
    ]


def _measured(folder: Path, filling: str | None) -> tuple[float, float]:
    """Milliseconds of CPU, and KiB."""
    if filling is not None:
        _in_a_process(folder, filling)
    answers = [_in_a_process(folder) for _ in range(OPENS)]
    return median(int(cpu_ns) / 1e6 for cpu_ns, _ in answers), median(int(kib) for _, kib in answers)


def _in_a_process(folder: Path, *filling: str) -> list[str]:
    command = [sys.executable, "-m", "simulator.bench.spool.opening", str(folder), *filling]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()


def _a_million_records() -> Iterator[RecordBatch]:
    return (_batch([os.urandom(100) for _ in range(10_000)]) for _ in range(100))


def _a_gigabyte() -> Iterator[RecordBatch]:
    return (_batch([os.urandom(90_000) for _ in range(100)]) for _ in range(112))


def _small_commits() -> Iterator[RecordBatch]:
    return (_batch([os.urandom(100)]) for _ in range(_SMALL_COMMITS))


FILLINGS: Final = {
    "1M records": _a_million_records,
    "1 GB": _a_gigabyte,
    f"{_SMALL_COMMITS:,} commits of one record": _small_commits,
}


def _batch(payloads: list[bytes]) -> RecordBatch:
    events = [SignalBlock("bench", 1, payload) for payload in payloads]
    return RecordBatch(Lane.P2, Purpose.DRIVING, range(len(events)), events)


def _open(folder: Path) -> Spool:
    RealDisk(folder).make_folder("")
    keys = FileKeyStore.open(folder / "keys")
    return Spool.open(RealDisk(folder / "spool"), keys, SystemClock(), os.urandom, LIMITS, MemoryCounters())


def fill(folder: Path, what: str) -> None:
    spool = _open(folder)
    for batch in FILLINGS[what]():
        taken = spool.offer_many(batch, 0)
        assert taken == len(batch.events), "the queue is too small"
        due = spool.take(0, everything=True)
        assert due is not None
        spool.settle(spool.write(due, witnessed=False))


def look(folder: Path) -> None:
    before_ns = time.process_time_ns()
    spool = _open(folder)
    spent_ns = time.process_time_ns() - before_ns
    assert spool.counts().holds
    status = Path("/proc/self/status").read_text().splitlines()
    print(spent_ns, next(line.split()[1] for line in status if line.startswith("VmHWM:")))


if __name__ == "__main__":
    if len(sys.argv) > 2:
        fill(Path(sys.argv[1]), sys.argv[2])
    else:
        look(Path(sys.argv[1]))
