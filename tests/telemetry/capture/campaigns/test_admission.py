"""What a vehicle takes: with numbers, over all campaigns together, and never more than its owner allows (law 11)."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetry.capture.campaigns.admission import Admitted, Idle, admit
from telemetry.capture.campaigns.campaign import CampaignsRefused
from telemetry.capture.campaigns.floor import CampaignFloor
from telemetry.privacy.policy import Position, PrivacyPolicy
from telemetry.privacy.stage import DenyList
from telemetry.records import Lane, LastKnownState, Purpose, Triggered
from telemetry.signals.schema import Group, Schema, SignalSpec
from tests.telemetry.capture.campaigns import fleet
from tests.telemetry.capture.campaigns.world import (
    FLOOR,
    LATITUDE,
    OPEN,
    PEDAL,
    SCHEMA,
    SPEED,
    TEMPERATURE,
    Vehicle,
    anomaly,
    campaign,
    campaigns,
    periodic,
    when,
)


def taken(
    *those: Mapping[str, Any],
    floor: CampaignFloor = FLOOR,
    privacy: PrivacyPolicy = OPEN,
    now_s: float | None = None,
    **more: Any,
) -> Admitted:
    return admit(campaigns(*those).model_copy(update=more), SCHEMA, floor, privacy, now_s)


def refused(*those: Mapping[str, Any], floor: CampaignFloor = FLOOR, **more: Any) -> tuple[str, ...]:
    with pytest.raises(CampaignsRefused) as error:
        taken(*those, floor=floor, **more)
    assert str(error.value).endswith("Sign a set that fits; the ones before stay.")
    return error.value.reasons


def floor(**changes: Any) -> CampaignFloor:
    return FLOOR.model_copy(update=changes)


DRIVE = campaign("drive", periodic(1000), SPEED, PEDAL)


def test_the_costs_are_sums_that_can_be_checked_by_hand() -> None:
    cost = taken(DRIVE).cost
    assert cost.bytes_per_day == 86_400 * (50 * 2 + 20 * 2) + 86_400 * 256
    assert cost.flash_bytes_per_day == int(cost.bytes_per_day * 1.3)
    rows = (2 * 50 + 8) * 5 + (2 * 20 + 8) * 5  # in four seconds, which touch five
    assert 2 * 8 * rows < cost.ring_bytes < 2 * 8 * rows * 1.6 + 4 * 600
    assert cost.evaluations_per_s == 0
    condition = taken(campaign("fast", when(f"{SPEED} > 5 and {PEDAL} < 1"), SPEED)).cost
    assert condition.evaluations_per_s == 70
    assert condition.work_per_s == 50 * 2 + 50 * 0.5 + 70 * 4.2  # at most 50 steps, two answers; 70 triggers
    window = taken(campaign("slow", when(f"avg({PEDAL}, 2000) > 5", cooldown_ms=1000))).cost
    assert window.work_per_s == 20 * (8 + (4 * 48 + 1) / 1000) + 4


@pytest.mark.parametrize(
    "hostile",
    [
        when(" or ".join(f"low({SPEED}, {60_000 + number}) > 5" for number in range(20))),
        when(f"{SPEED} > 5", edge="level", max_per_day=1_000_000),
        anomaly(SPEED, {"test": "residual", "expected": f"avg({SPEED}, 120000) + avg({SPEED}, 90000)", "limit": 1.0}),
    ],
)
def test_no_set_that_is_taken_keeps_the_computer_busy(hostile: dict[str, Any]) -> None:
    busy = [campaign(f"c{number}", hostile, SPEED, PEDAL) for number in range(30)]
    small = floor(max_campaigns=64, work_per_s=2500)
    [reason] = [reason for reason in refused(*busy, floor=small) if "answers a second" in reason]
    assert "the most here is 2500 (c0 " in reason
    assert taken(busy[0], floor=floor(work_per_s=20_000)).tasks


def test_no_window_that_is_taken_is_longer_than_what_is_kept_for_it() -> None:
    fast = Schema((Group("fast", (SignalSpec(SPEED),), 1000),))
    for trigger in (
        when(f"count({SPEED}, 120000) > 1"),
        anomaly(SPEED, {"test": "residual", "expected": f"avg({SPEED}, 120000)", "limit": 1.0}),
    ):
        with pytest.raises(CampaignsRefused, match=rf"120000 ms of {SPEED} may be 244977 samples, the most are 131072"):
            admit(campaigns(campaign("long", trigger)), fast, FLOOR, OPEN, None)
    shorter = campaigns(campaign("long", when(f"count({SPEED}, 60000) > 1")))
    assert admit(shorter, fast, FLOOR, OPEN, None).tasks


def test_all_reasons_are_told_at_once_with_their_numbers() -> None:
    small = floor(bytes_per_day=10_000_000, flash_bytes_per_day=20_000_000, ring_bytes=10_000, evaluations_per_s=60)
    reasons = refused(DRIVE, campaign("fast", when(f"{SPEED} > 5 and {PEDAL} < 1", max_per_day=1), SPEED), floor=small)
    assert [reason.partition(" (")[0] for reason in reasons] == [
        "they would tell 34.21 MB a day, the most here is 10 MB",
        "they would write 44.48 MB of flash a day, the most here is 20 MB",
        reasons[2].partition(" (")[0],
        "they would be evaluated 70 times a second, the most here is 60",
    ]
    assert "(drive 34.21 MB, fast " in reasons[0]
    assert "of memory, the most here is 10 kB" in reasons[2]


@pytest.mark.parametrize(
    ("those", "more", "reason"),
    [
        ([DRIVE], {"floor": floor(enabled=False)}, "this vehicle's owner hasn't allowed campaigns"),
        ([DRIVE], {"floor": floor(max_campaigns=0)}, "they are 1, the most here are 0"),
        ([DRIVE], {"schema_digest": "0" * 32}, "schema_digest: they are for signals 000"),
        ([DRIVE], {"floor": floor(lanes=frozenset({Lane.P2}))}, "campaigns[0].lane: it is P1, those"),
        ([{**DRIVE, "lane": "p0"}], {}, "campaigns[0].lane: P0 is for safety, its purpose is driving"),
        (
            [{**DRIVE, "purpose": "operation"}],
            {},
            "campaigns[0].purpose: it is operation, those of campaigns are safety",
        ),
        (
            [DRIVE],
            {"floor": floor(shortest_period_ms=5000)},
            "campaigns[0].trigger.period_ms: it is 1000, the shortest",
        ),
        (
            [campaign("c", periodic(), "Vehicle.Speeed")],
            {},
            f"campaigns[0].signals[0].path: the vehicle has no signal Vehicle.Speeed, the nearest is {SPEED}",
        ),
        (
            [campaign("c", when("Vehicle.Speeed > 5"))],
            {},
            "campaigns[0].trigger.when: the vehicle has no signal Vehicle.Speeed, the nearest",
        ),
        (
            [campaign("c", anomaly("Vehicle.Speeed", {"test": "out_of_range"}))],
            {},
            "campaigns[0].trigger.signal: the vehicle has no signal",
        ),
        (
            [campaign("c", anomaly(PEDAL, {"test": "out_of_range"}))],
            {},
            "campaigns[0].trigger.anomaly: neither it nor the signal's own definition says a range",
        ),
        (
            [campaign("c", anomaly(PEDAL, {"test": "out_of_range", "minimum": 2.0, "maximum": 1.0}))],
            {},
            "campaigns[0].trigger.anomaly: its minimum 2 is above its maximum 1",
        ),
        ([campaign("c", periodic())], {}, "campaigns[0].signals: it names none"),
        (
            [{**DRIVE, "budget": {"bytes_per_day": 1_000_000}}],
            {},
            "campaigns[0].budget.bytes_per_day: it would tell 34.21 MB a day, its own budget is 1 MB",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(
    those: list[Mapping[str, Any]], more: dict[str, Any], reason: str
) -> None:
    told = refused(*those, **more)
    assert told[0].startswith(reason), told


def idle(*those: Mapping[str, Any], **more: Any) -> list[Idle | None]:
    return [task.idle for task in taken(*those, **more).tasks]


def test_without_consent_a_campaign_is_taken_and_does_nothing() -> None:
    privacy = PrivacyPolicy(consents=frozenset({Purpose.SAFETY}))
    safety = campaign("safe", periodic(), SPEED, purpose="safety")
    assert idle(DRIVE, safety, privacy=privacy) == [Idle.NO_CONSENT, None]


def test_what_has_ended_costs_nothing_and_without_a_trusted_clock_nothing_has() -> None:
    ended = {**DRIVE, "not_after": 1000}
    assert taken(ended, now_s=1000.0).cost.bytes_per_day == 0
    assert idle(ended, now_s=1000.0) == [Idle.ENDED]
    assert idle(ended, now_s=999.0) == idle(ended, now_s=None) == [None]


def test_a_denied_signal_is_withheld_and_no_trigger_may_read_it() -> None:
    privacy = OPEN.model_copy(update={"deny": ("vehicle.SPEED",)})
    residual = {"test": "residual", "expected": f"{SPEED} * 2", "limit": 1.0}
    those = [
        DRIVE,
        campaign("only", periodic(), SPEED),
        campaign("reads", when(f"{PEDAL} > 1 and avg({SPEED}, 100) > 5"), PEDAL),
        campaign("watches", anomaly(SPEED, {"test": "stuck", "for_ms": 10}), PEDAL),
        campaign("compares", anomaly(PEDAL, residual), PEDAL),
    ]
    assert idle(*those, privacy=privacy) == [None, Idle.NOTHING_LEFT, Idle.DENIED, Idle.DENIED, Idle.DENIED]
    assert taken(*those, privacy=privacy).tasks[0].withheld == (SPEED,)


def test_a_campaign_is_denied_by_its_name() -> None:
    assert idle(DRIVE, privacy=OPEN.model_copy(update={"deny": ("dri*",)})) == [Idle.DENIED]


def test_no_trigger_finds_a_position_out_that_may_not_be_exact() -> None:
    fence = campaign("fence", when(f"{LATITUDE} > 52.5"), TEMPERATURE)
    coarse = OPEN.model_copy(update={"position": Position.COARSE})
    assert idle(fence, privacy=coarse) == [Idle.DENIED]
    assert idle(fence, privacy=OPEN) == [None]


@settings(max_examples=25)
@given(
    seed=st.integers(0, 1 << 32),
    deny=st.sets(st.sampled_from(["Vehicle.Speed", "*pedal", "Vehicle.CurrentLocation", "Vehicle.?e*"])),
    consents=st.sets(st.sampled_from(list(Purpose))),
)
def test_whatever_is_asked_nothing_denied_and_nothing_without_consent_is_told(
    seed: int, deny: set[str], consents: set[Purpose]
) -> None:
    privacy = OPEN.model_copy(update={"deny": tuple(deny), "consents": frozenset(consents)})
    vehicle = Vehicle(privacy=privacy).adopt(*fleet.some(Random(seed)))
    vehicle.feed(3000, *fleet.drive(seed, 3000))
    vehicle.close()
    names = DenyList(deny).names
    told = {path for _, path, _ in vehicle.samples()}
    told |= {path for event in vehicle.told(Triggered) for path in event.signals}
    told |= {path for event in vehicle.told(LastKnownState) for path in event.signals}
    assert not [path for path in told if names(path)]
    assert {record.purpose for record in vehicle.records} <= consents


def test_the_default_floor_is_a_whole_configuration() -> None:
    assert CampaignFloor.model_validate({"lanes": ["p1", "P2"]}).lanes == {Lane.P1, Lane.P2}
    assert CampaignFloor().lanes == set(Lane)


def test_of_many_wrong_campaigns_as_many_reasons_are_told_as_anybody_reads() -> None:
    told = refused(*[campaign(f"c{number}", periodic(), "Vehicle.Speeed") for number in range(60)])
    assert len(told) == 1 + 15
    assert told[0] == "they are 60, the most here are 16"
