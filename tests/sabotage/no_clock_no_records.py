"""While the clock can't be trusted nothing is recorded."""

from __future__ import annotations

from typing import Any

from tests.sabotage.afterimport import after, put

CLAIM = "spooled while the clock read 1970, stored once the time was known"


@after("telemetry.spool.keeper")
def records_need_the_time(keeper: Any) -> None:
    def offer(self: Any, record: Any) -> bool:
        return self._clock.wall_ns() > 10**18 and bool(honest(self, record))

    honest = put(keeper.SpoolKeeper, "offer", offer)
