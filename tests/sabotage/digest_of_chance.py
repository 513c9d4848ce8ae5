"""The replay digest covers how long each frame took."""

from __future__ import annotations

from typing import Any

from tests.sabotage.afterimport import after, put

CLAIM = "replay gives the same digest twice"


@after("agent.digest")
def it_covers_latencies(digest: Any) -> None:
    def seen(self: Any, one: Any) -> None:
        honest(self, one)
        self._add(str(one.spent_ns).encode())

    honest = put(digest.ReplayDigest, "seen", seen)
