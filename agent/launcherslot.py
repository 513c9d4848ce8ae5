"""Which slot of the runtime this process runs from: all that rescue mode needs to know of its launcher."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import structlog

from ota.kinds import Kind
from ota.slots import Slot

SLOT_VARIABLE: Final = "OUTRIDER_SLOT"
_CODE: Final = Path(__file__)

log = structlog.get_logger()


def slot_in(environment: Mapping[str, str], updates: Path, code: Path = _CODE) -> Slot | None:
    """Where a launcher started it: the slot that its code lies in, whatever it was told. None where none did.

    A command that looks at no PYTHONPATH (an interpreter with -I or -E, a script that sets its own) runs what was
    shipped for each slot, which must not be kept for the one under trial. `updates` is the folder of all slots.
    """
    name = environment.get(SLOT_VARIABLE, "")
    if name not in set(Slot):
        return None
    slot = _slot_of(code.resolve(), updates.resolve() / Kind.RUNTIME)
    if slot != name:
        log.error("other_slot_runs", told=name, runs=slot.value, code=str(code))
    return slot


def _slot_of(code: Path, slots: Path) -> Slot:
    return next((slot for slot in (Slot.A, Slot.B) if code.is_relative_to(slots / slot / "files")), Slot.FACTORY)
