"""The replay digest covers how long each frame took."""

from __future__ import annotations

from typing import Any

from tests.sabotage.afterimport import after

CLAIM = "replay gives the same digest twice"


@after("agent.digest")
def it_covers_latencies(digest: Any) -> None:
    honest = digest.ReplayDigest.seen

    def seen(self: Any, one: Any) -> None:
        honest(self, one)
        self._add(str(one.spent_ns).encode())

    digest.ReplayDigest.seen = seen
