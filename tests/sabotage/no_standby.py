"""No worker stands by, and a new one takes three seconds to come."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.sabotage.afterimport import after, put

CLAIM = "blind after a killed worker"


@after("agent.perception.workers")
def nobody_stands_by(workers: Any) -> None:
    def init(self: Any, *arguments: Any, **named: Any) -> None:
        honest(self, *arguments, **named)
        self._wanted = 1

    honest = put(workers.WorkerPool, "__init__", init)

    class Slow(workers.Restarts):  # type: ignore[misc]
        async def pause(self, was_hung: bool = False) -> None:
            await asyncio.sleep(3.0)

    put(workers, "Restarts", Slow)
