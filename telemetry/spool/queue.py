"""Records that wait in memory for their commit: bounded, counted, and due by their lane's deadline."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from ecu.clock import SECOND_NS
from telemetry.records import COMMIT_AFTER_NS, Lane, Purpose
from telemetry.spool.counts import Dropped
from telemetry.spool.limits import SpoolLimits
from telemetry.spool.packing import Waiting

_RETRY_NS: Final = SECOND_NS


@dataclass(frozen=True, slots=True)
class Part:
    """What one lane commits."""

    lane: Lane
    runs: tuple[Waiting, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """What is committed together. Give what became of it to `settle`."""

    parts: tuple[Part, ...]


@dataclass(slots=True)
class LaneQueue:
    """One lane's records in memory, those under way to flash included. Holds no more than its limits."""

    lane: Lane
    limits: SpoolLimits
    runs: deque[Waiting] = field(default_factory=deque)
    count: int = 0
    size: int = 0
    waiting_count: int = 0
    waiting_size: int = 0
    stuck: Dropped | None = None
    retry_ns: int = 0

    @property
    def room(self) -> int:
        """How many more records it may hold."""
        return self.limits.queue_records - self.count

    def refusal(self, size: int) -> Dropped | None:
        """Why a record, or a run of as many as there is room for, of that size can't be taken."""
        if self.room > 0 and self.size + size <= self.limits.queue_bytes:
            return None
        return self.stuck or Dropped.QUEUE_FULL

    @property
    def told(self) -> bool:
        """Whether a record waits that tells what has left."""
        return any(run.told is not None for run in self.runs)

    def put(self, run: Waiting) -> None:
        size = run.size
        self.runs.append(run)
        self.count += run.count
        self.size += size
        self.waiting_count += run.count
        self.waiting_size += size

    def due_ns(self) -> int | None:
        if not self.runs:
            return None
        oldest_ns = self.runs[0].offered_ns
        early = self.waiting_size * 2 >= self.limits.queue_bytes or self.waiting_count * 2 >= self.limits.queue_records
        return max(self.retry_ns, oldest_ns if early else oldest_ns + COMMIT_AFTER_NS[self.lane])

    def take(self) -> Part:
        part = Part(self.lane, tuple(self.runs))
        self.runs.clear()
        self.waiting_count = self.waiting_size = 0
        return part

    def settle(self, done: int, size: int) -> None:
        """That many records of those taken are durable or dropped."""
        self.count -= done
        self.size -= size
        self.stuck = None

    def give_back(self, runs: Sequence[Waiting], why: Dropped, now_ns: int) -> None:
        """These couldn't be made durable: they stay counted and are tried again, but not so often that it costs."""
        self.runs.extendleft(reversed(runs))
        self.waiting_count += _count(runs)
        self.waiting_size += _size(runs)
        self.stuck = why
        self.retry_ns = now_ns + _RETRY_NS

    def withdraw(self, unwanted: Purpose | None) -> int:
        """Forgets what waits for this purpose (for any, when None); how many they were."""
        kept = [run for run in self.runs if unwanted is not None and run.purpose is not unwanted]
        withdrawn, gone = self.waiting_count - _count(kept), self.waiting_size - _size(kept)
        self.runs = deque(kept)
        self.waiting_count -= withdrawn
        self.waiting_size -= gone
        self.settle(withdrawn, gone)
        return withdrawn


def _count(runs: Iterable[Waiting]) -> int:
    return sum(run.count for run in runs)


def _size(runs: Iterable[Waiting]) -> int:
    return sum(run.size for run in runs)


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
