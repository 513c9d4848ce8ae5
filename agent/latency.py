"""Latencies in fixed bins: exact counts, constant memory, percentiles to a tenth of a millisecond."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from dataclasses import dataclass
from itertools import accumulate

from ecu.clock import MILLISECOND_NS

BIN_NS = 100_000
BINS = 20_000  # the last one holds everything from 2 s on


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Milliseconds; 0.0 when nothing was measured (`count` says so)."""

    count: int
    p50_ms: float
    p99_ms: float
    max_ms: float


class LatencyHistogram:
    def __init__(self) -> None:
        self._counts = array("Q", bytes(8 * BINS))
        self._max_ns = 0

    def add(self, latency_ns: int) -> None:
        self._counts[min(max(latency_ns, 0) // BIN_NS, BINS - 1)] += 1
        self._max_ns = max(self._max_ns, latency_ns)

    def percentiles(self) -> Percentiles:
        """Upper edges of the bins that hold the percentiles: never flattering."""
        reached = list(accumulate(self._counts))
        total = reached[-1]
        if total == 0:
            return Percentiles(0, 0.0, 0.0, 0.0)
        p50_ms, p99_ms = (self._upper_edge_ms(bisect_left(reached, share * total)) for share in (0.50, 0.99))
        return Percentiles(total, p50_ms, p99_ms, self._max_ns / MILLISECOND_NS)

    def _upper_edge_ms(self, which: int) -> float:
        edge_ns = (which + 1) * BIN_NS if which < BINS - 1 else self._max_ns
        return edge_ns / MILLISECOND_NS
