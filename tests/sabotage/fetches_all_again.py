"""A download that goes on begins at its first block."""

from __future__ import annotations

from typing import Any

from tests.sabotage.afterimport import after, put

CLAIM = "download cut at 62 %"


@after("ota.slots")
def no_block_is_there(slots: Any) -> None:
    put(slots.Slots, "has_block", lambda self, slot, entry, index: False)
