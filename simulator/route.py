"""A road on the map: a closed line of our own drawing beside Interstate 280, California."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Final

EARTH_RADIUS_M: Final = 6_371_008.8
"""Mean radius of WGS 84 (IUGG R1)."""


@dataclass(frozen=True, slots=True)
class Place:
    """Degrees, north and east positive; `heading` clockwise from north, 0 <= heading < 360."""

    latitude: float
    longitude: float
    heading: float


Point = tuple[float, float]

HIGHWAY: Final[tuple[Point, ...]] = (
    (37.3302, -122.0607), (37.3349, -122.0741), (37.3421, -122.0872), (37.3489, -122.1004), (37.3581, -122.1129),
    (37.3672, -122.1237), (37.3751, -122.1379), (37.3842, -122.1524), (37.3949, -122.1668), (37.4041, -122.1823),
    (37.4114, -122.1987), (37.4173, -122.2101), (37.4158, -122.2119), (37.4098, -122.2004), (37.4024, -122.1839),
    (37.3931, -122.1684), (37.3825, -122.1541), (37.3733, -122.1394), (37.3655, -122.1253), (37.3565, -122.1146),
    (37.3472, -122.1019), (37.3405, -122.0888), (37.3333, -122.0757), (37.3287, -122.0614),
)  # fmt: skip
"""(latitude, longitude) degrees: out along the highway and back, about 35 km."""


class Route:
    """A closed polyline that is driven round and round. At least two different points, none repeated in a row."""

    def __init__(self, points: Sequence[Point] = HIGHWAY) -> None:
        ring = [*points, points[0]]
        self._legs = [_Leg(start, end) for start, end in pairwise(ring)]
        self._ends_m = list(accumulate(leg.length_m for leg in self._legs))

    @property
    def length_m(self) -> float:
        return self._ends_m[-1]

    def at(self, driven_m: float) -> Place:
        """Where the vehicle is after `driven_m` metres from the first point."""
        round_m = driven_m % self.length_m
        index = min(bisect_right(self._ends_m, round_m), len(self._legs) - 1)
        leg = self._legs[index]
        return leg.at(1.0 - (self._ends_m[index] - round_m) / leg.length_m)


class _Leg:
    """A straight piece, short enough that the Earth is flat along it."""

    def __init__(self, start: Point, end: Point) -> None:
        self._start, self._end = start, end
        north_m = math.radians(end[0] - start[0]) * EARTH_RADIUS_M
        middle = math.radians((start[0] + end[0]) / 2)
        east_m = math.radians(end[1] - start[1]) * EARTH_RADIUS_M * math.cos(middle)
        self.length_m = math.hypot(north_m, east_m)
        self._heading = math.degrees(math.atan2(east_m, north_m)) % 360.0

    def at(self, fraction: float) -> Place:
        latitude, longitude = (a + (b - a) * fraction for a, b in zip(self._start, self._end, strict=True))
        return Place(latitude, longitude, self._heading)
