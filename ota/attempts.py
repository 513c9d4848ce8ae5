"""What the starts of a release under trial say about it, once all of its attempts are used up."""

from __future__ import annotations

from collections.abc import Sequence

from ota.machine import Event
from ota.slots import Boot


def verdict(boots: Sequence[Boot]) -> tuple[Event, str]:
    """A start that was seen to end badly is the release's own fault; one that nobody saw the end of was cut off with
    the computer's power, which proves nothing. So one seen end is UNFIT, none at all EXHAUSTED; and why, in words."""
    seen = [boot.ended for boot in boots if boot.ended]
    if not seen:
        return Event.EXHAUSTED, f"the power was cut in each of its {len(boots)} starts"
    cut = len(boots) - len(seen)
    also = f"; the power was cut in {cut} more" if cut else ""
    return Event.UNFIT, f"its starts ended with: {', '.join(seen)}{also}"
