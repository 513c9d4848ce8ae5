"""Nothing that is live on trial is ever found to have proven itself: no release is kept."""

from __future__ import annotations

from typing import Any

from tests.sabotage.afterimport import after, put

CLAIM = "a signed release tried beside the live model"


@after("agent.updates.beside")
def nothing_is_ever_proven(beside: Any) -> None:
    put(beside.Beside, "seen", lambda self, ground, state: None)
