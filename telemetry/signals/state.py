"""The last known value of each signal, how old it is, and whether it may still be believed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final

from ecu.clock import MILLISECOND_NS, SECOND_NS
from telemetry.signals import vss

STALE_AFTER_NS: Final[Mapping[str, int]] = MappingProxyType(
    {
        vss.SPEED: 500 * MILLISECOND_NS,
        vss.BRAKE_PEDAL: 500 * MILLISECOND_NS,
        vss.LONGITUDINAL: 250 * MILLISECOND_NS,
        vss.LATITUDE: 2 * SECOND_NS,
        vss.LONGITUDE: 2 * SECOND_NS,
        vss.HEADING: 2 * SECOND_NS,
    }
)
"""An acceleration of a quarter of a second ago says nothing about now; a GNSS receiver speaks once a second."""

STALE_AFTER_DEFAULT_NS: Final = SECOND_NS
MAX_SIGNALS: Final = 512


class Validity(Enum):
    """Whether a signal's last value may be believed now."""

    FRESH = "fresh"
    STALE = "stale"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Reading:
    """A signal's last value and the boot time it was true at."""

    value: float
    t_ns: int


class SignalState:
    """Last values by VSS path. Holds at most `max_signals` paths; values for further ones are counted in `ignored`.

    A value that isn't finite means that the vehicle doesn't know: the signal is then missing, whatever was before.
    A value older than the one already held changes nothing.
    """

    def __init__(self, stale_after_ns: Mapping[str, int] = STALE_AFTER_NS, max_signals: int = MAX_SIGNALS) -> None:
        self.ignored = 0
        self._stale_after_ns = stale_after_ns
        self._max_signals = max_signals
        self._readings: dict[str, Reading] = {}

    def put(self, t_ns: int, values: Mapping[str, float]) -> None:
        for path, value in values.items():
            self._put_one(path, Reading(value, t_ns))

    def _put_one(self, path: str, reading: Reading) -> None:
        held = self._readings.get(path)
        if held is None and len(self._readings) >= self._max_signals:
            self.ignored += 1
        elif held is None or held.t_ns <= reading.t_ns:
            self._readings[path] = reading

    def reading(self, path: str) -> Reading | None:
        """The last value however old; None when there never was one, or the vehicle said it doesn't know."""
        held = self._readings.get(path)
        return held if held is not None and math.isfinite(held.value) else None

    def age_ns(self, path: str, now_ns: int) -> int | None:
        reading = self.reading(path)
        return None if reading is None else max(0, now_ns - reading.t_ns)

    def validity(self, path: str, now_ns: int) -> Validity:
        age_ns = self.age_ns(path, now_ns)
        if age_ns is None:
            return Validity.MISSING
        limit_ns = self._stale_after_ns.get(path, STALE_AFTER_DEFAULT_NS)
        return Validity.FRESH if age_ns <= limit_ns else Validity.STALE

    def value(self, path: str, now_ns: int) -> float | None:
        """The value when it may be believed, else None."""
        fresh = self.validity(path, now_ns) is Validity.FRESH
        return self._readings[path].value if fresh else None

    def fresh(self, now_ns: int) -> dict[str, float]:
        """All values that may be believed now, by path in alphabetical order."""
        values = ((path, self.value(path, now_ns)) for path in sorted(self._readings))
        return {path: value for path, value in values if value is not None}
