"""Where what was learned goes: the spool, and whether it has it."""

from __future__ import annotations

from telemetry.records import Record
from telemetry.spool import SpoolKeeper


class SpoolOutbox:
    """A record is kept once it lies durably in the spool."""

    def __init__(self, keeper: SpoolKeeper) -> None:
        self._keeper = keeper

    async def __call__(self, record: Record) -> bool:
        """False where that can't be said: it was dropped, or flash refuses for now."""
        before = self._lost(record)
        if not self._keeper.offer(record):
            return False
        await self._keeper.flush()
        lane = self._keeper.counts().lanes[record.lane]
        return lane.pending == 0 and self._lost(record) == before

    def _lost(self, record: Record) -> int:
        return sum(self._keeper.counts().lanes[record.lane].dropped.values())
