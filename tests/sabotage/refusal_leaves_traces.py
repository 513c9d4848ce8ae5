"""A refused offer is named and audited, and its time is taken for the newest all the same."""

from __future__ import annotations

from typing import Any

from tests.sabotage.afterimport import after, put

CLAIM = "forged and stale offers refused by name"


@after("ota.updates")
def refusals_are_remembered(updates: Any) -> None:
    def refused(self: Any, kind: Any, refusal: Any) -> None:
        honest(self, kind, refusal)
        self._floors.raise_metadata({}, self._floors.signed_at_s + 1)

    honest = put(updates.Updates, "_refused", refused)
