from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetry.privacy.grid import METRES_PER_DEGREE, compass_point, middle_of_cell

latitudes = st.floats(-90, 90)
longitudes = st.floats(-180, 180)
cells_m = st.floats(10, 100_000)


def middle(latitude: float, longitude: float, cell_m: float) -> tuple[float, float]:
    told = middle_of_cell(latitude, longitude, cell_m)
    assert told is not None
    return told


def cell_around(latitude: float, longitude: float, cell_m: float) -> tuple[float, float, float, float]:
    """(south, north, west, east) by bisection: the edges are where the output changes. Independent of the grid's own
    arithmetic."""

    def edge(inside: float, outside: float, same: object, told: object) -> float:
        while abs(outside - inside) > 1e-9:
            between = (inside + outside) / 2
            inside, outside = (between, outside) if told(between) == same else (inside, between)  # type: ignore[operator]
        return inside

    here = middle(latitude, longitude, cell_m)
    height = 3 * cell_m / METRES_PER_DEGREE
    width = min(179.0, height / max(1e-9, math.cos(math.radians(min(89.9, abs(latitude) + height)))))

    def by_latitude(at: float) -> float:
        return middle(at, longitude, cell_m)[0]

    def by_longitude(at: float) -> float:
        return middle(latitude, (at + 180) % 360 - 180, cell_m)[1]

    south, north = (
        edge(latitude, max(-90.0, min(90.0, latitude + side * height)), here[0], by_latitude) for side in (-1, 1)
    )
    west, east = (edge(longitude, longitude + side * width, here[1], by_longitude) for side in (-1, 1))
    return south, north, west, east


@settings(max_examples=300)
@given(st.floats(-80, 80), longitudes, st.floats(50, 20_000))
def test_a_coarse_position_hides_at_least_half_a_cell_in_every_direction(
    latitude: float, longitude: float, cell_m: float
) -> None:
    # Mutations: rounding instead of flooring shifts the cell off its middle; dropping the cosine of the latitude makes
    # cells at 60 degrees half as wide as asked; taking the wide edge of the row makes them a little too narrow.
    told = middle(latitude, longitude, cell_m)
    south, north, west, east = cell_around(latitude, longitude, cell_m)
    slack = 2e-5  # five decimals
    assert north - told[0] >= cell_m / METRES_PER_DEGREE / 2 - slack
    assert told[0] - south >= cell_m / METRES_PER_DEGREE / 2 - slack
    narrow = METRES_PER_DEGREE * math.cos(math.radians(max(abs(south), abs(north))))
    assert east - west >= cell_m / narrow - 2 * slack
    assert (east + west) / 2 == pytest.approx(told[1], abs=slack) or abs(told[1]) > 178


@given(latitudes, longitudes, cells_m, st.floats(-0.499, 0.499), st.floats(-0.499, 0.499))
def test_all_positions_within_one_cell_are_told_as_the_same_place(
    latitude: float, longitude: float, cell_m: float, north: float, east: float
) -> None:
    here = middle(latitude, longitude, cell_m)
    rounding = 1e-5
    height = max(0.0, cell_m / METRES_PER_DEGREE - 2 * rounding)
    poleward = min(90.0, abs(here[0]) + height / 2)
    width = max(0.0, cell_m / METRES_PER_DEGREE / max(1e-12, math.cos(math.radians(poleward))) - 2 * rounding)
    elsewhere = max(-90.0, min(90.0, here[0] + north * height)), here[1] + east * min(width, 300.0)
    if -180 <= elsewhere[1] <= 180 and width < 300:
        assert middle(*elsewhere, cell_m) == here


@given(latitudes, longitudes, cells_m)
def test_telling_a_coarse_position_again_changes_nothing(latitude: float, longitude: float, cell_m: float) -> None:
    here = middle(latitude, longitude, cell_m)
    assert middle(*here, cell_m) == here
    assert abs(here[0] - latitude) * METRES_PER_DEGREE <= cell_m * 0.51 + 2


@given(latitudes, cells_m)
def test_the_antimeridian_is_one_line(latitude: float, cell_m: float) -> None:
    assert middle(latitude, 180.0, cell_m) == middle(latitude, -180.0, cell_m)


@given(st.floats(), st.floats(), cells_m)
def test_what_is_no_position_has_no_cell(latitude: float, longitude: float, cell_m: float) -> None:
    valid = -90 <= latitude <= 90 and -180 <= longitude <= 180
    assert (middle_of_cell(latitude, longitude, cell_m) is not None) == valid


@given(st.floats(-360, 720))
def test_headings_become_one_of_eight(heading: float) -> None:
    assert compass_point(heading) in {0.0, 45.0, 90.0, 135.0, 180.0, 225.0, 270.0, 315.0}
    assert abs((compass_point(heading) - heading + 180) % 360 - 180) <= 22.5
