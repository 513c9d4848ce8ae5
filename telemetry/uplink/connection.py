"""The work of one connection: send within the window, take receipts, and stop at the first sign that it is over."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from random import Random

from ecu.clock import SECOND_NS, Clock
from ecu.disk import DiskStarved
from telemetry.backoff import backoff_s
from telemetry.links.link import KEEP_ALIVE_S, Acks, Hint, Link, Refused, Throttled, Unreachable
from telemetry.records import Lane
from telemetry.uplink.allowance import Held
from telemetry.uplink.backlog import Backlog, BlockRef
from telemetry.uplink.config import UplinkConfig
from telemetry.uplink.ledger import Ledger
from telemetry.uplink.meter import Meter, Passage
from telemetry.uplink.schedule import Schedule
from telemetry.uplink.status import Board, UplinkState
from telemetry.wire import BadBlock, Receipt


class Connection:
    """Lives from one connect to the next. `progressed` says that the receiver has stored something over it, `emptied`
    that of its `lanes` nothing waits and everything sent has its receipt."""

    def __init__(
        self,
        link: Link,
        backlog: Backlog,
        clock: Clock,
        rng: Random,
        config: UplinkConfig,
        board: Board,
        schedule: Schedule,
        ledger: Ledger,
        meter: Meter,
        on_hint: Callable[[Hint], None] | None,
        lanes: Sequence[Lane] = tuple(Lane),
    ) -> None:
        self.progressed = False
        self.emptied = asyncio.Event()
        self._link = link
        self._backlog = backlog
        self._clock = clock
        self._rng = rng
        self._config = config
        self._board = board
        self._schedule = schedule
        self._ledger = ledger
        self._meter = meter
        self._on_hint = on_hint
        self._lanes = lanes
        self._picked: Lane | None = None
        self._again: dict[Lane, deque[BlockRef]] = {lane: deque() for lane in Lane}
        self._paused_until_ns = 0
        self._pauses = 0
        self._stir = asyncio.Event()

    async def run(self) -> None:
        """Until the link lets us down: raises an ExceptionGroup with the LinkErrors that ended it."""
        self._backlog.rewind()
        self._ledger.rewind()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._take_receipts())
                group.create_task(self._watch_backlog())
                group.create_task(self._watch_meter())
                group.create_task(self._count_keep_alives())
                if self._on_hint is not None:
                    group.create_task(self._pass_hints(self._on_hint))
                if self._link.acks is Acks.STORED:
                    group.create_task(self._watch_receipts())
                await self._send(group)
        finally:
            # A task cancelled before its first step never gave its place in the window back.
            self._board.in_flight = 0
            self._meter.records_wait(False)

    async def _send(self, group: asyncio.TaskGroup) -> None:
        while True:
            self._stir.clear()
            while (ref := self._next()) is not None:
                self._board.in_flight += 1
                passage = self._meter.begin(ref.lane, ref.wire_bytes)
                task = group.create_task(self._carry(ref, passage))
                # Also of one that is cancelled before its first step, and so never gets to say it itself.
                task.add_done_callback(partial(self._no_longer, passage))
            await self._meter.first(self._stir, self._hold())

    def _next(self) -> BlockRef | None:
        """The block to send now, marked as sent; None when nothing may be sent."""
        if self._clock.boot_ns() < self._paused_until_ns:
            self._meter.records_wait(False)  # not for the line: objects may have it
            return None
        heads = {lane: ref for lane, ref in self._heads().items() if self._meter.held(lane) is None}
        lane = self._pick({lane: ref.wire_bytes for lane, ref in heads.items()})
        if lane is None:
            return None
        ref = heads[lane]
        if self._again[lane]:
            self._again[lane].popleft()
        else:
            self._backlog.mark_sent(ref)
            self._ledger.sent(ref)
        return ref

    def _pick(self, heads: dict[Lane, int]) -> Lane | None:
        """P0, or whose turn it is, once there is room for its block on the line."""
        if Lane.P0 in heads:
            return Lane.P0
        if self._picked not in heads:
            self._picked = self._schedule.pick(heads)
        lane = self._picked
        if lane is None or not self._meter.may_send(lane, heads[lane]):
            self._meter.records_wait(lane is not None)
            return None
        self._picked = None
        return lane

    def _hold(self) -> int | None:
        """Shows what waits for another network or day; when something may go by the time alone."""
        heads = self._heads()
        if not heads and not self._ledger and not self._board.in_flight:
            self.emptied.set()
        held = {lane: why for lane in heads if (why := self._meter.held(lane)) is not None}
        self._show(held)
        return min((at for lane in heads if (at := self._meter.wakes_ns(lane)) is not None), default=None)

    def _show(self, held: dict[Lane, Held]) -> None:
        words = " ".join(why.words for why in held.values())
        if held and self._board.state is UplinkState.CONNECTED:
            self._board.enter(UplinkState.HELD_BACK, words, self._clock.boot_ns())
        elif self._board.state is UplinkState.HELD_BACK and words != self._board.reason:
            state = UplinkState.HELD_BACK if held else UplinkState.CONNECTED
            self._board.enter(state, words, self._clock.boot_ns())

    def _heads(self) -> dict[Lane, BlockRef]:
        return {lane: ref for lane in self._lanes if (ref := self._head(lane)) is not None}

    def _head(self, lane: Lane) -> BlockRef | None:
        urgent = lane is Lane.P0
        if self._board.in_flight >= self._config.window - (0 if urgent else self._config.window_for_p0):
            return None
        again = self._again[lane]
        while again and again[0] not in self._ledger:
            again.popleft()  # a receipt came although the link had asked for patience
        if again:
            return again[0]
        # Twice the room for P0: a receiver that stores nothing must hold back neither it nor our memory.
        if len(self._ledger) >= self._config.unreceipted * (2 if urgent else 1):
            return None
        return self._backlog.next_unsent(lane)

    async def _carry(self, ref: BlockRef, passage: Passage) -> None:
        try:
            block = await self._backlog.load(ref)
            await self._meter.written()
            if not self._backlog.may_go(ref):
                raise BadBlock(f"{ref} left while it was in hand")
            await self._link.publish(ref.lane, block)
        except DiskStarved as short:
            # It is marked as sent: only the next connection, some time from now, takes it up again.
            raise Unreachable(f"A block that has to be sent can't be read now: {short}") from short
        except BadBlock:
            self._ledger.forget(ref)
            self._board.count(blocks_lost=1)
        except Refused as refusal:
            self._ledger.forget(ref)
            self._board.count(blocks_refused=1)
            await self._backlog.quarantine(ref, str(refusal))
        except Throttled as throttled:
            self._meter.failed(passage)
            await self._wait_out(ref, throttled)
        else:
            self._meter.ended(passage)
            await self._accepted(ref, len(block))
        finally:
            self._board.in_flight -= 1
            self._stir.set()

    def _no_longer(self, passage: Passage, _: asyncio.Task[None]) -> None:
        self._meter.failed(passage)

    async def _accepted(self, ref: BlockRef, wire_bytes: int) -> None:
        self._pauses = 0
        self._board.count(blocks_sent=1, records_sent=ref.count, bytes_sent=wire_bytes)
        self._ledger.accepted(ref, self._clock.boot_ns())
        if self._link.acks is Acks.ACCEPTED:
            stored = Receipt(ref.lane, ref.epoch, ((ref.base_seq, ref.base_seq + ref.count),))
            self._ledger.settle(stored)
            await self._free(stored)

    async def _wait_out(self, ref: BlockRef, throttled: Throttled) -> None:
        """Keeps its place in the window meanwhile: nobody else may send either."""
        now_ns = self._clock.boot_ns()
        pause_s = max(0.0, min(self._config.throttle_cap_s, throttled.after_s))
        if now_ns >= self._paused_until_ns:
            # On top of what was asked, so that a throttled fleet doesn't come back in step, nor spin on zero seconds.
            pause_s += backoff_s(self._pauses, self._rng, self._config.backoff_base_s, self._config.backoff_cap_s)
            self._pauses += 1
            self._board.enter(UplinkState.THROTTLED, str(throttled), now_ns)
        self._paused_until_ns = max(self._paused_until_ns, now_ns + int(pause_s * SECOND_NS))
        self._again[ref.lane].append(ref)
        while self._clock.boot_ns() < self._paused_until_ns:
            await self._clock.sleep_until(self._paused_until_ns)
        if self._board.state is UplinkState.THROTTLED:
            self._board.enter(UplinkState.CONNECTED, "", self._clock.boot_ns())

    async def _take_receipts(self) -> None:
        async for receipt in self._link.receipts():
            within = self._ledger.settle(receipt)
            self._board.received(self._clock.boot_ns(), beyond_sent=not within)
            await self._free(receipt)
            self._stir.set()
        raise Unreachable("The link stopped telling receipts without saying why.")

    async def _free(self, receipt: Receipt) -> None:
        freed = await self._backlog.acknowledge(receipt)
        self._board.count(records_freed=freed)
        self.progressed = self.progressed or freed > 0

    async def _watch_receipts(self) -> None:
        """A receipt can get lost; the block behind it must not wait for a disconnection that never comes."""
        timeout_ns = int(self._config.receipt_timeout_s * SECOND_NS)
        while True:
            now_ns, since_ns = self._clock.boot_ns(), self._ledger.waiting_since_ns()
            if since_ns is not None and now_ns - since_ns >= timeout_ns:
                raise Unreachable(
                    f"The link took a block {(now_ns - since_ns) // SECOND_NS} s ago and no receipt came for it: "
                    "connecting and sending again. If this repeats, look at the receiver's ingest."
                )
            await self._clock.sleep_until((now_ns if since_ns is None else since_ns) + timeout_ns)

    async def _pass_hints(self, tell: Callable[[Hint], None]) -> None:
        async for hint in self._link.hints():
            tell(hint)

    async def _watch_backlog(self) -> None:
        while True:
            # First look, then wait: what became durable before this task's first turn stirs nobody else.
            self._stir.set()
            await self._backlog.wait()

    async def _count_keep_alives(self) -> None:
        """As if nothing else were said: a busy link asks less often, and nobody can look into every link."""
        while True:
            await self._clock.sleep_until(self._clock.boot_ns() + KEEP_ALIVE_S * SECOND_NS)
            self._meter.kept_alive()
            await self._meter.written()

    async def _watch_meter(self) -> None:
        while True:
            self._stir.set()
            await self._meter.until_news()
