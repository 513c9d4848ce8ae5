"""The replay digest is the same for every drive."""

from __future__ import annotations

from typing import Any

from tests.sabotage.afterimport import after, put

CLAIM = "replay gives the same digest twice"


@after("agent.digest")
def it_covers_nothing(digest: Any) -> None:
    put(digest.ReplayDigest, "_add", lambda self, part: None)
