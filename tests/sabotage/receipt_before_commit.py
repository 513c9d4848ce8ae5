"""The receiver gives its receipts at once, and commits a second later."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.sabotage.afterimport import after

CLAIM = "every record a witness saw become durable is at the receiver exactly once"


@after("receiver.ingest")
def receipts_come_first(ingest: Any) -> None:
    async def commit(self: Any, batch: list[Any]) -> None:
        arrivals = [arrival for arrival, _ in batch]
        verdicts = [ingest.Verdict(ingest.Outcome.STORED)] * len(batch)
        for (_, answer), verdict in zip(batch, verdicts, strict=True):
            answer.set_result(verdict)
        asyncio.get_running_loop().call_soon(self._tell, arrivals, verdicts)
        asyncio.get_running_loop().call_later(1.0, _commit, self, arrivals)

    def _commit(self: Any, arrivals: list[Any]) -> None:
        late = self._store.transact(ingest.inbox.commit, arrivals, self._clock.wall_ns())
        _running.add(asyncio.ensure_future(late))

    ingest.Ingest._commit = commit


_running: set[asyncio.Future[Any]] = set()
