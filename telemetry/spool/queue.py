"""Records that wait in memory for their commit: bounded, counted, and due by their lane's deadline."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from ecu.clock import SECOND_NS
from telemetry.records import COMMIT_WITHIN_NS, Lane, Purpose
from telemetry.spool.counts import Dropped
from telemetry.spool.limits import SpoolLimits
from telemetry.spool.packing import Waiting

_RETRY_NS: Final = SECOND_NS


@dataclass(frozen=True, slots=True)
class Part:
    """What one lane commits."""

    lane: Lane
    records: tuple[Waiting, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """What is committed together. Give what became of it to `settle`."""

    parts: tuple[Part, ...]


@dataclass(slots=True)
class LaneQueue:
    """One lane's records in memory, those under way to flash included. Holds no more than its limits."""

    lane: Lane
    limits: SpoolLimits
    records: deque[Waiting] = field(default_factory=deque)
    count: int = 0
    size: int = 0
    waiting_size: int = 0
    stuck: Dropped | None = None
    retry_ns: int = 0

    def refusal(self, size: int) -> Dropped | None:
        """Why one more record of that size can't be taken."""
        if self.count < self.limits.queue_records and self.size + size <= self.limits.queue_bytes:
            return None
        return self.stuck or Dropped.QUEUE_FULL

    def put(self, record: Waiting) -> None:
        self.records.append(record)
        self.count += 1
        self.size += record.size
        self.waiting_size += record.size

    def due_ns(self) -> int | None:
        if not self.records:
            return None
        oldest_ns = self.records[0].offered_ns
        early = self.waiting_size * 2 >= self.limits.queue_bytes or len(self.records) * 2 >= self.limits.queue_records
        return max(self.retry_ns, oldest_ns if early else oldest_ns + COMMIT_WITHIN_NS[self.lane])

    def take(self) -> Part:
        part = Part(self.lane, tuple(self.records))
        self.records.clear()
        self.waiting_size = 0
        return part

    def settle(self, done: int, size: int) -> None:
        """That many records of those taken are durable or dropped."""
        self.count -= done
        self.size -= size
        self.stuck = None

    def give_back(self, records: Sequence[Waiting], why: Dropped, now_ns: int) -> None:
        """These couldn't be made durable: they stay counted and are tried again, but not so often that it costs."""
        self.records.extendleft(reversed(records))
        self.waiting_size += sum(record.size for record in records)
        self.stuck = why
        self.retry_ns = now_ns + _RETRY_NS

    def withdraw(self, unwanted: Purpose | None) -> int:
        """Forgets what waits for this purpose (for any, when None); how many they were."""
        kept = [r for r in self.records if unwanted is not None and r.purpose is not unwanted]
        withdrawn = len(self.records) - len(kept)
        gone = self.waiting_size - _size(kept)
        self.records = deque(kept)
        self.waiting_size -= gone
        self.settle(withdrawn, gone)
        return withdrawn


def _size(records: Iterable[Waiting]) -> int:
    return sum(record.size for record in records)


class Queue:
    """All lanes. One thread uses it; nothing here waits or touches a disk."""

    def __init__(self, limits: SpoolLimits) -> None:
        self.lanes = {lane: LaneQueue(lane, limits) for lane in Lane}

    def due_ns(self) -> int | None:
        return min((due for queue in self.lanes.values() if (due := queue.due_ns()) is not None), default=None)

    def take(self, now_ns: int, everything: bool) -> Batch | None:
        """What is due; with `everything`, all there is."""
        chosen = [q for q in self.lanes.values() if (due := q.due_ns()) is not None and (everything or due <= now_ns)]
        return Batch(tuple(queue.take() for queue in chosen)) if chosen else None
