"""A frame is lost at the swap: what the live worker looks at then is given up."""

from __future__ import annotations

from typing import Any

from tests.sabotage.afterimport import after, put

CLAIM = "frames lost by the swap"


@after("agent.perception.perception")
def a_frame_is_given_up(perception: Any) -> None:
    def swap_now(self: Any) -> None:
        self._account.received()
        self._account.lost_to_fault()
        honest(self)

    honest = put(perception.Perception, "_swap_now", swap_now)
