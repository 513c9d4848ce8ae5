"""The receiver gives its receipts at once, and commits two seconds later."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.sabotage.afterimport import after, put

CLAIM = "every record a witness saw become durable is at the receiver exactly once"

_under_way: set[asyncio.Future[Any]] = set()


@after("receiver.ingest")
def receipts_come_first(ingest: Any) -> None:
    async def commit(self: Any, batch: list[Any]) -> None:
        arrivals = [arrival for arrival, _ in batch]
        verdicts = [ingest.Verdict(ingest.Outcome.STORED)] * len(batch)
        for (_, answer), verdict in zip(batch, verdicts, strict=True):
            answer(verdict)
        for vehicle, receipt in ingest.receipts(arrivals, verdicts):
            self._on_receipt(vehicle, receipt)
        asyncio.get_running_loop().call_later(2.0, store, self, arrivals)

    def store(self: Any, arrivals: list[Any]) -> None:
        storing = self._store.transact(ingest.inbox.commit, arrivals, self._clock.wall_ns())
        _under_way.add(asyncio.ensure_future(storing))

    put(ingest.Ingest, "_commit", commit)
