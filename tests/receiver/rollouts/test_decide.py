"""What happens next in a rollout, by tables and properties."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecu.errors import UsageFault
from receiver.rollouts.cohorts import places, wanted
from receiver.rollouts.decide import Move, Standing, Tally, decide, why_halt
from receiver.rollouts.evidence import needed
from receiver.rollouts.outcome import Outcome, outcome_of
from receiver.rollouts.rules import Rules, Step, checked, ladder
from receiver.rollouts.states import LIVE, OVER, TRANSITIONS, Event, State
from telemetry.records import UpdateReport

RULES = Rules()
SOAKED_S = RULES.soak_s
DIGEST = "ab" * 32


def standing(step: int = 0, open_s: float = SOAKED_S, **tally: int) -> Standing:
    return Standing(step, open_s, {"any": Tally(10_000, **tally)})


@pytest.mark.parametrize(
    ("now", "move", "step"),
    [
        (standing(open_s=SOAKED_S - 1, exposed=100, committed=100), Move.WAIT, 0),
        (standing(exposed=100, committed=100), Move.OPEN, 2),
        (standing(exposed=100, committed=99, failed=1), Move.OPEN, 1),  # the first wave grows
        (standing(exposed=100, committed=96), Move.WAIT, 0),  # silence lets nothing through
        (standing(exposed=40, committed=40), Move.WAIT, 0),  # too few
        (standing(step=1, exposed=199, committed=195, failed=4), Move.OPEN, 2),
        (standing(step=1, exposed=200, committed=195, failed=5), Move.HOLD, 0),
        (standing(step=1, exposed=199, committed=194, failed=5), Move.WAIT, 0),  # one may come yet
        (standing(step=1, open_s=RULES.patience_s, exposed=199, committed=194, failed=5), Move.HOLD, 0),
        (standing(step=1, open_s=0, exposed=100, committed=80, failed=20), Move.HALT, 0),
        (
            standing(step=1, open_s=RULES.patience_s, exposed=200, undecided=200),
            Move.HOLD,
            0,
        ),  # inconclusive proves nothing
        (standing(step=3, exposed=2500, committed=2475, failed=25), Move.OPEN, 4),
        (standing(step=4, exposed=10_000, committed=9_900, failed=100), Move.FINISH, 0),
        (standing(step=4, exposed=9_999, committed=9_899, failed=100), Move.WAIT, 0),
    ],
)
def test_the_table_of_what_comes_next(now: Standing, move: Move, step: int) -> None:
    decision = decide(RULES, now)
    assert (decision.move, decision.step) == (move, step), decision.words


def test_what_people_let_go_on_opens_the_next_wave_and_is_halted_all_the_same() -> None:
    held = replace(standing(step=1, exposed=200, committed=195, failed=5), go_on=True)
    assert decide(RULES, held).move is Move.OPEN
    bad = replace(standing(step=1, exposed=200, committed=180, failed=20), go_on=True)
    assert decide(RULES, bad).move is Move.HALT


def test_one_hardware_alone_halts_it() -> None:
    strata = {"big": Tally(9_000, 90, 90), "small": Tally(1_000, 10, 6, 4)}
    words = why_halt(RULES, Standing(0, 0, strata))
    assert words is not None
    assert "small" in words


def test_quality_alone_halts_it() -> None:
    assert decide(RULES, replace(standing(open_s=0), quality=399.0)).move is Move.WAIT
    assert decide(RULES, replace(standing(open_s=0), quality=400.0)).move is Move.HALT


@given(st.integers(0, 4), st.integers(0, 300), st.integers(0, 300), st.integers(0, 300), st.integers(0, 300))
def test_a_report_that_is_late_never_lets_through_or_halts_what_it_wouldnt_when_it_comes(
    step: int, committed: int, failed: int, undecided: int, pending: int
) -> None:
    exposed = committed + failed + undecided + pending
    now = standing(step, RULES.patience_s, exposed=exposed, committed=committed, failed=failed, undecided=undecided)
    move = decide(RULES, now).move
    for fails in (0, pending):
        its = {"committed": committed + pending - fails, "failed": failed + fails}
        then = standing(step, RULES.patience_s, exposed=exposed, undecided=undecided, **its)
        if move is Move.HALT:
            assert decide(RULES, then).move is Move.HALT
        if move is Move.OPEN and 0 < step < 4:
            assert decide(RULES, then).move in (Move.OPEN, Move.HALT)


@given(st.sets(st.text("abc-123", min_size=1, max_size=6), max_size=60), st.sampled_from(["r1", "r2"]))
def test_turns_are_stable_and_whole_within_each_hardware(names: set[str], rollout: str) -> None:
    strata = {name: "left" if name < "b" else "right" for name in names}
    placed = places(rollout, strata)
    assert placed == places(rollout, dict(reversed(strata.items())))
    for stratum in ("left", "right"):
        ranks = [one.rank for one in placed if one.stratum == stratum]
        assert sorted(ranks) == list(range(len(ranks)))
    # One that joins changes nobody's order.
    fewer = [one.vehicle for one in places(rollout, {n: s for n, s in strata.items() if n != min(names, default="")})]
    assert fewer == [one.vehicle for one in placed if one.vehicle != min(names, default="")]


def test_another_rollout_has_another_order() -> None:
    strata = {f"car-{n}": "any" for n in range(50)}
    assert [p.vehicle for p in places("r1", strata)] != [p.vehicle for p in places("r2", strata)]


@given(st.integers(1, 20_000))
def test_waves_only_grow_and_reach_everyone_and_the_smallest_hardware_is_in_the_first(size: int) -> None:
    sizes = [wanted(step, size) for step in ladder(RULES)]
    assert sizes == sorted(sizes)
    assert sizes[0] >= 1
    assert sizes[-1] == size
    assert wanted(Step(2.0, grown=True), size) <= max(1, size * 0.02)


@pytest.mark.parametrize(
    "wrong",
    [
        {"waves": (5.0, 1.0, 100.0)}, {"waves": (1.0, 50.0)}, {"waves": (0.0, 100.0)}, {"first_percent": 0.5},
        {"fine": 0.05}, {"bad": 1.0}, {"false_halt": 0.0}, {"let_through": 1.0}, {"soak_s": -1.0},
        {"silence_s": 0.0}, {"sample": 1.1}, {"quality_margin": 1.0},
    ],
)  # fmt: skip
def test_rules_that_cant_be_followed_are_refused(wrong: dict[str, object]) -> None:
    assert checked(RULES) is RULES
    with pytest.raises(UsageFault):
        checked(msgspec.structs.replace(RULES, **wrong))


@pytest.mark.parametrize(
    ("what", "outcome"),
    [
        ("committed", Outcome.COMMITTED), ("rolled_back", Outcome.FAILED), ("damaged", Outcome.FAILED),
        ("refused", Outcome.FAILED), ("inconclusive", Outcome.UNDECIDED), ("staged", None), ("shadow", None),
        ("switched", None), ("downloaded", None),
    ],
)  # fmt: skip
def test_nothing_but_running_judged_and_kept_is_success(what: str, outcome: Outcome | None) -> None:
    report = UpdateReport(what, "model", "drive-2.0", DIGEST, "", "")
    assert outcome_of(report, DIGEST, lambda: True) is outcome
    assert outcome_of(report, "cd" * 32, lambda: True) is None
    assert outcome_of(report, DIGEST, lambda: False) is (None if what == "committed" else outcome)


def test_every_state_that_isnt_an_end_can_be_stopped_and_no_end_can_be_left() -> None:
    for state in State:
        leaves = {event for (one, event) in TRANSITIONS if one is state}
        if state in (*OVER, State.DONE):
            assert not leaves
        else:
            assert Event.CANCEL in leaves
        if state in LIVE:
            assert Event.HALT in leaves


def test_the_page_has_the_table_of_states_and_the_rules_as_they_are() -> None:
    page = (Path(__file__).parents[3] / "docs/rollouts.md").read_text()
    table = page.partition("| in state | on | goes to |\n|---|---|---|\n")[2].partition("\n\n")[0]
    assert table.splitlines() == [f"| {state} | {event} | {after} |" for (state, event), after in TRANSITIONS.items()]
    shown = page.partition("```json\n")[2].partition("```")[0]
    assert msgspec.json.decode(shown.encode(), type=Rules) == RULES
    assert set(msgspec.json.decode(shown.encode())) == set(Rules.__struct_fields__)
    first = ", ".join(map(str, needed(RULES.bad, RULES.let_through)[:5]))
    assert first == "97, 149, 170, 183, 190"
    assert "no failure after 97 vehicles, one after 149, two after 170, three after 183, four after 190" in page
