"""The map shows the cells that were told, each once."""

from __future__ import annotations

from simulator.report.evidence import Drive, Waypoint
from simulator.report.routemap import arrivals, route_map


def test_a_vehicle_that_stands_tells_one_arrival() -> None:
    stay = [Waypoint(float(t), 37.0, -122.0) for t in range(50)]
    assert arrivals(stay) == stay[:1]
    assert arrivals([*stay, Waypoint(50.0, 37.1, -122.0), *stay]) == [stay[0], Waypoint(50.0, 37.1, -122.0), stay[0]]


def test_the_map_draws_each_cell_once_with_north_up() -> None:
    route = tuple(Waypoint(float(t), 37.0 + 0.0045 * t, -122.0) for t in (0, 1, 2, 1, 0))
    svg = route_map(Drive(960, 540, route=route, cell_m=500.0))
    assert svg.count('class="cell"') == 3
    assert 'd="M0 0L0 -500.4L0 -1000.8' in svg
