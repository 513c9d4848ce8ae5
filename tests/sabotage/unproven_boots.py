"""A start boots what is under trial, and not what is known to be good."""

from __future__ import annotations

from typing import Any

from tests.sabotage.afterimport import after, put

CLAIM = "agent killed in every state of a trial"


@after("agent.updates")
def the_trial_boots(updates: Any) -> None:
    def live_package(self: Any) -> Any:
        record = self._updates.slots(updates.Kind.MODEL).record
        # Only at the start: what a candidate is compared to stays what it was.
        has_begun = hasattr(self, "_perception")
        return self._package_of(record.good if has_begun else record.trial or record.good)

    put(updates.UpdateSide, "live_package", property(live_package))
