"""The numbers that rollouts are decided by: their error rates are counted out, not simulated."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.rollouts import quality
from receiver.rollouts.evidence import against, allowed, needed, proves_fine
from receiver.rollouts.rules import Rules

RULES = Rules()
HORIZON = 800


def ever(stops: list[list[bool]], rate: float) -> float:
    """How likely a sequence of vehicles that fail at this rate ever stands where `stops[vehicles][failures]`."""
    alive, stopped = [1.0], 0.0
    for row in stops:
        alive = [a * (1 - rate) + b * rate for a, b in zip([*alive, 0.0], [0.0, *alive], strict=True)]
        for failures, stop in enumerate(row[: len(alive)]):
            if stop:
                stopped += alive[failures]
                alive[failures] = 0.0
        while len(alive) > 200:
            alive.pop()
    return stopped


@pytest.mark.parametrize("rate", [0.005, 0.01])
def test_a_release_that_is_fine_is_ever_halted_as_rarely_as_was_asked_for(rate: float) -> None:
    # Mutation: a threshold of 1/sqrt(error); a mixture whose weights sum to more than 1.
    level = RULES.false_halt / 2
    stops = [[against(n, k, RULES.fine, RULES.bad) * level >= 1 for k in range(min(n, 40) + 1)]
             for n in range(1, HORIZON)]  # fmt: skip
    assert 0 < ever(stops, rate) <= level
    # The oracle notices a bar that is too low.
    eager = [[against(n, k, RULES.fine, RULES.bad) >= 2 for k in range(min(n, 40) + 1)] for n in range(1, HORIZON)]
    assert ever(eager, 0.01) > level


@pytest.mark.parametrize("rate", [0.05, 0.08])
def test_a_bad_release_ever_passes_the_first_gate_as_rarely_as_was_asked_for(rate: float) -> None:
    # Mutation: looking up the plan one vehicle too early; spending the error once for each number of failures.
    stops = [[k <= allowed(n, RULES.bad, RULES.let_through) for k in range(12)] for n in range(1, 400)]
    assert ever(stops, rate) <= RULES.let_through
    if rate == 0.05:
        assert ever(stops, rate) > 0.8 * RULES.let_through, "it spends what it may, or people are asked needlessly"
        early = [[k <= allowed(n + 6, RULES.bad, RULES.let_through) for k in range(12)] for n in range(1, 400)]
        assert ever(early, rate) > RULES.let_through


def test_most_releases_that_are_fine_pass_within_two_percent_of_ten_thousand() -> None:
    stops = [[k <= allowed(n, RULES.bad, RULES.let_through) for k in range(12)] for n in range(1, 199)]
    assert ever(stops, RULES.fine) > 0.95
    assert ever(stops, 0.005) > 0.995
    assert needed(RULES.bad, RULES.let_through)[0] < 100, "without a failure the first wave is enough"


@pytest.mark.parametrize("rate", [0.05, 0.1])
def test_a_later_gate_lets_a_bad_release_through_as_rarely_as_was_asked_for(rate: float) -> None:
    stops = [[proves_fine(n, k, RULES.fine, RULES.bad, RULES.let_through) for k in range(min(n, 40) + 1)]
             for n in range(1, HORIZON)]  # fmt: skip
    assert ever(stops, rate) <= RULES.let_through


@given(st.integers(1, 3000), st.data())
def test_a_failure_is_evidence_against_and_a_success_for(vehicles: int, data: st.DataObject) -> None:
    failures = data.draw(st.integers(0, vehicles))
    worse, better = (against(vehicles + 1, failures + more, RULES.fine, RULES.bad) for more in (1, 0))
    now = against(vehicles, failures, RULES.fine, RULES.bad)
    assert better <= now <= worse
    assert better < now or now == math.inf


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=30), st.floats(0, 0.9))
def test_a_bet_never_owes(pairs: list[tuple[float, float]], margin: float) -> None:
    bet = quality.Bet()
    for treated, control in pairs:
        bet = quality.after(bet, treated, control, margin)
        assert bet.evidence > 0


@pytest.mark.parametrize("margin", [0.0, 0.1])
def test_a_bet_gains_nothing_on_average_while_quality_sinks_by_the_margin(margin: float) -> None:
    # Treated are worse by exactly the margin on average, in the widest possible steps.
    outcomes = [((0.0, 1.0), (1 + margin) / 2), ((1.0, 0.0), (1 - margin) / 2)]
    start = quality.after(quality.Bet(), 0.3, 0.6, margin)
    mean = sum(chance * quality.after(start, *pair, margin).evidence for pair, chance in outcomes)
    assert mean == pytest.approx(start.evidence)
    assert quality.after(start, 0.0, 1.0, margin).evidence > start.evidence
