"""Many changes into one: no vehicle moves it further than another, and no order of arrival changes a bit."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry.federated.aggregation import Contribution, ServerRule, aggregate
from telemetry.federated.payload import SparseDelta

SIZE = 40
RULE = ServerRule(clip=1.0, momentum=0.9, rate=0.5)
STILL = np.zeros(SIZE, np.float32)


def contribution(vehicle: str, seed: int, length: float, staleness: int = 0) -> Contribution:
    draw = np.random.default_rng(seed)
    indices = np.sort(draw.choice(SIZE, 7, replace=False)).astype(np.int64)
    values = draw.normal(0, 1, 7)
    return Contribution(
        vehicle, SparseDelta(SIZE, indices, (values * length / np.linalg.norm(values)).astype(np.float32)), staleness
    )


@given(seed=st.integers(0, 1000), count=st.integers(1, 12))
def test_no_order_of_arrival_changes_a_bit(seed: int, count: int) -> None:
    came = [contribution(f"car-{n}", seed + n, 0.1 * n + 0.1, n % 3) for n in range(count)]
    shuffled = Random(seed).sample(came, count)
    first, second = aggregate(came, STILL, RULE), aggregate(shuffled, STILL, RULE)
    assert first.step.tobytes() == second.step.tobytes()
    assert first.velocity.tobytes() == second.velocity.tobytes()


@given(length=st.floats(1.0, 1e6))
def test_however_long_a_change_is_it_counts_as_the_longest_that_may_be(length: float) -> None:
    honest = [contribution(f"car-{n}", n, 0.5) for n in range(9)]
    boosted = aggregate([*honest, contribution("car-9", 9, length)], STILL, RULE)
    bounded = aggregate([*honest, contribution("car-9", 9, 1.0)], STILL, RULE)
    assert boosted.step == pytest.approx(bounded.step, abs=1e-6)


def test_one_change_alone_is_the_step_times_the_rate() -> None:
    one = contribution("car", 3, 0.5)
    made = aggregate([one], STILL, RULE)
    assert made.step == pytest.approx(0.5 * one.delta.dense(), abs=1e-7)
    assert made.velocity == pytest.approx(one.delta.dense(), abs=1e-7)


def test_an_older_base_counts_less() -> None:
    fresh, stale = contribution("car-a", 1, 0.5), contribution("car-b", 2, 0.5, staleness=3)
    expected = (fresh.delta.dense() + 0.5 * stale.delta.dense()) / 1.5
    assert aggregate([fresh, stale], STILL, RULE).velocity == pytest.approx(expected, abs=1e-6)


def test_momentum_goes_on_in_the_direction_before() -> None:
    one, before = contribution("car", 3, 0.5), np.full(SIZE, 0.1, np.float32)
    made = aggregate([one], before, RULE)
    assert made.velocity == pytest.approx(0.09 + one.delta.dense(), abs=1e-6)


@pytest.mark.parametrize("came", [[], [contribution("car", 1, 0.1), contribution("car", 2, 0.1)]])
def test_nobody_and_the_same_vehicle_twice_are_no_aggregate(came: list[Contribution]) -> None:
    with pytest.raises(ValueError, match="each of them once"):
        aggregate(came, STILL, RULE)
