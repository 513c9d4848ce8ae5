"""A benchmark's number meets its bar, or doesn't, at the bar itself."""

from __future__ import annotations

import pytest

from simulator.bench.metric import Metric, Sense


@pytest.mark.parametrize(
    ("sense", "below", "at", "beyond"),
    [("at least", False, True, True), ("at most", True, True, False), ("above", False, False, True)],
)
def test_what_is_at_the_bar_itself_is_said_by_the_sense(sense: Sense, below: bool, at: bool, beyond: bool) -> None:
    found = [Metric("m", value, "x", "how", 0.0, sense).ok for value in (-0.001, 0.0, 0.001)]
    assert found == [below, at, beyond]


def test_what_promised_nothing_cant_fail() -> None:
    assert Metric("m", float("inf"), "x", "how").ok
