"""From what a condition says at each instant to the instants at which it triggers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ecu.clock import MILLISECOND_NS
from telemetry.capture.campaigns.campaign import Edge
from telemetry.capture.campaigns.streams import LONG_AGO_NS

TRUE: Final = 1
FALSE: Final = 0
MISSING: Final = -1


class Edges:
    """Rising: where it becomes true after it was false, or at first; while it is missing it counts as what it was
    before, so that a signal that stops and comes back triggers nothing. Level: wherever it is true. Both no sooner
    after a trigger than the cooldown; rising edges that fall into it are counted in `cooled`."""

    def __init__(self, edge: Edge, cooldown_ms: int) -> None:
        self.cooled = 0
        self._edge = edge
        self._cooldown_ns = cooldown_ms * MILLISECOND_NS
        self._was_true = False
        self._last_ns = LONG_AGO_NS

    def triggers(self, instants: NDArray[np.int64], states: NDArray[np.int8]) -> Iterator[int]:
        """Boot times, in order. `states` are TRUE, FALSE or MISSING."""
        if self._edge is Edge.LEVEL:
            yield from self._level(instants[states == TRUE])
        else:
            yield from self._rising(instants, states)

    def _rising(self, instants: NDArray[np.int64], states: NDArray[np.int8]) -> Iterator[int]:
        known = states != MISSING
        is_true = (states if known.all() else states[known]) == TRUE
        if not len(is_true):
            return
        was_true, self._was_true = self._was_true, bool(is_true[-1])
        if not is_true.any():
            return
        before = np.empty(len(is_true), np.bool_)
        before[0], before[1:] = was_true, is_true[:-1]
        for t_ns in instants[known][is_true & ~before].tolist():
            if t_ns - self._last_ns >= self._cooldown_ns:
                self._last_ns = t_ns
                yield t_ns
            else:
                self.cooled += 1

    def _level(self, instants: NDArray[np.int64]) -> Iterator[int]:
        row = int(instants.searchsorted(self._last_ns + self._cooldown_ns))
        while row < len(instants):
            t_ns = int(instants[row])
            # One instant triggers once, with no cooldown too.
            row = int(instants.searchsorted(t_ns + max(1, self._cooldown_ns)))
            self._last_ns = t_ns
            yield t_ns
