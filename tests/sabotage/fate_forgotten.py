"""The frame account lets one frame in fifty out of flight without a fate."""

from __future__ import annotations

from itertools import count
from typing import Any

from tests.sabotage.afterimport import after, put

CLAIM = "frames conserved (law 2)"


@after("agent.frames")
def some_fates_are_forgotten(frames: Any) -> None:
    number = count(1)

    def processed(self: Any) -> None:
        if next(number) % 50:
            honest(self)
        else:
            self._ledger.add(in_flight=-1)

    honest = put(frames.FrameAccount, "processed", processed)
