"""The privacy stage as laws (5 and 11), looked at in the bytes that would be written."""

from __future__ import annotations

import tomllib
import typing
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from telemetry.federated.update import ModelUpdate
from telemetry.privacy import Dropped, Position, Privacy, PrivacyPolicy, Reason, Zone, strictest
from telemetry.privacy.policy import ROUNDINGS_MS
from telemetry.privacy.stage import OF_CAMPAIGNS, PURPOSES_OF_CAMPAIGNS
from telemetry.records import (
    PLACES,
    AnyEvent,
    ClockAnchor,
    Event,
    HardBrake,
    Health,
    Lane,
    LastKnownState,
    Learned,
    LowConfidence,
    NewTrack,
    PerceptionSummary,
    PictureTaken,
    Purpose,
    Record,
    RecordsLeft,
    SignalBlock,
    Triggered,
    UpdateReport,
    VehicleSummary,
    decode_event,
    encode_event,
    kind_of,
    record_of,
    tag_of,
)
from telemetry.signals import vss

EVERYTHING = frozenset(Purpose)
PATHS = (
    vss.SPEED, vss.BRAKE_PEDAL, vss.LONGITUDINAL, vss.LATITUDE, vss.LONGITUDE, vss.HEADING,
    "Vehicle.CurrentLocation.Altitude", "vehicle.currentlocation.latitude", "Vehicle.CurrentLocation.GNSSReceiver.X",
    "Vehicle.Navigation.DestinationSet.Latitude", "Vehicle.Navigation.DestinationSet.Longitude",
)  # fmt: skip
KINDS = tuple(tag_of(kind) for kind in typing.get_args(AnyEvent))

numbers = st.floats(-90, 90)
signals = st.dictionaries(st.sampled_from(PATHS), numbers)
text = st.text(max_size=8)
events = st.one_of(
    st.builds(VehicleSummary, signals),
    st.builds(HardBrake, numbers, st.none() | numbers, signals),
    st.builds(NewTrack, text, st.integers(0, 99), st.integers(0, 99), text, numbers, st.just((0.0, 0.0, 1.0, 1.0))),
    st.builds(LowConfidence, text, st.integers(0, 99), st.integers(0, 99), text, numbers),
    st.builds(
        PerceptionSummary,
        text,
        st.integers(0, 99),
        st.integers(0, 9),
        st.integers(0, 9),
        st.just({"car": 1}),
        numbers,
    ),
    st.builds(Health, text, text),
    st.builds(UpdateReport, text, text, text, text, text, text),
    st.builds(PictureTaken, text, st.integers(0, 99), text, *[st.integers(0, 99)] * 4, text),
)
campaigns = st.sampled_from(["potholes", "warm-brakes"])
known = st.dictionaries(st.sampled_from(PATHS), st.tuples(numbers, st.integers(0, 5000)))
asked = st.one_of(
    st.builds(SignalBlock, campaigns, st.integers(1, 9), st.binary(max_size=4)),
    st.builds(
        Triggered, campaigns, st.integers(1, 9), st.integers(1, 99), st.sampled_from(["shaken", *PATHS]), signals
    ),
    st.builds(LastKnownState, campaigns, st.integers(1, 9), known),
)
instants = st.integers(0, 10**15)
records = st.one_of(
    st.builds(record_of, instants, events),
    st.builds(Record, st.sampled_from(Lane), st.sampled_from(sorted(PURPOSES_OF_CAMPAIGNS)), instants, asked),
)
globs = st.sampled_from(
    [
        *PATHS,
        *KINDS,
        "potholes",
        "warm-*",
        "Vehicle.*",
        "*.Latitude",
        "vehicle.CURRENTlocation",
        "new_*",
        "*.Speed",
        "[",
        "*",
    ]
)
policies = st.builds(
    PrivacyPolicy,
    consents=st.frozensets(st.sampled_from(Purpose)),
    deny=st.lists(globs, max_size=3).map(tuple),
    position=st.sampled_from(Position),
    cell_m=st.floats(10, 100_000),
)
zones = st.builds(
    Zone, latitude=st.floats(-85, 85), longitude=st.floats(-180, 180), radius_m=st.floats(1, 50_000)
)  # fmt: skip
any_policies = st.builds(
    lambda policy, zones, time_round_ms, hours: PrivacyPolicy(
        **policy.model_dump() | {"zones": zones, "time_round_ms": time_round_ms, "pseudonym_rotate_h": hours}
    ),
    policies,
    st.lists(zones, max_size=2),
    st.sampled_from(ROUNDINGS_MS),
    st.sampled_from([0.0, 0.5, 24.0]),
)


def written(policy: PrivacyPolicy, record: Record) -> dict[str, Any] | None:
    """What anyone could read in the bytes that leave the stage; None when nothing does."""
    outcome = Privacy(policy).apply(record)
    if isinstance(outcome, Dropped):
        return None
    plain: dict[str, Any] = msgspec.msgpack.decode(encode_event(outcome.event))
    return plain


def paths_in(plain: Mapping[str, Any]) -> dict[str, float]:
    """Every value in the bytes by the VSS path that it is a value of."""
    told = dict(plain.get("signals", {}))
    if plain["kind"] == "hard_brake":
        told[vss.LONGITUDINAL] = -plain["deceleration_ms2"]
        if plain["speed_kmh"] is not None:
            told[vss.SPEED] = plain["speed_kmh"]
    return told


@given(records, policies, st.sampled_from(PATHS))
def test_no_denied_path_and_no_branch_below_it_is_in_the_bytes(
    record: Record, policy: PrivacyPolicy, path: str
) -> None:
    # Mutations: leaving speed_kmh alone; matching with case; matching whole paths only, so that a branch lets through.
    for glob in (path, path.upper(), path.rpartition(".")[0], f"{path[:-3]}*"):
        asked = policy.model_copy(update={"deny": (*policy.deny, glob), "consents": EVERYTHING})
        plain = written(asked, record)
        if plain is not None:
            assert path.casefold() not in {told.casefold() for told in paths_in(plain)}
            if path in PATHS[:6]:
                assert path.encode() not in encode_event(typing.cast(AnyEvent, msgspec.convert(plain, AnyEvent)))


@given(records, policies)
def test_no_denied_kind_and_nothing_without_consent_passes(record: Record, policy: PrivacyPolicy) -> None:
    kind = kind_of(record.event)
    assert written(policy.model_copy(update={"deny": (kind.upper(),)}), record) is None
    without = policy.model_copy(update={"consents": policy.consents - {record.purpose}})
    assert Privacy(without).apply(record) == Dropped(Reason.NO_CONSENT)


@given(records)
def test_out_of_the_box_only_the_runtimes_own_health_is_told(record: Record) -> None:
    passes = not isinstance(Privacy().apply(record), Dropped)
    assert passes == isinstance(record.event, Health | UpdateReport)


@given(records)
def test_who_allows_everything_loses_nothing(record: Record) -> None:
    policy = PrivacyPolicy(consents=EVERYTHING, position=Position.EXACT)
    assume(not isinstance(record.event, VehicleSummary | LastKnownState) or record.event.signals)
    assert Privacy(policy).apply(record) == record


@given(records, policies)
def test_unless_exact_no_position_leaves_as_it_came(record: Record, policy: PrivacyPolicy) -> None:
    policy = policy.model_copy(update={"consents": EVERYTHING, "deny": (), "position": Position.DROP})
    dropped = written(policy, record)
    coarse = written(policy.model_copy(update={"position": Position.COARSE}), record)
    private = ("latitude", "longitude", "heading", "altitude", ".x")
    if dropped is not None:
        assert not [path for path in dropped.get("signals", {}) if path.casefold().endswith(private)]
    if coarse is not None:
        told = coarse.get("signals", {})
        assert not [path for path in told if path.casefold().endswith(("altitude", ".x"))]
        for path in told:
            if path.casefold().endswith("latitude"):
                place = path.casefold().rpartition(".")[0]
                assert f"{place}.longitude" in {other.casefold() for other in told}


@pytest.mark.parametrize("position", [Position.DROP, Position.COARSE])
def test_a_signal_that_has_the_name_of_a_place_itself_is_told_only_exactly(position: Position) -> None:
    destination = "Vehicle.Navigation.DestinationSet"
    told = VehicleSummary({
        vss.SPEED: 1.0, vss.LOCATION: 48.1, destination.upper(): 11.5,
        f"{destination}.Latitude": 48.1, f"{destination}.Longitude": 11.5,
    })  # fmt: skip
    policy = PrivacyPolicy(consents=EVERYTHING, position=position)
    plain = written(policy, record_of(1, told))
    assert plain is not None
    coarse = {f"{destination}.Latitude", f"{destination}.Longitude"} if position is Position.COARSE else set()
    assert plain["signals"].keys() == {vss.SPEED, *coarse}
    exactly = written(policy.model_copy(update={"position": Position.EXACT}), record_of(1, told))
    assert exactly is not None
    assert exactly["signals"] == told.signals


@given(signals, st.floats(-89, 89), st.floats(-179, 179), st.floats(-1e-4, 1e-4), st.floats(0, 360), st.integers(1, 4))
def test_positions_of_one_cell_give_the_same_bytes(
    others: dict[str, float], latitude: float, longitude: float, nudge: float, heading: float, scale: int
) -> None:
    privacy = Privacy(PrivacyPolicy(consents=EVERYTHING, cell_m=500.0 * scale))
    rest = {path: value for path, value in others.items() if "ocation" not in path}

    def told(latitude: float, longitude: float) -> Mapping[str, float]:
        here = {vss.LATITUDE: latitude, vss.LONGITUDE: longitude, vss.HEADING: heading}
        outcome = privacy.apply(record_of(1, VehicleSummary({**rest, **here})))
        assert isinstance(outcome, Record)
        assert isinstance(outcome.event, VehicleSummary)
        return outcome.event.signals

    middle = told(latitude, longitude)
    again = told(middle[vss.LATITUDE] + nudge, middle[vss.LONGITUDE] + nudge)
    assert encode_event(VehicleSummary(dict(again))) == encode_event(VehicleSummary(dict(middle)))


@given(any_policies, any_policies, any_policies)
def test_the_strictest_of_policies_is_one_whatever_the_order(
    a: PrivacyPolicy, b: PrivacyPolicy, c: PrivacyPolicy
) -> None:
    assert strictest(a, b) == strictest(b, a)
    assert strictest(strictest(a, b), c) == strictest(a, strictest(b, c))
    assert strictest(strictest(a, a), a) == strictest(a, a)


@given(records, policies, policies)
def test_no_campaign_ever_loosens_the_local_floor(record: Record, local: PrivacyPolicy, asked: PrivacyPolicy) -> None:
    # Mutation: union of consents, the newer of two deny-lists, the smaller cell: each is caught here or below.
    both = strictest(local, asked)
    alone, together = written(local, record), written(both, record)
    if together is not None:
        assert alone is not None
        assert paths_in(together).keys() <= paths_in(alone).keys()
    assert both.cell_m >= local.cell_m
    assert list(Position).index(both.position) <= list(Position).index(local.position)


def test_an_event_that_this_version_has_no_rule_for_is_dropped() -> None:
    class Novelty(Event, frozen=True, tag="novelty"):
        secret: str

    class Harder(HardBrake, frozen=True, tag="harder"):
        secret: str = "where I live"

    policy = PrivacyPolicy(consents=EVERYTHING, position=Position.EXACT)
    for event in (Novelty("x"), Harder(1.0, 1.0, {})):
        record = Record(Lane.P0, Purpose.SAFETY, 1, typing.cast(AnyEvent, event))
        assert Privacy(policy).apply(record) == Dropped(Reason.UNKNOWN_KIND)


def test_every_kind_of_this_version_has_a_place_and_a_rule() -> None:
    kinds = set(typing.get_args(AnyEvent))
    assert set(PLACES) == kinds - set(OF_CAMPAIGNS)
    examples = {type(event) for event in _EXAMPLES}
    assert examples == kinds
    policy = PrivacyPolicy(consents=EVERYTHING, position=Position.EXACT)
    for event in _EXAMPLES:
        record = Record(Lane.P2, Purpose.DRIVING, 1, event) if type(event) in OF_CAMPAIGNS else record_of(1, event)
        assert Privacy(policy).apply(record) == record


_EXAMPLES: tuple[AnyEvent, ...] = (
    ClockAnchor("b", 1, 2, "unproven", 0, {}),
    RecordsLeft(0, b"e" * 16, "erased", [(1, 2)], 0),
    VehicleSummary({vss.SPEED: 1.0}),
    PerceptionSummary("c", 1, 1, 1, {"car": 1}, 0.5),
    NewTrack("c", 1, 1, "car", 0.5, (0.0, 0.0, 1.0, 1.0)),
    LowConfidence("c", 1, 1, "car", 0.4),
    HardBrake(5.0, 50.0, {}),
    Health("worker_replaced", "hung"),
    UpdateReport("committed", "model", "drive-detect@2.1", "ab" * 32, "", "it proved itself"),
    PictureTaken("c", 1, "ab" * 32, 50_000, 1280, 720, 2, "hard_brake"),
    Learned(ModelUpdate("lights", "a" * 64, "b" * 64, "c" * 64, 1, b"change", b"signed")),
    SignalBlock("potholes", 1, b"columns"),
    Triggered("potholes", 1, 7, "it shook", {vss.SPEED: 1.0}),
    LastKnownState("potholes", 1, {vss.SPEED: (1.0, 20)}),
)


@given(records, policies)
def test_a_kind_that_is_forbidden_has_no_record_that_passes(record: Record, policy: PrivacyPolicy) -> None:
    privacy = Privacy(policy)
    why = privacy.forbids(type(record.event), record.purpose)
    outcome = privacy.apply(record)
    # What may be told can still have nothing left to tell, and a campaign may be denied by its name.
    expected = {Dropped(why)} if why is not None else {Dropped(Reason.NOTHING_LEFT), Dropped(Reason.DENIED)}
    assert (isinstance(outcome, Record) and why is None) or outcome in expected
    assert privacy.passed + privacy.dropped.total() == 1, "asking before counts nothing"


@given(records, st.sampled_from(Purpose))
def test_no_record_passes_under_another_purpose_than_its_kinds(record: Record, purpose: Purpose) -> None:
    assume(purpose is not record.purpose and type(record.event) not in OF_CAMPAIGNS)
    outcome = Privacy(PrivacyPolicy(consents=EVERYTHING)).apply(replace(record, purpose=purpose))
    assert outcome == Dropped(Reason.WRONG_PURPOSE)


@pytest.mark.parametrize("event", [event for event in _EXAMPLES if type(event) in OF_CAMPAIGNS], ids=kind_of)
def test_a_campaign_that_is_denied_by_its_name_tells_nothing(event: AnyEvent) -> None:
    privacy = Privacy(PrivacyPolicy(consents=EVERYTHING, position=Position.EXACT, deny=("POT*",)))
    assert privacy.apply(Record(Lane.P2, Purpose.DRIVING, 1, event)) == Dropped(Reason.DENIED)


def test_a_triggers_words_name_nothing_that_its_signals_may_not() -> None:
    def why(words: str, **asked: object) -> str:
        policy = PrivacyPolicy.model_validate({"consents": EVERYTHING, **asked})
        outcome = Privacy(policy).apply(Record(Lane.P1, Purpose.DRIVING, 1, Triggered("c", 1, 1, words, {})))
        assert isinstance(outcome, Record)
        assert isinstance(outcome.event, Triggered)
        return outcome.event.why

    for words in ("Vehicle.Speed stuck at 50", "residual of (vehicle.speed-3)"):
        assert why(words) == words
        assert why(words, deny=("Vehicle.Speed",)) == ""
    where = "Vehicle.CurrentLocation.Latitude is 48.13743"
    assert why(where) == ""
    assert why(where, position="exact") == where


@given(asked, st.sampled_from([Purpose.OPERATION, Purpose.LEARNING]))
def test_no_campaign_passes_under_a_purpose_that_everybody_consents_to(event: AnyEvent, purpose: Purpose) -> None:
    policy = PrivacyPolicy(consents=EVERYTHING, position=Position.EXACT)
    assert Privacy(policy).apply(Record(Lane.P2, purpose, 1, event)) == Dropped(Reason.WRONG_PURPOSE)


def test_a_campaign_of_which_nobody_says_what_it_is_for_is_forbidden() -> None:
    assert Privacy(PrivacyPolicy(consents=EVERYTHING)).forbids(SignalBlock) is Reason.NO_CONSENT


@given(st.lists(records, max_size=20), policies)
def test_every_record_is_counted_once_under_its_fate(records: list[Record], policy: PrivacyPolicy) -> None:
    privacy = Privacy(policy)
    outcomes = [privacy.apply(record) for record in records]
    assert privacy.passed + privacy.dropped.total() == len(records)
    for reason in Reason:
        assert privacy.dropped[reason] == sum(outcome == Dropped(reason) for outcome in outcomes)


@given(records, policies)
def test_what_passes_is_still_an_event_of_its_kind_in_its_place(record: Record, policy: PrivacyPolicy) -> None:
    outcome = Privacy(policy).apply(record)
    if isinstance(outcome, Record):
        assert type(decode_event(encode_event(outcome.event))) is type(record.event)
        assert (outcome.lane, outcome.purpose, outcome.captured_ns) == (record.lane, record.purpose, record.captured_ns)


def test_a_denied_speed_is_withheld_under_its_other_name_too() -> None:
    privacy = Privacy(PrivacyPolicy(consents=EVERYTHING, deny=("Vehicle.Speed",)))
    assert privacy.apply(record_of(1, HardBrake(5.0, 87.0, {}))) == record_of(1, HardBrake(5.0, None, {}))


def test_an_event_whose_substance_is_denied_is_dropped_not_emptied() -> None:
    privacy = Privacy(PrivacyPolicy(consents=EVERYTHING, deny=("Vehicle.Acceleration", "vehicle.speed")))
    assert privacy.apply(record_of(1, HardBrake(5.0, 1.0, {}))) == Dropped(Reason.NOTHING_LEFT)
    assert privacy.apply(record_of(1, VehicleSummary({vss.SPEED: 1.0}))) == Dropped(Reason.NOTHING_LEFT)
    assert privacy.apply(record_of(1, VehicleSummary({}))) == Dropped(Reason.NOTHING_LEFT)


def test_a_policy_is_read_from_toml_by_names_and_is_closed() -> None:
    policy = PrivacyPolicy.model_validate(
        tomllib.loads('consents = ["safety", "driving"]\ndeny = ["Vehicle.Cabin"]\nposition = "drop"\ncell_m = 1000')
    )
    assert policy.consents == {Purpose.SAFETY, Purpose.DRIVING}
    assert policy.position is Position.DROP
    wrongs: list[dict[str, object]] = [
        {"consent": []}, {"consents": ["spying"]}, {"cell_m": 1}, {"cell_m": float("nan")}, {"deny": [""]}
    ]  # fmt: skip
    for wrong in wrongs:
        with pytest.raises(ValidationError):
            PrivacyPolicy.model_validate(wrong)
    assert all(field.description for field in PrivacyPolicy.model_fields.values())
