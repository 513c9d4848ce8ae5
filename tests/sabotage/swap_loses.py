"""A frame is lost at the swap: what the live worker looks at then is given up."""

from __future__ import annotations

from typing import Any

from tests.sabotage.afterimport import after, put

CLAIM = "frames lost by the swap"


@after("agent.perception.models")
def a_frame_is_given_up(models: Any) -> None:
    def change_places(self: Any, beside: Any) -> None:
        self._events._account.received()
        self._events._account.lost_to_fault()
        honest(self, beside)

    honest = put(models.Models, "_change_places", change_places)
