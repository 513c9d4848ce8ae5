"""Who still looks at a frame: its slot goes back to the camera when the last of them is done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable


class Holds:
    """By slot. `give_back` is called once for each slot that was taken, after its last `drop`."""

    def __init__(self, give_back: Callable[[int], None]) -> None:
        self._give_back = give_back
        self._holders: Counter[int] = Counter()

    def __len__(self) -> int:
        """Frames that somebody looks at."""
        return len(self._holders)

    def take(self, slot: int) -> None:
        self._holders[slot] += 1

    def drop(self, slot: int) -> None:
        assert self._holders[slot] > 0, f"nobody holds slot {slot}"
        self._holders[slot] -= 1
        if not self._holders[slot]:
            del self._holders[slot]
            self._give_back(slot)
