"""Axes keep the order of values, their ticks are round, and thinning a line loses no extreme."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.report.axes import Axis, round_step, spans, thinned, value_axis

values = st.lists(st.floats(0, 1e6), min_size=1, max_size=60)


@st.composite
def series(draw: st.DrawFn) -> list[tuple[float, float]]:
    """Long enough to be thinned, most of them."""
    rng = Random(draw(st.integers(0, 2**32)))
    return [(i / 25, rng.gauss(0, 10)) for i in range(draw(st.integers(1, 3_000)))]


@given(values)
def test_an_axis_holds_all_its_values_in_their_order(numbers: list[float]) -> None:
    axis = value_axis(numbers)
    places = [axis.place(value) for value in sorted(numbers)]
    assert places == sorted(places)
    assert all(0 <= place <= 1 for place in places)
    assert axis.high > max(numbers) or max(numbers) == 0


@given(values)
def test_ticks_are_few_rising_and_on_the_axis(numbers: list[float]) -> None:
    axis = value_axis(numbers)
    ticks = axis.ticks(4)
    assert 1 <= len(ticks) <= 12
    assert list(ticks) == sorted(set(ticks))
    assert all(axis.low * 0.999 <= tick <= axis.high * 1.001 for tick in ticks)


def test_an_axis_becomes_logarithmic_only_for_a_far_value() -> None:
    assert not value_axis([20, 22, 25, 60]).is_log
    assert value_axis([20, 22, 25, 600]).is_log
    assert value_axis([]) == Axis(0.0, 1.0)


@pytest.mark.parametrize(("asked", "given_"), [(0.7, 1), (1, 1), (1.2, 2), (3, 5), (7, 10), (0.03, 0.05), (2000, 2000)])
def test_steps_are_round(asked: float, given_: float) -> None:
    assert math.isclose(round_step(asked), given_)


@given(series())
def test_thinning_keeps_the_ends_the_extremes_and_the_order(points: list[tuple[float, float]]) -> None:
    kept = thinned(points)
    assert len(kept) <= 4 * 151
    assert kept == sorted(set(kept))
    assert set(kept) <= set(points)
    assert {points[0], points[-1]} <= set(kept)
    assert (min(y for _, y in kept), max(y for _, y in kept)) == (min(y for _, y in points), max(y for _, y in points))


@given(series())
def test_every_frame_lies_within_a_stroke(points: list[tuple[float, float]]) -> None:
    strokes = spans(points)
    assert len(strokes) <= 401
    assert min(low for _, low, _ in strokes) == min(y for _, y in points)
    assert max(high for _, _, high in strokes) == max(y for _, y in points)
    column_s = max(0.04, points[-1][0] / 400)
    for t_s, value in points[::7]:
        near = [(low, high) for at_s, low, high in strokes if abs(at_s - t_s) <= column_s]
        assert any(low <= value <= high for low, high in near)


def test_no_points_are_no_strokes() -> None:
    assert spans([]) == []
    assert thinned([]) == []
