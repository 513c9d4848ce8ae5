"""Nothing that is live on trial is ever found to have proven itself: no release is kept."""

from __future__ import annotations

from typing import Any

from tests.sabotage.afterimport import after, put

CLAIM = "a signed release tried beside the live model"


@after("agent.updates")
def nothing_is_ever_proven(updates: Any) -> None:
    put(updates.UpdateSide, "_proof", lambda self: None)
