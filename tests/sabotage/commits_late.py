"""The spool has one deadline, whatever the lane, and it is late."""

from __future__ import annotations

from typing import Any

from tests.sabotage.afterimport import after, put

CLAIM = "age of what the agent's death took from P2"


@after("telemetry.spool.queue")
def deadlines_are_ignored(queue: Any) -> None:
    def due_ns(self: Any) -> int | None:
        return self.runs[0].offered_ns + 6 * queue.SECOND_NS if self.runs else None

    put(queue.LaneQueue, "due_ns", due_ns)
