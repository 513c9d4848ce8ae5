"""A plan is closed and canonical, and never gets more from a vehicle than its owner allowed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from telemetry.federated.plan import LearningFloor, Plan, PlanRefused, demand_allowed, encode_plan, parse_plan
from tests.telemetry.federated.test_admission import PLAN

ALLOWED = LearningFloor(enabled=True)
NOW_S = 1_900_000_000.0


def changed(**changes: Any) -> bytes:
    return json.dumps({**json.loads(encode_plan(PLAN)), **changes}).encode()


def test_a_plan_is_read_as_it_was_written_and_written_in_one_way() -> None:
    assert parse_plan(encode_plan(PLAN)) == PLAN
    assert encode_plan(parse_plan(changed())) == encode_plan(PLAN)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (changed(more=1), "at more: Extra inputs"),
        (changed(source="guessed"), "at source: Input should be 'confirmed'"),
        (changed(steps=0), "at steps"),
        (changed(clip=-1.0), "at clip"),
        (changed(base="short"), "at base"),
        (changed(schema=2), "at schema"),
        (changed(parameters=1 << 30), "at parameters"),
        (b"{", "no JSON"),
        (b'{"a":1,"a":2}', "a key comes twice"),
        (changed(learning_rate=float("nan")), "at"),
    ],
)
def test_what_isnt_a_plan_is_refused_by_its_key(data: bytes, words: str) -> None:
    with pytest.raises(PlanRefused, match=words):
        parse_plan(data)


def test_a_plan_without_a_label_source_is_none() -> None:
    content = json.loads(encode_plan(PLAN))
    del content["source"]
    with pytest.raises(PlanRefused, match="at source: Field required"):
        parse_plan(json.dumps(content).encode())


def test_what_the_vehicle_does_anyway_is_allowed() -> None:
    demand_allowed(PLAN, ALLOWED, NOW_S)


def test_learning_is_off_until_the_owner_allows_it() -> None:
    with pytest.raises(PlanRefused, match="owner hasn't allowed learning"):
        demand_allowed(PLAN, LearningFloor(), NOW_S)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"steps": 2001}, "it asks for steps 2001, the most here is 2000"),
        ({"keep": 4097}, "it asks for keep 4097, the most here is 4096"),
        ({"clip": 10.5}, "it asks for clip 10.5, the most here is 10"),
        ({"min_examples": 7}, "it would learn from 7 examples, the fewest here are 8"),
        ({"not_after": 1_899_999_000}, "it ended 1000 s ago"),
    ],
)
def test_more_than_the_floor_is_refused_with_both_numbers(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(PlanRefused, match=words):
        demand_allowed(PLAN.model_copy(update=changes), ALLOWED, NOW_S)


def test_every_reason_is_told_at_once() -> None:
    asked: Plan = PLAN.model_copy(update={"steps": 5000, "clip": 20.0})
    with pytest.raises(PlanRefused, match=r"owner hasn't .*; it asks for steps 5000.*; it asks for clip 20"):
        demand_allowed(asked, LearningFloor(), NOW_S)
