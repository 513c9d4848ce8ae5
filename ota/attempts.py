"""What the attempts of a runtime's trial say of the release, once they are used up: `boots` of its boot record.

The launcher notes each attempt before it starts it, and how it ended when it saw that. One without an end was cut with
the launcher itself, by a power cut as a rule, and proves nothing; nor does one that was stopped in order, or whose
slot's bytes were found damaged before it ran. Any other end is the release's own fault.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from ota.machine import Event

PROVES_NOTHING: Final = ("", "stopped", "damaged", "hindered")
MOST_BOOTS: Final = 8


class Boot(msgspec.Struct, frozen=True):
    """One attempt: the boot of the computer it began in, and how it ended ("exit 1", "signal 9", "watchdog")."""

    boot_id: str = ""
    ended: str = ""

    @property
    def is_fault(self) -> bool:
        return self.ended not in PROVES_NOTHING


def verdict(boots: Sequence[Boot]) -> tuple[Event, str]:
    """UNFIT where an attempt ended by the release's own fault, otherwise EXHAUSTED, which denies nothing; in words."""
    faults = [boot.ended for boot in boots if boot.is_fault]
    if faults:
        return Event.UNFIT, f"{len(faults)} of its {len(boots)} attempts ended by themselves: {', '.join(faults)}"
    if any(boot.ended == "damaged" for boot in boots):
        return Event.EXHAUSTED, "its bytes were found damaged before it ran"
    cut = sum(not boot.ended for boot in boots)
    return Event.EXHAUSTED, f"none of its {len(boots)} attempts came to an end of its own; {cut} were cut"
