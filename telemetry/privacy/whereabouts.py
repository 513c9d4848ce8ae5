"""Whether the vehicle may be told of at an instant: by where it was then, and not at all where nobody knows.

A position holds until the next one, for HOLDS_NS at most. A zone's area is a cell of 250 m at least larger than the
zone, which takes 3 s at 300 km/h: nothing that passes was measured inside a zone itself.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final

from ecu.clock import SECOND_NS
from telemetry.privacy.policy import Zone
from telemetry.privacy.zones import any_holds, areas_of, is_place
from telemetry.signals import vss

HOLDS_NS: Final = 3 * SECOND_NS
MOST_FIXES: Final = 4096
"""Stretches of time in which the answer is the same; what happened before the oldest is hidden."""

_LATITUDE: Final = vss.LATITUDE.casefold()
_LONGITUDE: Final = vss.LONGITUDE.casefold()


class Hidden(StrEnum):
    """Why nothing of an instant may be told."""

    IN_ZONE = "in_zone"
    PLACE_UNKNOWN = "place_unknown"  # there are zones, and nobody said where the vehicle was


class Whereabouts:
    """`hear` signals, or `fix` positions, as they come; then `hides` says what of an instant is hidden, and why."""

    def __init__(self, zones: Iterable[Zone] = ()) -> None:
        self.areas = areas_of(zones)
        self._latitude: tuple[int, float] | None = None
        self._longitude: tuple[int, float] | None = None
        self._newest_ns = 0
        self._fixes: deque[tuple[int, int, Hidden | None]] = deque(maxlen=MOST_FIXES)  # from, until, why hidden

    def hear(self, t_ns: int, signals: Mapping[str, float]) -> None:
        """Takes the vehicle's own latitude and longitude, which may come apart, out of whatever was said."""
        if not self.areas:
            return
        heard = False
        for path, value in signals.items():
            match path.casefold():
                case path if path == _LATITUDE:
                    self._latitude, heard = (t_ns, value), True
                case path if path == _LONGITUDE:
                    self._longitude, heard = (t_ns, value), True
        if heard and self._latitude is not None and self._longitude is not None:
            self._put(t_ns, min(self._latitude[0], self._longitude[0]), self._latitude[1], self._longitude[1])

    def fix(self, t_ns: int, latitude: float, longitude: float) -> None:
        """Where the vehicle was, in degrees, as whoever hears its positions says."""
        if self.areas:
            self._put(t_ns, t_ns, latitude, longitude)

    def hides(self, t_ns: int) -> Hidden | None:
        if not self.areas:
            return None
        at = bisect_right(self._fixes, t_ns, key=lambda fix: fix[0]) - 1
        if at < 0:
            return Hidden.PLACE_UNKNOWN
        _, until_ns, why = self._fixes[at]
        return Hidden.PLACE_UNKNOWN if t_ns > until_ns else why

    def _put(self, t_ns: int, measured_ns: int, latitude: float, longitude: float) -> None:
        if t_ns < self._newest_ns:
            return  # one that runs backwards changes nothing
        self._newest_ns = t_ns
        if not is_place(latitude, longitude):
            why: Hidden | None = Hidden.PLACE_UNKNOWN
        else:
            why = Hidden.IN_ZONE if any_holds(self.areas, latitude, longitude) else None
        begin_ns, until_ns = t_ns, measured_ns + HOLDS_NS
        if self._fixes:
            begun_ns, held_ns, same = self._fixes[-1]
            if same == why and t_ns <= held_ns <= until_ns:  # the stretch goes on
                begin_ns = begun_ns
                self._fixes.pop()
        self._fixes.append((begin_ns, until_ns, why))
