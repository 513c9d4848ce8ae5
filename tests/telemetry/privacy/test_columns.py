"""Privacy over columns: what the record stage says, row by row, and law 11 whatever a campaign asks for."""

from __future__ import annotations

import fnmatch
import math
import os
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecu.clock import MILLISECOND_NS, SECOND_NS
from telemetry.privacy import Dropped, Position, Privacy, PrivacyPolicy, Reason, strictest
from telemetry.privacy.columns import (
    ColumnPrivacy,
    Fix,
    compass_points,
    middles_of_cells,
    rounded_times,
    to_raw,
)
from telemetry.privacy.grid import compass_point, middle_of_cell
from telemetry.privacy.policy import ROUNDINGS_MS
from telemetry.privacy.stage import PURPOSES_OF_CAMPAIGNS
from telemetry.records import (
    AnyEvent,
    Lane,
    LastKnownState,
    Purpose,
    Record,
    SignalBlock,
    Triggered,
    VehicleSummary,
    record_of,
)
from telemetry.signals import vss
from telemetry.signals.schema import Columns, Form, Group, Schema, SignalSpec, physical
from tests.telemetry.privacy.test_zones import CIRCLE, FAR, HOME, beside, distance_m, zones_drawn

EVERYTHING = frozenset(Purpose)
ALTITUDE = f"{vss.LOCATION}.Altitude"
DESTINATION = "Vehicle.Navigation.DestinationSet"
RAW = 1e-7
"""Degrees a step, as receivers send them (u-blox NAV-PVT)."""


def degrees(path: str) -> SignalSpec:
    return SignalSpec(path, Form.INT, RAW)


SCHEMA = Schema(
    (
        Group("gnss", (degrees(vss.LATITUDE), degrees(vss.LONGITUDE), SignalSpec(vss.HEADING), SignalSpec(ALTITUDE))),
        Group("wheels", (SignalSpec(vss.SPEED, Form.UINT, 0.01), SignalSpec(vss.BRAKE_PEDAL))),
        Group("target", (degrees(f"{DESTINATION}.Latitude"), degrees(f"{DESTINATION}.Longitude"))),
    )
)
APART = Schema((Group("a", (SignalSpec(vss.LATITUDE),)), Group("b", (SignalSpec(vss.LONGITUDE),))))


def policy(**more: object) -> PrivacyPolicy:
    return PrivacyPolicy.model_validate({"consents": EVERYTHING, "position": Position.EXACT, **more})


def columns(schema: Schema, group: int, t_ns: list[int], *values: list[float]) -> Columns:
    raw = (
        to_raw(spec, np.array(column, float), np.empty(0))
        for spec, column in zip(schema.groups[group].signals, values, strict=True)
    )
    return Columns(group, np.array(t_ns, np.int64), tuple(raw))


def rows_of(schema: Schema, batches: list[Columns]) -> dict[tuple[int, str], float]:
    """Every value that is told, by its stamp and path, as it decodes."""
    return {
        (int(t_ns), spec.path): float(value)
        for batch in batches
        for spec, raw in zip(schema.groups[batch.group].signals, batch.values, strict=True)
        if raw is not None
        for t_ns, value in zip(batch.t_ns, physical(spec, raw), strict=True)
    }


# --- arithmetic ------------------------------------------------------------------------------------------------------

places = st.tuples(st.floats(-90, 90), st.floats(-180, 180))


@settings(max_examples=300)
@given(st.lists(places, min_size=1, max_size=30), st.floats(10, 100_000))
def test_an_array_of_positions_has_the_same_cells_as_each_of_them(
    given_places: list[tuple[float, float]], cell_m: float
) -> None:
    positions = np.array(given_places).T
    latitude, longitude = middles_of_cells(positions[0], positions[1], cell_m)
    expected = [middle_of_cell(*place, cell_m) for place in given_places]
    assert list(zip(latitude.tolist(), longitude.tolist(), strict=True)) == expected


@given(st.lists(st.floats(-1e6, 1e6), min_size=1))
def test_an_array_of_headings_has_the_same_points(headings: list[float]) -> None:
    assert compass_points(np.array(headings)).tolist() == [compass_point(heading) for heading in headings]
    assert compass_points(np.array([math.nan, math.inf])).tolist() == [0.0, 0.0]


@given(places, st.floats(50, 5000), st.sampled_from(Form), st.floats(1e-8, 0.5), st.floats(-200, 200))
def test_a_coarse_raw_value_decodes_next_to_the_middle_and_is_one_for_its_cell(
    place: tuple[float, float], cell_m: float, form: Form, scale: float, offset: float
) -> None:
    spec = SignalSpec(vss.LATITUDE, form, scale, offset if form is not Form.UINT else -90.0)
    middle = middle_of_cell(*place, cell_m)
    assert middle is not None
    raw = to_raw(spec, np.array([middle[0]]), np.empty(0))
    assert raw.dtype == form.dtype
    assert abs(float(physical(spec, raw)[0]) - middle[0]) <= scale / 2 * (1 + 1e-6) + 1e-9


def test_a_raw_value_that_no_type_holds_is_the_nearest_that_one_does() -> None:
    spec = SignalSpec(vss.LATITUDE, Form.INT, 1e-30)
    assert to_raw(spec, np.array([1.0]), np.empty(0)).tolist() == [1 << 62]
    assert to_raw(replace(spec, form=Form.UINT), np.array([-1.0]), np.empty(0)).tolist() == [0]


# --- as the record stage ---------------------------------------------------------------------------------------------

globs = st.sampled_from(
    ["Vehicle.Speed", "*.latitude", "vehicle.currentlocation", "Vehicle.Navigation", "*.Heading", "*Pedal*", "*"]
)
policies = st.builds(
    policy,
    deny=st.lists(globs, max_size=2).map(tuple),
    position=st.sampled_from(Position),
    cell_m=st.floats(50, 20_000),
    zones=st.lists(zones_drawn, max_size=2).map(tuple),
    consents=st.frozensets(st.sampled_from(Purpose), min_size=3),
    time_round_ms=st.sampled_from(ROUNDINGS_MS[:6]),
)


class Drive:
    """A minute on a straight road past home: GNSS, wheels, and a destination now and then."""

    def __init__(self, speed_ms: float, course: float, aside_m: float) -> None:
        self.speed_ms, self.course, self.aside_m = speed_ms, course, aside_m
        self.gnss_ms = list(range(500, 60_500, 1500))
        self.wheels_ms = list(range(0, 60_000, 1700))
        self.target_ms = [100, 30_100]

    def at(self, t_ms: float) -> tuple[float, float]:
        along = (t_ms / 1000 - 30) * self.speed_ms
        north = along * math.cos(self.course) - self.aside_m * math.sin(self.course)
        return beside(HOME, north, along * math.sin(self.course) + self.aside_m * math.cos(self.course))

    def batches(self, schema: Schema = SCHEMA) -> list[Columns]:
        def ns(stamps: list[int]) -> list[int]:
            return [t_ms * MILLISECOND_NS for t_ms in stamps]

        here = [self.at(t_ms) for t_ms in self.gnss_ms]
        latitude, longitude = [place[0] for place in here], [place[1] for place in here]
        heading, altitude = [self.course * 57.0] * len(here), [500.0] * len(here)
        wheels, target = len(self.wheels_ms), len(self.target_ms)
        return [
            columns(schema, 0, ns(self.gnss_ms), latitude, longitude, heading, altitude),
            columns(schema, 1, ns(self.wheels_ms), [self.speed_ms * 3.6] * wheels, [0.0] * wheels),
            columns(schema, 2, ns(self.target_ms), [HOME[0], FAR[0]][:target], [HOME[1], FAR[1]][:target]),
        ]


drives = st.builds(Drive, st.floats(1, 80), st.floats(0, 6.28), st.floats(-3000, 3000))


def cut(batches: list[Columns], until_ns: list[int]) -> list[list[Columns]]:
    """The same rows, as they come in one after the other."""
    parts, begin = [], -1
    for end in [*sorted(until_ns), 1 << 62]:
        part = []
        for batch in batches:
            rows = (batch.t_ns > begin) & (batch.t_ns <= end)
            if rows.any():
                values = tuple(None if raw is None else raw[rows] for raw in batch.values)
                part.append(Columns(batch.group, batch.t_ns[rows], values))
        parts.append(part)
        begin = end
    return parts


@settings(max_examples=25, deadline=None)
@given(drives, policies)
def test_what_columns_tell_is_what_the_record_stage_tells_of_the_same_instant(
    drive: Drive, asked: PrivacyPolicy
) -> None:
    told = rows_of(SCHEMA, ColumnPrivacy(SCHEMA, asked).treat(drive.batches()))
    stage = Privacy(asked.model_copy(update={"consents": EVERYTHING, "time_round_ms": 0}))
    whole = rows_of(SCHEMA, drive.batches())
    by_group: dict[tuple[int, int], dict[str, float]] = {}
    for (t_ns, path), value in whole.items():
        group = next(n for n, g in enumerate(SCHEMA.groups) if path in [spec.path for spec in g.signals])
        by_group.setdefault((t_ns, group), {})[path] = value
    for (t_ns, _), signals in sorted(by_group.items()):
        stage.hear(t_ns, signals)
        outcome = stage.apply(record_of(t_ns, VehicleSummary(signals)))
        event = outcome.event if isinstance(outcome, Record) else VehicleSummary({})
        assert isinstance(event, VehicleSummary)
        mine = {path: told[t_ns, path] for path in signals if (t_ns, path) in told}
        assert mine.keys() <= event.signals.keys()
        for path, value in mine.items():
            assert value == pytest.approx(event.signals[path], abs=RAW)
        if not asked.zones:
            assert mine.keys() == event.signals.keys()


@settings(max_examples=25, deadline=None)
@given(drives, policies, st.lists(st.integers(0, 60_000 * MILLISECOND_NS), max_size=5))
def test_however_batches_are_cut_the_same_rows_are_told(drive: Drive, asked: PrivacyPolicy, cuts: list[int]) -> None:
    # Mutation: forgetting positions between batches.
    whole = rows_of(SCHEMA, ColumnPrivacy(SCHEMA, asked).treat(drive.batches()))
    privacy, parts = ColumnPrivacy(SCHEMA, asked), dict[tuple[int, str], float]()
    for part in cut(drive.batches(), cuts):
        parts.update(rows_of(SCHEMA, privacy.treat(part)))
    assert parts == whole


def test_a_latitude_and_a_longitude_that_come_apart_are_joined_for_as_long_as_they_hold() -> None:
    batches = [
        columns(APART, 0, [1 * SECOND_NS, 9 * SECOND_NS], [48.1, 48.1]),
        columns(APART, 1, [2 * SECOND_NS, 10 * SECOND_NS], [11.5, 11.5]),
    ]
    coarse = ColumnPrivacy(APART, policy(position=Position.COARSE))
    told = rows_of(APART, coarse.treat(batches))
    middle = middle_of_cell(48.1, 11.5, 500.0)
    assert middle is not None
    assert told == {(2 * SECOND_NS, vss.LONGITUDE): middle[1], (10 * SECOND_NS, vss.LONGITUDE): middle[1]}
    assert coarse.dropped == {Reason.PLACE_UNKNOWN: 2}
    assert [fix.t_ns for fix in coarse.fixes] == [1 * SECOND_NS, 2 * SECOND_NS, 9 * SECOND_NS, 10 * SECOND_NS]
    assert coarse.fixes[1] == Fix(2 * SECOND_NS, 48.1, 11.5)


def test_without_a_position_and_with_zones_no_row_is_told() -> None:
    wheels = [columns(SCHEMA, 1, [1, 2], [1.0, 2.0], [0.0, 0.0])]
    closed = ColumnPrivacy(SCHEMA, policy(zones=(CIRCLE,)))
    assert closed.treat(wheels) == []
    assert closed.dropped == {Reason.PLACE_UNKNOWN: 2}
    assert len(ColumnPrivacy(SCHEMA, policy()).treat(wheels)) == 1


def here(t_ns: int, place: tuple[float, float] = FAR) -> Columns:
    return columns(SCHEMA, 0, [t_ns], [place[0]], [place[1]], [0.0], [0.0])


def test_rows_of_which_nobody_knows_any_more_where_they_were_are_gone() -> None:
    privacy = ColumnPrivacy(SCHEMA, policy(zones=(CIRCLE,)))
    seconds = [1, 3, 4, 10]
    wheels = columns(SCHEMA, 1, [second * SECOND_NS for second in seconds], [1.0] * 4, [0.0] * 4)
    told = rows_of(SCHEMA, privacy.treat([here(0), wheels]))
    assert sorted(t_ns // SECOND_NS for t_ns, path in told if path == vss.SPEED) == [1, 3]
    assert privacy.dropped == {Reason.PLACE_UNKNOWN: 2}


@pytest.mark.parametrize("position", [Position.EXACT, Position.COARSE])
def test_a_destination_in_a_zone_is_not_told_from_elsewhere(position: Position) -> None:
    privacy = ColumnPrivacy(SCHEMA, policy(zones=(CIRCLE,), position=position))
    targets = columns(SCHEMA, 2, [1, 2], [HOME[0], FAR[0]], [HOME[1], FAR[1]])
    told = rows_of(SCHEMA, privacy.treat([here(0), targets]))
    assert {t_ns for t_ns, path in told if path.startswith(DESTINATION)} == {2}
    assert privacy.dropped == {Reason.IN_ZONE: 1}


def test_a_denied_signal_is_gone_with_its_group_and_no_condition_can_ask_for_it() -> None:
    privacy = ColumnPrivacy(SCHEMA, policy(deny=("vehicle.speed", "*.PedalPosition"), position=Position.DROP))
    assert [batch.group for batch in privacy.treat(Drive(10.0, 1.0, 0.0).batches())] == []
    assert not privacy.may_tell("Vehicle.Speed")
    assert not privacy.may_tell(vss.LATITUDE)
    assert not privacy.may_tell("Vehicle.Unheard")
    assert ColumnPrivacy(SCHEMA, policy()).may_tell("vehicle.SPEED")


def test_stamps_of_rows_are_rounded_only_where_they_are_written() -> None:
    batch = columns(SCHEMA, 1, [1_234_567, 12_345_678], [1.0, 1.0], [0.0, 0.0])
    assert rounded_times([batch], 10)[0].t_ns.tolist() == [0, 10_000_000]
    assert rounded_times([batch], 0)[0].t_ns.tolist() == batch.t_ns.tolist()


# --- law 11 ----------------------------------------------------------------------------------------------------------


def is_denied(path: str, globs: tuple[str, ...]) -> bool:
    parts = path.casefold().split(".")
    branches = [".".join(parts[:n]) for n in range(1, len(parts) + 1)]
    return any(fnmatch.fnmatchcase(branch, glob.casefold()) for glob in globs for branch in branches)


def check_told(local: PrivacyPolicy, cell_m: float, told: dict[tuple[int, str], float], drive: Drive) -> None:
    """By the local floor alone, and by what is true of the drive: independent of how the stage does it."""
    for (t_ns, path), value in told.items():
        assert not is_denied(path, local.deny)
        leaf = path.rpartition(".")[2]
        if path.startswith((vss.LOCATION, DESTINATION)):
            assert local.position is not Position.DROP
            if local.position is Position.COARSE:
                assert leaf in ("Latitude", "Longitude", "Heading")
                assert leaf != "Heading" or value % 45.0 == 0.0
        if leaf == "Latitude" and local.position is not Position.EXACT and (t_ns, f"{path[:-8]}Longitude") in told:
            other = told[t_ns, f"{path[:-8]}Longitude"]
            middle = middle_of_cell(value, other, cell_m)
            assert middle is not None
            assert (value, other) == pytest.approx(middle, abs=RAW)
            if path.startswith(DESTINATION) is False:
                assert distance_m((value, other), drive.at(t_ns / MILLISECOND_NS)) < 2 * cell_m + 1
        for zone in local.zones:
            if zone.radius_m is not None and zone.latitude is not None and zone.longitude is not None:
                here = drive.at(t_ns / MILLISECOND_NS)
                assert distance_m(here, (zone.latitude, zone.longitude)) > zone.radius_m
                if path.startswith(DESTINATION) and local.position is Position.EXACT:
                    target = HOME if t_ns == drive.target_ms[0] * MILLISECOND_NS else FAR
                    assert distance_m(target, (zone.latitude, zone.longitude)) > zone.radius_m


def asked_for(told: dict[tuple[int, str], float], name: str, purpose: Purpose, t_ns: int) -> list[Record]:
    """What a campaign makes of the rows that it is given: everything it can."""
    last = {path: value for (at_ns, path), value in sorted(told.items()) if at_ns <= t_ns}
    known = {path: (value, 100) for path, value in last.items()}
    events: list[AnyEvent] = [
        Triggered(name, 1, 1, f"{next(iter(last), 'it')} rose", last), LastKnownState(name, 1, known),
        SignalBlock(name, 1, b"rows"),
    ]  # fmt: skip
    return [Record(Lane.P1, purpose, t_ns, event) for event in events]


Combine = Callable[[PrivacyPolicy, PrivacyPolicy], PrivacyPolicy]


def law_11(
    local: PrivacyPolicy, asked: PrivacyPolicy, drive: Drive, name: str, purpose: Purpose, combine: Combine = strictest
) -> None:
    both = combine(local, asked)
    privacy = ColumnPrivacy(SCHEMA, both)
    treated = privacy.treat(drive.batches())
    told = rows_of(SCHEMA, treated)
    assert both.cell_m >= local.cell_m
    check_told(local, both.cell_m, told, drive)
    for batch in rounded_times(treated, both.time_round_ms):
        assert not (batch.t_ns % (local.time_round_ms * MILLISECOND_NS or 1)).any()
    stage = Privacy(both, os.urandom)
    for fix in privacy.fixes:
        stage.fix(fix.t_ns, fix.latitude, fix.longitude)
    for record in asked_for(told, name, purpose, 20_300 * MILLISECOND_NS):
        outcome = stage.apply(record)
        if isinstance(outcome, Dropped):
            continue
        assert purpose in local.consents & PURPOSES_OF_CAMPAIGNS
        assert not is_denied(name, local.deny)
        assert outcome.captured_ns % (local.time_round_ms * MILLISECOND_NS or 1) == 0
        for path in getattr(outcome.event, "signals", {}):
            assert not is_denied(path, local.deny)
            assert local.position is not Position.DROP or not path.startswith((vss.LOCATION, DESTINATION))


@settings(max_examples=40, deadline=None)
@given(policies, policies, drives, st.sampled_from(["potholes", "vehicle.speed"]), st.sampled_from(Purpose))
def test_whatever_a_campaign_asks_it_is_never_told_more_than_the_local_floor(
    local: PrivacyPolicy, asked: PrivacyPolicy, drive: Drive, name: str, purpose: Purpose
) -> None:
    law_11(local, asked, drive, name, purpose)


@pytest.mark.soak
@settings(max_examples=3000, deadline=None)
@given(policies, policies, drives, st.sampled_from(["potholes", "vehicle.speed"]), st.sampled_from(Purpose))
def test_no_campaign_of_thousands_is_told_more_than_the_local_floor(
    local: PrivacyPolicy, asked: PrivacyPolicy, drive: Drive, name: str, purpose: Purpose
) -> None:
    law_11(local, asked, drive, name, purpose)


LOOSER: dict[str, Combine] = {
    "the newer policy alone": lambda local, asked: asked,
    "the smaller cell": lambda local, asked: strictest(local, asked).model_copy(
        update={"cell_m": min(local.cell_m, asked.cell_m)}
    ),
    "the finer time": lambda local, asked: strictest(local, asked).model_copy(
        update={"time_round_ms": min(local.time_round_ms, asked.time_round_ms)}
    ),
    "no zones": lambda local, asked: strictest(local, asked).model_copy(update={"zones": asked.zones}),
    "any consent": lambda local, asked: strictest(local, asked).model_copy(
        update={"consents": local.consents | asked.consents}
    ),
}


def breaks_law_11(
    local: PrivacyPolicy, asked: PrivacyPolicy, drive: Drive, name: str, purpose: Purpose, combine: Combine
) -> bool:
    try:
        law_11(local, asked, drive, name, purpose, combine)
    except AssertionError:
        return True
    return False


@pytest.mark.parametrize("how", LOOSER)
def test_each_way_to_be_looser_is_noticed(how: str) -> None:
    local = policy(
        consents={Purpose.SAFETY}, deny=("Vehicle.Speed",), position=Position.COARSE, cell_m=1000.0, zones=(CIRCLE,),
        time_round_ms=1000,
    )  # fmt: skip
    asked = policy(cell_m=100.0)
    everything = [
        (drive, "potholes", purpose)
        for drive in (Drive(20.0, 1.0, 0.0), Drive(80.0, 1.0, 2990.0))
        for purpose in (Purpose.SAFETY, Purpose.DRIVING)
    ]
    for case in everything:
        law_11(local, asked, *case)
    broken = [case for case in everything if breaks_law_11(local, asked, *case, LOOSER[how])]
    assert broken
