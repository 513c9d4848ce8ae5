"""The agent's ledgers leave out the frames that a killed process took with it."""

from __future__ import annotations

from typing import Any

from tests.sabotage.afterimport import after, put

CLAIM = "frames conserved (law 2)"


@after("agent.frames")
def losses_go_uncounted(frames: Any) -> None:
    def settle_loss(self: Any, still_held: int = 0) -> int:
        values = self._ledger.values()
        lost = values["in_flight"] - still_held
        self._ledger.add(in_flight=-lost)
        return int(lost)

    put(frames.FrameAccount, "settle_loss", settle_loss)
