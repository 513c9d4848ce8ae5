"""Which slot the launcher started this process from: all that rescue mode needs to know of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ota.slots import Slot

SLOT_VARIABLE: Final = "OUTRIDER_SLOT"


def slot_in(environment: Mapping[str, str]) -> Slot | None:
    """None where no launcher did."""
    name = environment.get(SLOT_VARIABLE, "")
    return Slot(name) if name in set(Slot) else None
