"""The car waits for its new model: at the swap frames are left out, none of which is lost to a fault."""

from __future__ import annotations

from typing import Any

from tests.sabotage.afterimport import after, put

CLAIM = "frames lost by the swap"
FRAMES = 8


@after("agent.perception.perception")
def nothing_is_looked_at_for_a_while(perception: Any) -> None:
    left = [0]

    def change_places(self: Any, beside: Any) -> None:
        change(self, beside)
        owner, left[0] = self._events, FRAMES
        while (frame := owner._waiting.take(0, 1 << 62).frame) is not None:
            leave_out(owner, frame)

    def frame_filled(self: Any, frame: Any) -> None:
        if left[0] > 0:
            self._account.received()
            leave_out(self, frame)
        else:
            honest(self, frame)

    def leave_out(self: Any, frame: Any) -> None:
        left[0] -= 1
        self._account.dropped_by_policy()
        self._drop(frame)

    change = put(perception.Models, "_change_places", change_places)
    honest = put(perception.Perception, "frame_filled", frame_filled)
