"""A backlog in memory, for tests and for runs that need no flash. It keeps the port's promises and forgets at exit."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from telemetry.records import Lane
from telemetry.uplink.backlog import BlockRef
from telemetry.uplink.ranges import Range, size, without
from telemetry.wire import BadBlock, Receipt, unpack_block

Key = tuple[Lane, bytes, int]


@dataclass(frozen=True, slots=True)
class MemoryRef:
    """A BlockRef."""

    lane: Lane
    epoch: bytes
    base_seq: int
    count: int
    wire_bytes: int


@dataclass(slots=True)
class _Held:
    ref: MemoryRef
    block: bytes
    unacknowledged: tuple[Range, ...]
    sent_now: bool = False
    sent_ever: bool = False


class MemoryBacklog:
    """Holds whole wire blocks. `freed` counts records, `unsent_receipts` the receipts that named nothing ever sent."""

    def __init__(self) -> None:
        self.freed = 0
        self.unsent_receipts = 0
        self.quarantined: dict[Key, str] = {}
        self._held: dict[Key, _Held] = {}
        self._news = asyncio.Event()

    def add(self, block: bytes) -> MemoryRef:
        """The block is durable from now on. Raises BadBlock for what isn't a block, ValueError for one it holds."""
        header, _ = unpack_block(block)
        ref = MemoryRef(header.lane, header.epoch, header.base_seq, header.count, len(block))
        if _key(ref) in self._held:
            raise ValueError(f"{ref} is here already")
        self._held[_key(ref)] = _Held(ref, block, ((header.base_seq, header.end_seq),))
        self._news.set()
        return ref

    def corrupt(self, ref: BlockRef) -> None:
        """Flips a bit of a held block: loading it finds out."""
        held = self._held[_key(ref)]
        held.block = held.block[:-1] + bytes([held.block[-1] ^ 1])

    def evict(self, ref: BlockRef) -> None:
        """Drops a held block, as a full disk would have it."""
        del self._held[_key(ref)]

    def __len__(self) -> int:
        """Blocks that are neither freed nor quarantined."""
        return len(self._held)

    def next_unsent(self, lane: Lane) -> MemoryRef | None:
        return next((held.ref for held in self._held.values() if held.ref.lane is lane and not held.sent_now), None)

    def mark_sent(self, ref: BlockRef) -> None:
        held = self._held[_key(ref)]
        held.sent_now = held.sent_ever = True

    def rewind(self) -> None:
        for held in self._held.values():
            held.sent_now = False

    async def load(self, ref: BlockRef) -> bytes:
        held = self._held.get(_key(ref))
        if held is None:
            raise BadBlock(f"{ref} isn't here any more")
        try:
            unpack_block(held.block)
        except BadBlock as error:
            await self.quarantine(ref, str(error))
            raise
        return held.block

    def may_go(self, ref: BlockRef) -> bool:
        return _key(ref) in self._held

    async def acknowledge(self, receipt: Receipt) -> int:
        freed = sum(self._acknowledge_range(receipt, start, end) for start, end in receipt.ranges)
        self.freed += freed
        return freed

    def _acknowledge_range(self, receipt: Receipt, start: int, end: int) -> int:
        lane_blocks = [h for h in self._held.values() if (h.ref.lane, h.ref.epoch) == (receipt.lane, receipt.epoch)]
        named = [h for h in lane_blocks if h.ref.base_seq < end and start < h.ref.base_seq + h.ref.count]
        self.unsent_receipts += any(not held.sent_ever for held in named)
        freed = 0
        for held in named:
            if held.sent_ever:
                left = without(held.unacknowledged, start, end)
                freed += size(held.unacknowledged) - size(left)
                held.unacknowledged = left
                if not left:
                    del self._held[_key(held.ref)]
        return freed

    async def quarantine(self, ref: BlockRef, reason: str) -> None:
        if self._held.pop(_key(ref), None) is not None:
            self.quarantined[_key(ref)] = reason

    async def wait(self) -> None:
        self._news.clear()
        await self._news.wait()


def _key(ref: BlockRef) -> Key:
    return ref.lane, ref.epoch, ref.base_seq
