"""How long it has stood: only what is known counts."""

from __future__ import annotations

import math

import pytest

from ecu.clock import MILLISECOND_NS, SECOND_NS
from telemetry.signals import vss
from telemetry.signals.standing import Standing


def stood(*speeds: tuple[float, float | None]) -> Standing:
    """(seconds, km/h) each."""
    standing = Standing()
    for at_s, kmh in speeds:
        standing.put(round(at_s * SECOND_NS), {} if kmh is None else {vss.SPEED: kmh})
    return standing


def still_until(end_s: float) -> list[tuple[float, float | None]]:
    return [(n * 0.25, 0.0) for n in range(int(end_s * 4) + 1)]


def test_it_stands_since_its_speed_became_none() -> None:
    standing = stood((0.0, 30.0), (0.25, 0.3), (0.5, 0.0))
    assert standing.for_ns(500 * MILLISECOND_NS) == 250 * MILLISECOND_NS


def test_whoever_moves_or_was_never_heard_of_doesnt_stand() -> None:
    assert stood().for_ns(SECOND_NS) is None
    assert stood(*still_until(5), (5.25, 0.6)).for_ns(round(5.25 * SECOND_NS)) is None
    assert stood(*still_until(5), (5.25, -3.0)).for_ns(round(5.25 * SECOND_NS)) is None


@pytest.mark.parametrize("unknown", [math.nan, math.inf])
def test_a_speed_that_isnt_known_isnt_none(unknown: float) -> None:
    assert stood(*still_until(5), (5.25, unknown)).for_ns(round(5.25 * SECOND_NS)) is None


def test_what_was_last_heard_of_long_ago_isnt_known() -> None:
    standing = stood(*still_until(5))
    assert standing.for_ns(round(5.5 * SECOND_NS)) == round(5.5 * SECOND_NS)
    assert standing.for_ns(round(5.5 * SECOND_NS) + 1) is None


def test_a_gap_begins_it_anew() -> None:
    assert stood(*still_until(5), (60.0, 0.0)).for_ns(60 * SECOND_NS) == 0


def test_samples_without_speed_or_from_before_change_nothing() -> None:
    standing = stood(*still_until(5), (5.1, None), (4.0, 80.0))
    assert standing.for_ns(round(5.2 * SECOND_NS)) == round(5.2 * SECOND_NS)
