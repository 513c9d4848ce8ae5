"""The Backlog port: the durable blocks that wait to be carried out. The spool is one."""

from __future__ import annotations

from typing import Protocol

from telemetry.records import Lane
from telemetry.wire import Receipt


class BlockRef(Protocol):
    """Names a block: records base_seq .. base_seq+count-1 of the lane's epoch, `wire_bytes` long as it travels."""

    @property
    def lane(self) -> Lane: ...

    @property
    def epoch(self) -> bytes: ...

    @property
    def base_seq(self) -> int: ...

    @property
    def count(self) -> int: ...

    @property
    def wire_bytes(self) -> int: ...


class Backlog(Protocol):
    """Blocks leave it by a receipt, by quarantine, or by the keeper's own eviction; nothing else frees one."""

    def next_unsent(self, lane: Lane) -> BlockRef | None:
        """The lane's oldest block that wasn't sent over this connection, may go, and is neither freed nor
        quarantined."""
        ...

    def mark_sent(self, ref: BlockRef) -> None:
        """It is on its way: `next_unsent` passes it by until `rewind`, and a receipt for it may now be believed."""
        ...

    def rewind(self) -> None:
        """A new connection: everything unacknowledged is unsent again."""
        ...

    async def load(self, ref: BlockRef) -> bytes:
        """The block as it travels. Raises BadBlock when it is no more: evicted, erased, or lost to corruption (and
        then already quarantined); DiskStarved when it can't be read now, and may be later."""
        ...

    def may_go(self, ref: BlockRef) -> bool:
        """Asked right before a loaded block is handed to a link: not what has left meanwhile, or is about to."""
        ...

    async def acknowledge(self, receipt: Receipt) -> int:
        """Frees what the receiver has stored, never beyond what was sent; the number of records freed by this call."""
        ...

    async def quarantine(self, ref: BlockRef, reason: str) -> None:
        """Takes the block out of the way and keeps it for inspection. Once is enough: again changes nothing."""
        ...

    async def wait(self) -> None:
        """Returns when something became durable after this was called, or may go now."""
        ...
