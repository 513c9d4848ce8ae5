"""When braking is hard enough to tell."""

from __future__ import annotations

from ecu.clock import MILLISECOND_NS
from telemetry.capture.config import CaptureConfig


class BrakeWatch:
    """One onset a hard brake: after one is told, deceleration must fall below the release, and the cooldown pass."""

    def __init__(self, config: CaptureConfig) -> None:
        self._limit_ms2 = config.hard_brake_ms2
        self._release_ms2 = config.hard_brake_release_ms2
        self._cooldown_ns = config.hard_brake_cooldown_ms * MILLISECOND_NS
        self._released = True
        self._told_ns: int | None = None

    def begins_at(self, t_ns: int, deceleration_ms2: float) -> bool:
        """True at the one sample that is to be told. Deceleration is positive while slowing down."""
        if deceleration_ms2 < self._release_ms2:
            self._released = True
        if not self._released or deceleration_ms2 < self._limit_ms2 or self._cools(t_ns):
            return False
        self._released, self._told_ns = False, t_ns
        return True

    def _cools(self, t_ns: int) -> bool:
        return self._told_ns is not None and t_ns - self._told_ns < self._cooldown_ns
