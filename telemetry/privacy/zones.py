"""Zones as areas on the Earth, larger than drawn: whoever watches where a vehicle falls silent learns no border.

A circle becomes one around the middle of its own middle's cell, its radius rounded up to whole cells, and one cell
more. However many journeys end at it, what they show is that cell and nothing within it. (Hassan et al., "Analysis of
Privacy Protections in Fitness Tracking Social Networks", USENIX Security 2018, find a home from where tracks enter a
circle around it; a grid that depends on nothing else is what they advise.) A polygon's corners become the middles of
theirs, and it is widened by three cells: two for what the corners may have moved, one more.

All is + - * / and comparisons, so that one position and an array of them get the same answer, bit by bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from telemetry.privacy.grid import METRES_PER_DEGREE, middle_of_cell
from telemetry.privacy.policy import LEAST_ZONE_CELL_M, Zone

_FURTHEST_NORTH: Final = 89.9


@dataclass(frozen=True, slots=True)
class Disc:
    """All within `radius_m` of a point; one degree of longitude is `east_m`, as at its end nearest to a pole."""

    latitude: float
    longitude: float
    radius_m: float
    east_m: float

    def holds(self, latitude: Any, longitude: Any) -> Any:
        north_m = (latitude - self.latitude) * METRES_PER_DEGREE
        east_m = _east(longitude, self.longitude) * self.east_m
        return north_m * north_m + east_m * east_m <= self.radius_m * self.radius_m


@dataclass(frozen=True, slots=True)
class Outline:
    """All inside the corners and within `margin_m` of their edges; corners in metres from (`latitude`, `longitude`)."""

    latitude: float
    longitude: float
    corners: tuple[tuple[float, float], ...]
    margin_m: float
    east_m: float

    def holds(self, latitude: Any, longitude: Any) -> Any:
        north_m = (latitude - self.latitude) * METRES_PER_DEGREE
        east_m = _east(longitude, self.longitude) * self.east_m
        inside = near = north_m != north_m  # false, in the shape of what was asked; NaN is nowhere
        for (x1, y1), (x2, y2) in zip(self.corners, (*self.corners[1:], self.corners[0]), strict=True):
            near = near | self._is_near(east_m - x1, north_m - y1, x2 - x1, y2 - y1)
            if y1 != y2:
                crosses = ((y1 > north_m) != (y2 > north_m)) & (east_m < (x2 - x1) * (north_m - y1) / (y2 - y1) + x1)
                inside = inside != crosses
        return inside | near

    def _is_near(self, x: Any, y: Any, along_x: float, along_y: float) -> Any:
        """Within the margin of the edge that begins at (0, 0), or of its first corner."""
        beside, along = x * along_y - y * along_x, x * along_x + y * along_y
        length2, margin2 = along_x * along_x + along_y * along_y, self.margin_m * self.margin_m
        corner = x * x + y * y <= margin2
        if length2 == 0.0:
            return corner  # two corners in one cell
        return corner | (beside * beside <= margin2 * length2) & (along >= 0.0) & (along <= length2)


Area = Disc | Outline


def areas_of(zones: Iterable[Zone]) -> tuple[Area, ...]:
    return tuple(_outline(zone) if zone.polygon else _disc(zone) for zone in zones)


def is_place(latitude: Any, longitude: Any) -> Any:
    """Whether that can be where a vehicle is. (0, 0) is what receivers say that don't know; NaN is no place."""
    on_earth = (latitude >= -90.0) & (latitude <= 90.0) & (longitude >= -180.0) & (longitude <= 180.0)
    return on_earth & ((latitude != 0.0) | (longitude != 0.0))


def any_holds(areas: Iterable[Area], latitude: Any, longitude: Any) -> Any:
    held = latitude != latitude
    for area in areas:
        held = held | area.holds(latitude, longitude)
    return held


def _disc(zone: Zone) -> Disc:
    assert zone.latitude is not None
    assert zone.longitude is not None
    assert zone.radius_m is not None
    cell_m = _cell_m(zone)
    latitude, longitude = _middle(zone.latitude, zone.longitude, cell_m)
    radius_m = (math.ceil((zone.radius_m + cell_m) / cell_m) + 1) * cell_m
    return Disc(latitude, longitude, radius_m, _east_m(abs(latitude) + radius_m / METRES_PER_DEGREE))


def _outline(zone: Zone) -> Outline:
    cell_m = _cell_m(zone)
    corners = [_middle(latitude, longitude, cell_m) for latitude, longitude in zone.polygon]
    margin_m = 3 * cell_m
    east_m = _east_m(max(abs(latitude) for latitude, _ in corners) + margin_m / METRES_PER_DEGREE)
    origin = corners[0]
    metres = (
        (_east(longitude, origin[1]) * east_m, (latitude - origin[0]) * METRES_PER_DEGREE)
        for latitude, longitude in corners
    )
    return Outline(*origin, tuple(metres), margin_m, east_m)


def _cell_m(zone: Zone) -> float:
    return zone.cell_m or LEAST_ZONE_CELL_M


def _middle(latitude: float, longitude: float, cell_m: float) -> tuple[float, float]:
    middle = middle_of_cell(latitude, longitude, cell_m)
    assert middle is not None
    return middle


def _east_m(latitude: float) -> float:
    """Of one degree; too few metres make an area larger, never smaller."""
    return METRES_PER_DEGREE * math.cos(math.radians(min(_FURTHEST_NORTH, latitude)))


def _east(longitude: Any, origin: float) -> Any:
    return (longitude - origin + 540.0) % 360.0 - 180.0
