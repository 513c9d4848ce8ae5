"""Group commit: blocks of all connections in one transaction, and only then an answer and a receipt (law 6)."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog

from ecu.clock import Clock
from receiver import inbox
from receiver.counters import Counters
from receiver.inbox import Answer, Arrival, Outcome, Place, Verdict
from receiver.quota import Quota
from receiver.store import Store, StoreError
from telemetry.records import Lane
from telemetry.spool.intervals import IntervalSet
from telemetry.wire import BadBlock, Receipt, inflated_size, unpack_block

log = structlog.get_logger()

BUSY: Final = Verdict(Outcome.THROTTLED, "the receiver is busy")
GREEDY: Final = Verdict(Outcome.THROTTLED, "this vehicle sends more than its share")


_Queued = tuple[Arrival, Answer]


@dataclass(frozen=True, slots=True)
class IngestLimits:
    """How much may wait for the disk, and how much one transaction takes."""

    queue_blocks: int = 16_384
    queue_bytes: int = 64 * 1024 * 1024
    commit_blocks: int = 512


class Ingest:
    """A block is answered when it is committed or never will be; then `on_receipt` hears of what is stored."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        quota: Quota,
        limits: IngestLimits,
        counters: Counters,
        on_receipt: Callable[[str, Receipt], None],
    ) -> None:
        self._store = store
        self._clock = clock
        self._quota = quota
        self._limits = limits
        self._counters = counters
        self._on_receipt = on_receipt
        self._queue: deque[_Queued] = deque()
        self._queued_bytes = 0
        self._news = asyncio.Event()

    def submit(self, vehicle: str, lane: Lane, block: bytes) -> asyncio.Future[Verdict]:
        """As `offer`, for one who awaits the answer and may stop to."""
        return promised(partial(self.offer, vehicle, lane, block))

    def offer(self, vehicle: str, lane: Lane, block: bytes, answer: Answer) -> None:
        """Never raises: what can't be taken is a verdict too, given at once. `vehicle` is the certificate's."""
        taken = self._take(vehicle, lane, block)
        if isinstance(taken, Verdict):
            self._count([taken])
            answer(taken)
        else:
            self._queue.append((taken, answer))
            self._queued_bytes += len(block)
            self._news.set()

    def charge(self, vehicle: str, cost: float) -> bool:
        """Takes `cost` bytes from the vehicle's share; False when it has used that up."""
        return self._quota.take(vehicle, cost, self._clock.boot_ns()) == 0.0

    async def run(self) -> None:
        """Commits what is queued, over and over, until cancelled."""
        while True:
            await self._news.wait()
            await self._commit(self._batch())
            if not self._queue:
                self._news.clear()

    def _take(self, vehicle: str, lane: Lane, block: bytes) -> Arrival | Verdict:
        try:
            header, body = unpack_block(block)
        except BadBlock as error:
            return Verdict(Outcome.BAD, str(error))
        if header.lane != lane:
            return Verdict(Outcome.BAD, f"a block of {header.lane.name} came as {lane.name}")
        if len(self._queue) >= self._limits.queue_blocks or self._queued_bytes + len(block) > self._limits.queue_bytes:
            return BUSY
        if not self.charge(vehicle, len(block) + inflated_size(body)):
            return GREEDY
        return Arrival(vehicle, header, block, body)

    def _batch(self) -> list[_Queued]:
        count = min(len(self._queue), self._limits.commit_blocks)
        batch = [self._queue.popleft() for _ in range(count)]
        self._queued_bytes -= sum(len(arrival.block) for arrival, _ in batch)
        return batch

    async def _commit(self, batch: list[_Queued]) -> None:
        arrivals = [arrival for arrival, _ in batch]
        try:
            verdicts = await self._store.transact(inbox.commit, arrivals, self._clock.wall_ns())
        except StoreError as error:
            # Nothing was stored and nothing is wrong with the blocks: the vehicles keep them and come again.
            log.error("commit_failed", blocks=len(batch), reason=str(error))
            self._counters.store_failures += 1
            verdicts = [BUSY] * len(batch)
        self._counters.commits += 1
        self._count(verdicts)
        for (_, answer), verdict in zip(batch, verdicts, strict=True):
            answer(verdict)
        for vehicle, receipt in receipts(arrivals, verdicts):
            self._counters.receipts += 1
            self._on_receipt(vehicle, receipt)

    def _count(self, verdicts: Iterable[Verdict]) -> None:
        for outcome, times in Counter(verdict.outcome for verdict in verdicts).items():
            self._counters.add(f"blocks_{outcome.value}", times)


def promised(offer: Callable[[Answer], None]) -> asyncio.Future[Verdict]:
    """The verdict that `offer` will have; whoever awaits it may stop to."""
    told: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
    offer(lambda verdict: None if told.done() else told.set_result(verdict))
    return told


def receipts(arrivals: Sequence[Arrival], verdicts: Sequence[Verdict]) -> list[tuple[str, Receipt]]:
    """One receipt a stream, for exactly the records of these blocks that are stored."""
    stored: defaultdict[Place, IntervalSet] = defaultdict(IntervalSet)
    for arrival, verdict in zip(arrivals, verdicts, strict=True):
        if verdict.is_stored:
            stored[arrival.place].add(arrival.header.base_seq, arrival.header.end_seq)
    return [(place.vehicle, Receipt(place.lane, place.epoch, tuple(ranges))) for place, ranges in stored.items()]
