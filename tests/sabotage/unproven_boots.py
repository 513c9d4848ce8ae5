"""A start boots what is under trial, and not what is known to be good."""

from __future__ import annotations

from typing import Any

from tests.sabotage.afterimport import after, put

CLAIM = "agent killed in every state of a trial"


@after("agent.updates")
def the_trial_boots(updates: Any) -> None:
    def live_package(self: Any) -> Any:
        record = self._updates.slots(updates.Kind.MODEL).record
        return self._package_of(record.trial or record.good)

    put(updates.UpdateSide, "live_package", property(live_package))
