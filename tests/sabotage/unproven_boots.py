"""A start boots what is under trial, and not what is known to be good."""

from __future__ import annotations

from typing import Any

from tests.sabotage.afterimport import after, put

CLAIM = "agent killed in every state of a trial"


@after("agent.updates.side")
def the_trial_boots(side: Any) -> None:
    def live_package(self: Any, kind: Any) -> Any:
        slots = self._updates.slots(kind)
        # Only at the start: what a candidate is compared to stays what it was.
        has_begun = hasattr(self, "_tasks")
        slot = slots.record.good if has_begun else slots.record.trial or slots.record.good
        return self._factory[kind] if slot is side.Slot.FACTORY else self._folder / slots.path(slot)

    put(side.UpdateSide, "live_package", live_package)
