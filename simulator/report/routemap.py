"""The route as the cloud knows it: the cells in which the vehicle said to be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from simulator.report.evidence import Drive, Point, Waypoint
from simulator.report.markup import Markup, element, number

METRES_PER_DEGREE: Final = math.radians(6_371_008.8)


def route_map(drive: Drive) -> Markup:
    """The cells in which the vehicle said to be, and the way through them; north is up."""
    cells = cells_m(arrivals(drive.route))
    side = drive.cell_m or 100.0
    xs, ys = [x for x, _ in cells], [y for _, y in cells]
    margin = 0.55 * side
    left, top = min(xs) - margin, min(ys) - margin
    drawn = [
        [
            element("rect", x=x - side / 2, y=y - side / 2, width=side, height=side, class_="cell")
            for x, y in sorted(set(cells))
        ],
        element("path", d="M" + "L".join(f"{number(x)} {number(y)}" for x, y in cells), class_="way"),
        element("circle", cx=cells[0][0], cy=cells[0][1], r=side * 0.11, class_="here", id="here"),
    ]
    label = f"Route through {len(set(cells))} cells of {side:,.0f} metres, north up"
    view = " ".join(number(edge) for edge in (left, top, max(xs) + margin - left, max(ys) + margin - top))
    return element("svg", drawn, viewBox=view, class_="map", role="img", aria_label=label)


def arrivals(route: Sequence[Waypoint]) -> list[Waypoint]:
    """The first waypoint of each stay in a cell."""
    return [
        place
        for i, place in enumerate(route)
        if i == 0 or (place.latitude, place.longitude) != (route[i - 1].latitude, route[i - 1].longitude)
    ]


def cells_m(route: Sequence[Waypoint]) -> list[Point]:
    """Metres east and south of the first waypoint."""
    if not route:
        return []
    north, east = route[0].latitude, route[0].longitude
    shrink = math.cos(math.radians(north))  # of a degree of longitude
    return [
        (
            round((place.longitude - east) * METRES_PER_DEGREE * shrink, 1),
            round((north - place.latitude) * METRES_PER_DEGREE, 1),
        )
        for place in route
    ]
