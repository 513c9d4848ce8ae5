"""The spool's shell in an event loop: one writer thread, a commit whenever one is due, and the uplink's Backlog."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Coroutine, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, ParamSpec, TypeVar

from ecu.clock import SECOND_NS, Clock
from telemetry.confirmations import Confirmation
from telemetry.records import Lane, Purpose, Record, RecordBatch
from telemetry.spool import blocks
from telemetry.spool.counts import SpoolCounts
from telemetry.spool.intervals import IntervalSet
from telemetry.spool.shelf import Stream
from telemetry.spool.spool import Spool
from telemetry.uplink.backlog import BlockRef
from telemetry.wire import Receipt

MOST_TELLINGS: Final = 8
TELLINGS_WITHIN_NS: Final = 600 * SECOND_NS
"""So many records of what left in such a time: each takes a page of flash, and where nobody takes them they would push
out what there is to tell. What waits meanwhile is told with less."""

P = ParamSpec("P")
T = TypeVar("T")


class SpoolKeeper:
    """Keeps a spool for one event loop. It is a Backlog.

    `run` commits by itself; an owner that moves the clock itself calls `commit_due` instead. `on_confirmed` hears of
    each record that became durable, right after it did, on the loop. What left without an acknowledgement is told to
    the receiver as a record like any other, as `private` lets it; None: not at all.
    """

    def __init__(
        self,
        spool: Spool,
        clock: Clock,
        on_confirmed: Callable[[Sequence[Confirmation]], None] | None = None,
        private: Callable[[Record], Record | None] = lambda record: record,
    ) -> None:
        self._private = private
        self._spool = spool
        self._clock = clock
        self._on_confirmed = on_confirmed
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._committing = asyncio.Lock()
        self._sooner = asyncio.Event()
        self._asleep_until_ns: int | None = None
        self._durable = asyncio.Event()
        self._some_left = asyncio.Event()
        self._withheld: Set[Purpose] = frozenset()
        # Over this connection: up to where each lane was looked through, where it was when something withheld was
        # passed by first, and what was sent.
        self._after: dict[Lane, blocks.BlockRef | None] = {}
        self._before_withheld: dict[Lane, blocks.BlockRef | None] = {}
        self._sent: defaultdict[Stream, IntervalSet] = defaultdict(IntervalSet)
        self._tellings = self._tellings_until_ns = 0
        self._closed = False
        self._ended = False

    # --- in ---

    def offer(self, record: Record) -> bool:
        """Takes the record, or drops and counts it; never waits. Raises RuntimeError once closed."""
        if self._closed:
            raise RuntimeError("the spool is closed")
        taken = self._spool.offer(record, self._clock.wall_ns())
        self._wake_for_what_is_due()
        return taken

    def offer_many(self, batch: RecordBatch) -> int:
        """As `offer` for each of them; how many were taken."""
        if self._closed:
            raise RuntimeError("the spool is closed")
        taken = self._spool.offer_many(batch, self._clock.wall_ns())
        self._wake_for_what_is_due()
        return taken

    def _wake_for_what_is_due(self) -> None:
        due_ns = self._due_ns()
        if due_ns is not None and (self._asleep_until_ns is None or due_ns < self._asleep_until_ns):
            self._sooner.set()

    def _due_ns(self) -> int | None:
        """When something is to be done next: a commit, or a look at what grows old."""
        commit_ns, look_ns = self._spool.due_ns(), self._spool.look_ns()
        return min((at_ns for at_ns in (commit_ns, look_ns) if at_ns is not None), default=None)

    async def run(self) -> None:
        """Commits what is due, when it is due, until cancelled; a commit under way is finished even then."""
        while True:
            self._sooner.clear()
            self._asleep_until_ns = due_ns = self._due_ns()
            if due_ns is None:
                await self._sooner.wait()
            elif due_ns > self._clock.boot_ns():
                await _first(self._clock.sleep_until(due_ns), self._sooner.wait())
            else:
                await self.commit_due()

    async def commit_due(self) -> None:
        """Makes durable what is due now."""
        await asyncio.shield(asyncio.ensure_future(self._commit(everything=False)))

    async def flush(self) -> None:
        """Makes durable all that was offered: the ignition went off."""
        await asyncio.shield(asyncio.ensure_future(self._commit(everything=True)))

    async def _commit(self, everything: bool) -> None:
        async with self._committing:
            look_ns = self._spool.look_ns()
            if look_ns is not None and look_ns <= self._clock.boot_ns():
                await self._freeing(self._spool.expire)
            self._tell_what_left()
            batch = self._spool.take(self._clock.boot_ns(), everything)
            if batch is None:
                return
            written = await self._in_writer(self._spool.write, batch, self._on_confirmed is not None)
            confirmed = self._spool.settle(written)
            self._tell_what_left()
        # Whatever there was no room for was evicted.
        self._tell_some_left()
        if any(lane.blocks for lane in written):
            if self._on_confirmed is not None:
                self._on_confirmed(confirmed)
            self._wake_who_waits()

    # --- out: the uplink's Backlog ---

    def next_unsent(self, lane: Lane) -> blocks.BlockRef | None:
        while (ref := self._spool.next_unsent(lane, self._after.get(lane))) is not None:
            if ref.purpose in self._withheld:
                self._before_withheld.setdefault(lane, self._after.get(lane))
            elif not self._sent[lane, ref.epoch].covers(ref.base_seq, ref.end_seq):
                return ref
            self._after[lane] = ref
        return None

    def mark_sent(self, ref: BlockRef) -> None:
        own = _own(ref)
        self._after[own.lane] = own
        self._sent[own.lane, own.epoch].add(own.base_seq, own.end_seq)
        self._spool.mark_sent(own)

    def rewind(self) -> None:
        self._after.clear()
        self._before_withheld.clear()
        self._sent.clear()

    async def load(self, ref: BlockRef) -> bytes:
        return await self._in_writer(self._spool.load, _own(ref))

    def may_go(self, ref: BlockRef) -> bool:
        own = _own(ref)
        return own.purpose not in self._withheld and not self._spool.has_left(own)

    async def acknowledge(self, receipt: Receipt) -> int:
        return await self._freeing(self._spool.acknowledge, receipt)

    async def quarantine(self, ref: BlockRef, reason: str) -> None:
        await self._freeing(self._spool.quarantine, _own(ref), reason)

    async def wait(self) -> None:
        await self._durable.wait()

    def _wake_who_waits(self) -> None:
        self._durable.set()
        self._durable = asyncio.Event()

    # --- the rest ---

    def counts(self) -> SpoolCounts:
        return self._spool.counts()

    @property
    def epochs(self) -> Mapping[Lane, bytes]:
        return self._spool.epochs

    @property
    def any_spooled(self) -> bool:
        """Whether a durable record waits to be sent."""
        return any(lane.spooled for lane in self.counts().lanes)

    async def left(self) -> None:
        """Until records have left for whatever reason, or may have."""
        await self._some_left.wait()

    async def _freeing(self, act: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """After it some records may have left, also when whoever asked for it has stopped waiting."""
        turn = asyncio.ensure_future(self._in_writer(act, *args, **kwargs))
        turn.add_done_callback(lambda _: self._tell_some_left())
        return await asyncio.shield(turn)

    def _tell_some_left(self) -> None:
        self._some_left.set()
        self._some_left = asyncio.Event()
        self._tell_what_left()

    def _tell_what_left(self) -> None:
        now_ns = self._clock.boot_ns()
        if now_ns >= self._tellings_until_ns:
            self._tellings, self._tellings_until_ns = 0, now_ns + TELLINGS_WITHIN_NS
        if self._closed or self._tellings >= MOST_TELLINGS:
            return
        if self._spool.tell_what_left(self._clock.wall_ns(), self._private):
            self._tellings += 1
            self._wake_for_what_is_due()

    def withhold(self, purposes: Set[Purpose]) -> None:
        """From now on nothing for these is handed to a link, and everything for others may be."""
        self._withheld = purposes
        # What was passed by may go now: it is looked for again.
        self._after.update(self._before_withheld)
        self._before_withheld.clear()
        self._wake_who_waits()

    async def erase(self, purpose: Purpose) -> int:
        """Drops what waits for a purpose and makes what lies on flash for it unreadable; the records that were.

        Raises DiskError; the next start then finishes it.
        """
        return await asyncio.shield(asyncio.ensure_future(self._erase(purpose)))

    async def _erase(self, purpose: Purpose) -> int:
        async with self._committing:
            return self._spool.withdraw(purpose) + await self._freeing(self._spool.erase, purpose)

    async def close(self, within_ns: int) -> bool:
        """Makes all durable and ends in order; False when flash didn't manage in time. Raises DiskError.

        Nothing confirmed is lost either way; what wasn't is counted by the next start. Idempotent.
        """
        if self._closed:
            return self._ended
        self._closed = True
        ending = asyncio.ensure_future(self._end())
        deadline = asyncio.ensure_future(self._clock.sleep_until(self._clock.boot_ns() + within_ns))
        await asyncio.wait((ending, deadline), return_when=asyncio.FIRST_COMPLETED)
        deadline.cancel()
        self._writer.shutdown(wait=ending.done(), cancel_futures=True)
        if ending.done():
            ending.result()
            self._ended = True
        return self._ended

    async def _end(self) -> None:
        await self.flush()
        async with self._committing:
            await self._in_writer(self._spool.close)

    async def _in_writer(self, act: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._writer, lambda: act(*args, **kwargs))


async def _first(*coroutines: Coroutine[Any, Any, object]) -> None:
    """Returns when one of them has; the others are cancelled."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


def _own(ref: BlockRef) -> blocks.BlockRef:
    if not isinstance(ref, blocks.BlockRef):
        raise TypeError(f"{ref} is a block of another backlog")
    return ref
