"""Records of 100 incompressible bytes, durable in batches: the spool beside SQLite, turn by turn."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final, TypeVar

from simulator.bench.metric import Metric
from simulator.bench.spool.stores import SpoolStore, SqliteStore, batch_of

RATE_BAR: Final = 1.5e6
OVER_SQLITE_BAR: Final = 2.0
PAYLOAD_BYTES: Final = 100
BATCH: Final = 10_000
BATCHES: Final = 10
ROUNDS: Final = 9

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Spent:
    cpu_ns: int
    wall_ns: int

    def rate(self, records: int) -> tuple[float, float]:
        """Records a second of CPU, and of time."""
        return records * 1e9 / self.cpu_ns, records * 1e9 / self.wall_ns


def rows() -> list[Metric]:
    with tempfile.TemporaryDirectory(prefix="outrider-bench-") as folder:
        own, sqlite = SpoolStore(Path(folder)), SqliteStore(Path(folder))
        _one_round(own, sqlite)  # makes the segments that all others use again
        rounds = [_one_round(own, sqlite) for _ in range(ROUNDS)]
        own.close()
        sqlite.close()
    records = BATCH * BATCHES
    mine = [spent.rate(records) for spent, _ in rounds]
    over = [(other.cpu_ns / spent.cpu_ns, other.wall_ns / spent.wall_ns) for spent, other in rounds]
    how = f"median of {ROUNDS} rounds of {BATCHES} x {BATCH:,} x {PAYLOAD_BYTES} B, encrypted, each batch synced"
    beside = "of the same bytes in SQLite, WAL, synchronous=FULL, in turn"
    return [
        Metric("batches: records a second of CPU", median(c for c, _ in mine), "records", how, RATE_BAR, "at least"),
        Metric("batches: records a second", median(wall for _, wall in mine), "records", how),
        Metric("batches: rate over SQLite, CPU", median(c for c, _ in over), "x", beside, OVER_SQLITE_BAR, "at least"),
        Metric("batches: rate over SQLite, time", median(w for _, w in over), "x", beside, OVER_SQLITE_BAR, "at least"),
    ]  # fmt: skip


def _one_round(own: SpoolStore, sqlite: SqliteStore) -> tuple[_Spent, _Spent]:
    payloads = [[os.urandom(PAYLOAD_BYTES) for _ in range(BATCH)] for _ in range(BATCHES)]
    batches = [batch_of(part) for part in payloads]
    spent = _timed(own.commit_batch, batches)
    own.drain()
    return spent, _timed(sqlite.commit, payloads)


def _timed(commit: Callable[[T], None], parts: Sequence[T]) -> _Spent:
    cpu_ns, wall_ns = time.process_time_ns(), time.monotonic_ns()
    for part in parts:
        commit(part)
    return _Spent(time.process_time_ns() - cpu_ns, time.monotonic_ns() - wall_ns)
