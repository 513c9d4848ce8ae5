"""Where what was learned goes: the spool, and whether it has it."""

from __future__ import annotations

from telemetry.records import Event, Record
from telemetry.spool import SpoolKeeper


class SpoolOutbox:
    """A record is kept once it lies durably in the spool. Offered again, one that still waits there isn't doubled."""

    def __init__(self, keeper: SpoolKeeper) -> None:
        self._keeper = keeper
        self._waiting: Event | None = None
        self._lost_before = 0

    async def __call__(self, record: Record) -> bool:
        """False where that can't be said: it was dropped, or flash refuses for now."""
        if record.event != self._waiting or self._lost(record) != self._lost_before:
            self._waiting, self._lost_before = record.event, self._lost(record)
            if not self._keeper.offer(record):
                self._waiting = None
                return False
        await self._keeper.flush()
        if self._keeper.counts().lanes[record.lane].pending or self._lost(record) != self._lost_before:
            return False
        self._waiting = None
        return True

    def _lost(self, record: Record) -> int:
        return sum(self._keeper.counts().lanes[record.lane].dropped.values())
