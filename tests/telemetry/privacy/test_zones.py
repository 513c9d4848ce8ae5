"""Zones: nothing measured in one is told, its border can't be found from outside, and who doesn't know hides."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ecu.clock import MILLISECOND_NS, SECOND_NS
from telemetry.privacy import Position, Privacy, PrivacyPolicy, Reason, Zone
from telemetry.privacy.grid import METRES_PER_DEGREE, middle_of_cell
from telemetry.privacy.policy import LEAST_ZONE_CELL_M
from telemetry.privacy.whereabouts import HOLDS_NS, MOST_STRETCHES, Hidden, Whereabouts
from telemetry.privacy.zones import any_holds, areas_of, is_place
from telemetry.records import (
    ClockAnchor,
    Health,
    Lane,
    LastKnownState,
    NewTrack,
    PictureTaken,
    Purpose,
    Record,
    RecordsLeft,
    VehicleSummary,
    record_of,
)
from telemetry.signals import vss

HOME = (48.137, 11.575)
CIRCLE = Zone(latitude=HOME[0], longitude=HOME[1], radius_m=200.0)
FAR = (48.3, 11.575)
FASTEST_MS = 83.0
EVERYTHING = frozenset(Purpose)


def policy(**more: object) -> PrivacyPolicy:
    return PrivacyPolicy.model_validate(
        {"consents": EVERYTHING, "position": Position.EXACT, "zones": (CIRCLE,), **more}
    )  # fmt: skip


zones_drawn = st.builds(
    lambda north, east, radius_m: Zone(
        latitude=HOME[0] + north, longitude=HOME[1] + east, radius_m=radius_m, cell_m=LEAST_ZONE_CELL_M
    ),
    st.floats(-0.02, 0.02),
    st.floats(-0.02, 0.02),
    st.floats(10, 2000),
)


def distance_m(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Along a great circle, by the haversine: independent of what zones reckon with."""
    phi_a, phi_b = math.radians(a[0]), math.radians(b[0])
    half = math.sin((phi_b - phi_a) / 2) ** 2
    half += math.cos(phi_a) * math.cos(phi_b) * math.sin(math.radians(b[1] - a[1]) / 2) ** 2
    return 2 * METRES_PER_DEGREE * math.degrees(math.asin(min(1.0, math.sqrt(half))))


def beside(place: tuple[float, float], north_m: float, east_m: float) -> tuple[float, float]:
    latitude = place[0] + north_m / METRES_PER_DEGREE
    longitude = place[1] + east_m / METRES_PER_DEGREE / math.cos(math.radians(place[0]))
    return latitude, (longitude + 540.0) % 360.0 - 180.0


def hides(zone: Zone, place: tuple[float, float]) -> bool:
    return bool(any_holds(areas_of(policy(zones=(zone,)).zones), *place))


# --- the area -----------------------------------------------------------------------------------------------------

middles = st.tuples(st.floats(-85, 85), st.floats(-180, 180))


@settings(max_examples=300)
@given(middles, st.floats(1, 50_000), st.sampled_from([250.0, 500.0, 5000.0]), st.floats(0, 1), st.floats(0, 6.29))
def test_a_circle_hides_itself_and_a_cell_around_it(
    middle: tuple[float, float], radius_m: float, cell_m: float, part: float, angle: float
) -> None:
    # Mutation: without the rounding up, or the cell that its middle may have moved, an edge is bare.
    zone = Zone(latitude=middle[0], longitude=middle[1], radius_m=radius_m, cell_m=cell_m)
    reach_m = part * (radius_m + cell_m) * 0.999
    place = beside(middle, reach_m * math.cos(angle), reach_m * math.sin(angle))
    if distance_m(middle, place) <= radius_m + cell_m:
        assert hides(zone, place)


@settings(max_examples=200)
@given(st.tuples(st.floats(-60, 60), st.floats(-180, 180)), st.floats(-0.49, 0.49), st.floats(-0.49, 0.49),
       st.floats(250, 2000))  # fmt: skip
def test_zones_whose_middles_share_a_cell_are_one_area_to_whoever_watches(
    middle: tuple[float, float], north: float, east: float, cell_m: float
) -> None:
    """So that no number of journeys into one tells more than the cell."""
    snapped = middle_of_cell(*middle, cell_m)
    assert snapped is not None
    other = beside(snapped, north * cell_m, east * cell_m)
    if middle_of_cell(*other, cell_m) == snapped:
        zones = (Zone(latitude=p[0], longitude=p[1], radius_m=200.0, cell_m=cell_m) for p in (middle, other))
        assert len({areas_of([zone]) for zone in zones}) == 1


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.floats(-4000, 4000), st.floats(-4000, 4000)), min_size=3, max_size=7),
    st.lists(st.floats(0.01, 1), min_size=7, max_size=7),
    middles.filter(lambda place: abs(place[0]) < 80),
)
def test_a_polygon_hides_whatever_lies_between_its_corners(
    corners: list[tuple[float, float]], weights: list[float], middle: tuple[float, float]
) -> None:
    polygon = tuple(beside(middle, *corner) for corner in corners)
    # A point of a triangle of neighbouring corners, each of which lies within or on the edge of a convex one.
    for at in range(len(corners)):
        a, b = corners[at], corners[(at + 1) % len(corners)]
        part = weights[at]
        on_edge = beside(middle, a[0] + part * (b[0] - a[0]), a[1] + part * (b[1] - a[1]))
        assert hides(Zone(polygon=polygon), on_edge)


def test_a_polygon_hides_its_inside_and_what_is_near_and_not_what_is_far() -> None:
    square = [(-3000.0, -3000.0), (-3000.0, 3000.0), (3000.0, 3000.0), (3000.0, -3000.0)]
    hollow = [*square, (0.0, -3000.0), (0.0, -2900.0)]
    for shape in (square, square[::-1], hollow):
        zone = Zone(polygon=tuple(beside(HOME, *corner) for corner in shape), cell_m=250.0)
        assert hides(zone, HOME)
        assert hides(zone, beside(HOME, 3200.0, 0.0))
        assert not hides(zone, beside(HOME, 5000.0, 0.0))
        assert not hides(zone, beside(HOME, 4300.0, 4300.0))


def test_a_zone_over_the_180th_meridian_is_one() -> None:
    zone = Zone(polygon=((60.0, 179.9), (60.0, -179.9), (60.1, -179.9), (60.1, 179.9)))
    assert hides(zone, (60.05, 180.0))
    assert hides(zone, (60.05, -180.0))
    assert not hides(zone, (60.05, 0.0))
    assert hides(Zone(latitude=0.0, longitude=180.0, radius_m=100.0), (0.0, -179.999))


@settings(max_examples=60)
@given(st.lists(middles, min_size=1, max_size=20), st.lists(middles, min_size=1, max_size=3))
def test_one_place_and_an_array_of_them_get_the_same_answer(
    places: list[tuple[float, float]], zones: list[tuple[float, float]]
) -> None:
    corners = ((1.0, 1.0), (1.2, 1.0), (1.1, 1.3))
    drawn = [Zone(latitude=latitude, longitude=longitude, radius_m=40_000) for latitude, longitude in zones]
    areas = areas_of([*drawn, Zone(polygon=corners)])
    asked = [*places, *zones, *corners, (1.1, 1.1), (math.nan, 1.0), (0.0, 0.0)]
    latitudes, longitudes = np.array(asked).T
    for one, all_at_once in ((any_holds(areas, *place), place) for place in asked):
        assert one == any_holds(areas, *(np.array([part]) for part in all_at_once))[0]
    assert any_holds(areas, latitudes, longitudes).tolist() == [any_holds(areas, *place) for place in asked]
    assert is_place(latitudes, longitudes).tolist() == [bool(is_place(*place)) for place in asked]


@pytest.mark.parametrize(
    "wrong",
    [
        {}, {"latitude": 1.0}, {"latitude": 1.0, "longitude": 1.0}, {"latitude": 86.0, "longitude": 1.0, "radius_m": 1},
        {"polygon": [[1, 1], [2, 2]]}, {"polygon": [[1, 1], [2, 2], [1, 9]]}, {"latitude": float("nan"),
        "longitude": 1.0, "radius_m": 1.0}, {"polygon": [[1, 1], [2, 2], [1, 2]], "radius_m": 5.0},
        {"latitude": 1.0, "longitude": 1.0, "radius_m": 1.0, "cell_m": 100.0},
    ],
)  # fmt: skip
def test_what_is_no_zone_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Zone.model_validate(wrong)


def test_a_zone_keeps_the_cell_that_it_was_drawn_with() -> None:
    assert [zone.cell_m for zone in policy(cell_m=1000.0).zones] == [1000.0]
    assert [zone.cell_m for zone in policy(cell_m=10.0).zones] == [LEAST_ZONE_CELL_M]
    again = PrivacyPolicy.model_validate(policy(cell_m=1000.0).model_dump() | {"cell_m": 10.0})
    assert [zone.cell_m for zone in again.zones] == [1000.0]


# --- the vehicle's own place ----------------------------------------------------------------------------------------


def test_a_position_holds_no_longer_than_the_fastest_car_takes_through_the_margin() -> None:
    assert HOLDS_NS / SECOND_NS * FASTEST_MS <= LEAST_ZONE_CELL_M


def test_a_vehicle_that_nobody_has_seen_or_not_for_long_is_hidden() -> None:
    here = Whereabouts((CIRCLE,))
    assert here.hides(0) is Hidden.PLACE_UNKNOWN
    here.fix(10 * SECOND_NS, *FAR)
    assert here.hides(10 * SECOND_NS - 1) is Hidden.PLACE_UNKNOWN
    assert here.hides(10 * SECOND_NS + HOLDS_NS) is None
    assert here.hides(10 * SECOND_NS + HOLDS_NS + 1) is Hidden.PLACE_UNKNOWN
    assert Whereabouts().hides(0) is None


@pytest.mark.parametrize("nowhere", [(0.0, 0.0), (math.nan, 11.0), (48.0, math.inf), (91.0, 0.0)])
def test_a_receiver_that_says_nonsense_doesnt_know(nowhere: tuple[float, float]) -> None:
    here = Whereabouts((CIRCLE,))
    here.fix(0, *FAR)
    here.fix(1, *nowhere)
    assert here.hides(2) is Hidden.PLACE_UNKNOWN


def test_a_latitude_alone_holds_no_longer_than_the_longitude_that_it_came_with() -> None:
    # Mutation: taking the later of both times lets a receiver that only repeats one of them go on for ever.
    here = Whereabouts((CIRCLE,))
    here.hear(0, {vss.LATITUDE.upper(): FAR[0]})
    assert here.hides(0) is Hidden.PLACE_UNKNOWN
    here.hear(SECOND_NS, {vss.LONGITUDE: FAR[1]})
    assert here.hides(HOLDS_NS) is None
    here.hear(HOLDS_NS, {vss.LATITUDE: FAR[0]})
    assert here.hides(SECOND_NS + HOLDS_NS) is None
    assert here.hides(SECOND_NS + HOLDS_NS + 1) is Hidden.PLACE_UNKNOWN


def test_what_was_too_long_ago_to_be_remembered_is_hidden() -> None:
    here = Whereabouts((CIRCLE,))
    for number in range(MOST_STRETCHES + 2):
        here.fix(number, *(HOME if number % 2 else FAR))
    assert here.hides(0) is Hidden.PLACE_UNKNOWN
    assert here.hides(2) is None
    here.fix(0, *HOME)
    assert here.hides(MOST_STRETCHES) is None, "one that runs backwards changes nothing"


def test_where_a_vehicle_was_far_from_any_zone_is_known_for_as_long_as_a_block_may_be() -> None:
    here = Whereabouts((CIRCLE,))
    for tenth in range(10 * 3600 + 1):
        here.fix(tenth * SECOND_NS // 10, *FAR)
    assert here.hides(0) is None
    here.fix(3600 * SECOND_NS - 1, *HOME)
    assert here.hides(3600 * SECOND_NS) is None, "one that runs backwards changes nothing"


@given(st.lists(st.tuples(st.integers(0, 20), st.sampled_from([FAR, HOME, (0.0, 0.0)])), max_size=12))
def test_what_is_remembered_says_of_each_instant_what_the_last_position_before_it_says(
    fixes: list[tuple[int, tuple[float, float]]],
) -> None:
    here, whys = Whereabouts((CIRCLE,)), {FAR: None, HOME: Hidden.IN_ZONE, (0.0, 0.0): Hidden.PLACE_UNKNOWN}
    fixes = sorted(fixes, key=lambda fix: fix[0])
    for at_s, place in fixes:
        here.fix(at_s * SECOND_NS, *place)
    for t_s in range(25):
        before = [(at_s, whys[place]) for at_s, place in fixes if at_s <= t_s]
        fresh = before and (t_s - before[-1][0]) * SECOND_NS <= HOLDS_NS
        assert here.hides(t_s * SECOND_NS) is (before[-1][1] if fresh else Hidden.PLACE_UNKNOWN)


@settings(max_examples=150)
@given(
    st.floats(1.0, FASTEST_MS),
    st.floats(0, 6.29),
    st.floats(-3000, 3000),
    st.integers(100, 20_000),
    st.integers(0, 999),
)
def test_nothing_measured_in_a_zone_is_told_however_fast_and_however_seldom_a_receiver_speaks(
    speed_ms: float, course: float, aside_m: float, every_ms: int, phase_ms: int
) -> None:
    # Mutation: no margin, or a position that holds for 30 s: a fast car is inside before it falls silent.
    zone = CIRCLE.model_copy(update={"cell_m": LEAST_ZONE_CELL_M})
    here = Whereabouts((zone,))

    def at(t_ms: float) -> tuple[float, float]:
        along = (t_ms / 1000 - 40) * speed_ms
        north = along * math.cos(course) - aside_m * math.sin(course)
        return beside(HOME, north, along * math.sin(course) + aside_m * math.cos(course))

    for t_ms in range(phase_ms, 80_000, every_ms):
        here.fix(t_ms * MILLISECOND_NS, *at(t_ms))
    for t_ms in range(0, 80_000, 200):
        if distance_m(at(t_ms), HOME) <= 200.0:
            assert here.hides(t_ms * MILLISECOND_NS) is not None


# --- in the stage -----------------------------------------------------------------------------------------------


def told(privacy: Privacy, record: Record) -> Record | Reason:
    outcome = privacy.apply(record)
    return outcome if isinstance(outcome, Record) else outcome.reason


def test_in_a_zone_and_where_nobody_knows_only_the_runtime_tells_of_itself() -> None:
    privacy, speed = Privacy(policy()), VehicleSummary({vss.SPEED: 50.0})
    track = NewTrack("front", 1, 2, "car", 0.9, (0.0, 0.0, 1.0, 1.0))
    assert told(privacy, record_of(1, speed)) is Reason.PLACE_UNKNOWN
    privacy.hear(0, {vss.LATITUDE: HOME[0], vss.LONGITUDE: HOME[1]})
    for event in (speed, track):
        assert told(privacy, record_of(1, event)) is Reason.IN_ZONE
    assert isinstance(told(privacy, record_of(1, Health("camera_lost", ""))), Record)
    assert isinstance(told(privacy, record_of(1, RecordsLeft(0, b"e" * 16, "erased", [(1, 2)], 0))), Record)
    assert isinstance(told(privacy, record_of(1, ClockAnchor("b", 1, 2, "unproven", 0, {}))), Record)
    assert privacy.forbids(PictureTaken, at_ns=1) is Reason.IN_ZONE
    assert privacy.forbids(PictureTaken) is None
    privacy.hear(SECOND_NS, {vss.LATITUDE: FAR[0], vss.LONGITUDE: FAR[1]})
    for event in (speed, track):
        assert told(privacy, record_of(SECOND_NS, event)) == record_of(SECOND_NS, event)
        assert told(privacy, record_of(SECOND_NS - 1, event)) is Reason.IN_ZONE, "what was before, stays"


def test_no_place_in_a_zone_is_told_from_elsewhere() -> None:
    destination = "Vehicle.Navigation.DestinationSet"
    home = {f"{destination}.Latitude": HOME[0], f"{destination}.Longitude": HOME[1], f"{destination}.Name": 7.0}
    here = {vss.LATITUDE: FAR[0], vss.LONGITUDE: FAR[1], vss.HEADING: 12.5}
    for position in (Position.EXACT, Position.COARSE):
        privacy = Privacy(policy(position=position))
        privacy.hear(0, here)
        outcome = told(privacy, record_of(1, VehicleSummary({**here, **home, vss.SPEED: 3.0})))
        assert isinstance(outcome, Record)
        assert isinstance(outcome.event, VehicleSummary)
        assert outcome.event.signals.keys() == {*here, vss.SPEED}


def test_a_value_that_was_last_known_in_a_zone_stays_there() -> None:
    privacy = Privacy(policy())
    privacy.fix(0, *HOME)
    privacy.fix(SECOND_NS, *FAR)
    state = LastKnownState("c", 1, {"Vehicle.A": (1.0, 200), "Vehicle.B": (1.0, 900)})
    outcome = told(privacy, Record(Lane.P2, Purpose.DRIVING, 1500 * MILLISECOND_NS, state))
    assert isinstance(outcome, Record)
    assert isinstance(outcome.event, LastKnownState)
    assert outcome.event.signals == {"Vehicle.A": (1.0, 200)}


@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 5000), st.sampled_from("hfn")), max_size=40))
def test_stretches_that_are_held_as_one_hide_what_each_fix_would(fixes: list[tuple[int, int, str]]) -> None:
    """Against a plain list of all fixes. Latitude and longitude may be of different ages, and some run backwards."""
    here, plain = Whereabouts([CIRCLE]), list[tuple[int, int, Hidden | None]]()
    places = {"h": (HOME, Hidden.IN_ZONE), "f": (FAR, None), "n": ((0.0, 0.0), Hidden.PLACE_UNKNOWN)}
    at_ms = 0
    for step_ms, age_ms, place in fixes:
        at_ms += step_ms - 500
        (latitude, longitude), why = places[place]
        here._put(at_ms * MILLISECOND_NS, (at_ms - age_ms) * MILLISECOND_NS, latitude, longitude)
        if at_ms >= max([0, *(at for at, _, _ in plain)]):
            plain.append((at_ms, at_ms - age_ms + 3000, why))
    for t_ms in range(-500, at_ms + 6000, 97):
        known = [fix for fix in plain if fix[0] <= t_ms]
        expected = Hidden.PLACE_UNKNOWN if not known or t_ms > known[-1][1] else known[-1][2]
        assert here.hides(t_ms * MILLISECOND_NS) == expected
