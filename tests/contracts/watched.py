"""A link under watch: what its laws say of every exchange, whatever the test that made it is about."""

from __future__ import annotations

from collections.abc import AsyncIterator

from telemetry.links.link import Accepted, Acks, Hint, Link, Refused
from telemetry.records import Lane
from telemetry.wire import BadBlock, Receipt, unpack_block
from tests.contracts.worlds import World

Records = set[tuple[Lane, bytes, int]]


def records_of(block: bytes) -> Records:
    """None for bytes that are no block."""
    try:
        header, _ = unpack_block(block)
    except BadBlock:
        return set()
    return {(header.lane, header.epoch, seq) for seq in range(header.base_seq, header.end_seq)}


class Watched:
    """Passes everything on, and remembers it."""

    def __init__(self, link: Link) -> None:
        self.acks = link.acks
        self.link = link
        self._sent: list[bytes] = []
        self._accepted: list[bytes] = []
        self._refused: list[bytes] = []
        self._told: Records = set()

    async def connect(self) -> None:
        await self.link.connect()

    async def publish(self, lane: Lane, block: bytes) -> Accepted:
        self._sent.append(block)
        try:
            accepted = await self.link.publish(lane, block)
        except Refused:
            self._refused.append(block)
            raise
        self._accepted.append(block)
        return accepted

    def receipts(self) -> AsyncIterator[Receipt]:
        return _Heard(self.link.receipts(), self._told)

    def hints(self) -> AsyncIterator[Hint]:
        return self.link.hints()

    async def report(self, status: bytes) -> None:
        await self.link.report(status)

    async def close(self) -> None:
        await self.link.close()

    async def hold(self, world: World, vehicle: str) -> None:
        """Fails where a law doesn't hold: 1, no record is lost or made up on the way; 6, a receipt means stored."""
        stored = await world.stored(vehicle)
        kept = [record for block in stored for record in records_of(block)]
        assert len(kept) == len(set(kept)), "a record is stored twice"
        assert set(stored) <= set(self._sent), "something is stored that nobody sent"
        assert self._told <= set(kept), "a receipt told of what isn't stored"
        if self.acks is Acks.STORED:
            assert set(self._accepted) <= set(stored), "what was accepted isn't stored"
        assert not set(self._refused) & (set(stored) - set(self._accepted)), "what was refused is stored"


class _Heard:
    def __init__(self, receipts: AsyncIterator[Receipt], told: Records) -> None:
        self._receipts = receipts
        self._told = told

    def __aiter__(self) -> _Heard:
        return self

    async def __anext__(self) -> Receipt:
        receipt = await anext(self._receipts)
        for start, end in receipt.ranges:
            self._told |= {(receipt.lane, receipt.epoch, seq) for seq in range(start, end)}
        return receipt
