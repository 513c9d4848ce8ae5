"""A line of models: what waits, what becomes of it, and that no update counts twice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest

from telemetry.federated.aggregation import ServerRule
from telemetry.federated.errors import Refusal, UpdateRefused
from telemetry.federated.line import Line, base_digest, begin_line, close_buffer, offer
from telemetry.federated.payload import SparseDelta, encode_delta
from telemetry.federated.update import ModelUpdate, signed_part
from tests.telemetry.federated.test_admission import PLAN, sign, verify

PARAMETERS = np.random.default_rng(2).normal(0, 1, 1000).astype(np.float32)
RULE = ServerRule(clip=1.0, momentum=0.0, rate=1.0)


def line() -> Line:
    return begin_line(PLAN.model_copy(update={"base": base_digest(PARAMETERS)}), PARAMETERS)


def update(base: str, seq: int = 1, value: float = 0.25, at: int = 3) -> ModelUpdate:
    delta = SparseDelta(1000, np.array([at]), np.array([value], np.float32))
    made = ModelUpdate(PLAN.name, base, PLAN.graph, PLAN.layout, seq, encode_delta(delta))
    return msgspec.structs.replace(made, signature=sign(signed_part(made)))


def test_what_waits_becomes_the_newest_model_and_waits_no_more() -> None:
    began = line()
    one = offer(began, "car-1", update(began.plan.base), verify)
    after, told = close_buffer(offer(one, "car-2", update(began.plan.base, value=0.75), verify), RULE)
    expected = PARAMETERS.copy()
    expected[3] += 0.5
    assert after.parameters == pytest.approx(expected)
    assert (told.number, told.base, told.made) == (1, began.plan.base, base_digest(after.parameters))
    assert list(told.updates) == ["car-1", "car-2"]
    assert (after.waiting, after.newest) == ({}, 1)
    assert began.waiting == {}, "a line is a value"


def test_an_update_of_the_model_before_is_one_aggregate_stale() -> None:
    began = line()
    after, _ = close_buffer(offer(began, "car-1", update(began.plan.base), verify), RULE)
    late = offer(after, "car-2", update(began.plan.base), verify)
    assert late.waiting["car-2"].contribution.staleness == 1
    fresh = offer(after, "car-2", update(base_digest(after.parameters)), verify)
    assert fresh.waiting["car-2"].contribution.staleness == 0


def test_a_vehicles_newer_update_takes_the_place_of_its_older_one() -> None:
    began = line()
    twice = offer(
        offer(began, "car-1", update(began.plan.base), verify), "car-1", update(began.plan.base, 2, 0.5), verify
    )
    after, _ = close_buffer(twice, RULE)
    assert after.parameters[3] - PARAMETERS[3] == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize("aggregated", [False, True])
def test_no_update_counts_twice_also_not_after_its_aggregate(aggregated: bool) -> None:
    began = line()
    after = offer(began, "car-1", update(began.plan.base), verify)
    if aggregated:
        after, _ = close_buffer(after, RULE)
    with pytest.raises(UpdateRefused) as refused:
        offer(after, "car-1", update(began.plan.base), verify)
    assert refused.value.refusal is Refusal.REPLAYED


def test_what_is_refused_changes_nothing() -> None:
    began = line()
    with pytest.raises(UpdateRefused):
        offer(began, "car-1", update("f" * 64), verify)
    assert offer(began, "car-1", update(began.plan.base), verify).waiting


@pytest.mark.parametrize("changes", [{"base": "0" * 64}, {"parameters": 999}])
def test_a_line_begins_at_its_plans_base_alone(changes: dict[str, Any]) -> None:
    plan = PLAN.model_copy(update={"base": base_digest(PARAMETERS), **changes})
    with pytest.raises(ValueError, match="aren't the base of plan lights-1"):
        begin_line(plan, PARAMETERS)


def test_momentum_carries_over_from_aggregate_to_aggregate() -> None:
    began, rule = line(), replace(RULE, momentum=0.5)
    first, _ = close_buffer(offer(began, "car-1", update(began.plan.base), verify), rule)
    second, _ = close_buffer(offer(first, "car-1", update(base_digest(first.parameters), 2, at=7), verify), rule)
    assert second.parameters[3] - first.parameters[3] == pytest.approx(0.125, abs=1e-6)
