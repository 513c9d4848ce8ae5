"""A frame is lost at the swap: what the live worker looks at then is given up."""

from __future__ import annotations

from typing import Any

from tests.sabotage.afterimport import after, put

CLAIM = "frames lost by the swap"


@after("agent.perception.models")
def a_frame_is_given_up(models: Any) -> None:
    def swap_now(self: Any, first_id: int) -> None:
        self._events._account.received()
        self._events._account.lost_to_fault()
        honest(self, first_id)

    honest = put(models.Models, "swap_now", swap_now)
