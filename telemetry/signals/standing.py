"""How long the vehicle has been standing, by its own speed: what can't be known isn't standing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from telemetry.signals import vss
from telemetry.signals.state import STALE_AFTER_NS

STILL_KMH: Final = 0.5
"""A wheel sensor's zero."""


class Standing:
    """`put` takes signals as they come; `for_ns` says how long it has stood, None when it moves or isn't known to."""

    def __init__(self, stale_after_ns: int = STALE_AFTER_NS[vss.SPEED]) -> None:
        self._stale_after_ns = stale_after_ns
        self._since_ns: int | None = None
        self._last_ns: int | None = None

    def put(self, t_ns: int, values: Mapping[str, float]) -> None:
        speed_kmh = values.get(vss.SPEED)
        if speed_kmh is None or (self._last_ns is not None and t_ns < self._last_ns):
            return
        if self._last_ns is not None and t_ns - self._last_ns > self._stale_after_ns:
            self._since_ns = None  # what it did meanwhile nobody knows
        self._last_ns = t_ns
        if not math.isfinite(speed_kmh) or abs(speed_kmh) > STILL_KMH:
            self._since_ns = None
        elif self._since_ns is None:
            self._since_ns = t_ns

    def for_ns(self, now_ns: int) -> int | None:
        if self._since_ns is None or self._last_ns is None or now_ns - self._last_ns > self._stale_after_ns:
            return None
        return max(0, now_ns - self._since_ns)
