"""The spool takes one record in a hundred without counting that it was offered."""

from __future__ import annotations

from itertools import count
from typing import Any

from tests.sabotage.afterimport import after, put

CLAIM = "records conserved (law 1)"


@after("telemetry.spool.spool")
def some_offers_go_uncounted(spool: Any) -> None:
    number = count(1)

    def counted(self: Any, lane: Any, **deltas: int) -> None:
        if "offered" in deltas and next(number) % 100 == 0:
            del deltas["offered"]
        honest(self, lane, **deltas)

    honest = put(spool.Spool, "_count", counted)
