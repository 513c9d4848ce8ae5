"""A labelled set may be stricter than its vehicle, and never laxer; and nothing falls silent that nobody labelled."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from inference.comparison import load_comparison, rules_of
from inference.coverage import covered
from inference.evaluation import DEFAULT_EVALUATION, load_evaluation
from inference.floor import GateFloor, objects_for
from inference.judging import Showing, judge
from inference.package import find_package
from inference.verdict import Outcome, SpeedVerdict, Verdict

PASSED, FAILED, UNDECIDED = Outcome.PASSED, Outcome.FAILED, Outcome.UNDECIDED
ROAD = load_evaluation(DEFAULT_EVALUATION).manifest
few = settings(max_examples=40)


def said(outcome: Outcome = PASSED) -> Verdict:
    return Verdict(outcome, "words", (), SpeedVerdict(PASSED, "", 1.0, 1.0, 1.0, 2.5, 1.0, 1.0))


@given(st.integers(10, 500), st.floats(0.001, 0.2), st.floats(1.0, 10.0))
@few
def test_whatever_a_set_says_the_vehicles_floor_stands(objects: int, margin: float, cpu: float) -> None:
    lax = ROAD.model_copy(update={"min_objects": objects, "margin": margin, "cpu_ratio_at_most": cpu})
    floor = GateFloor()
    rules = rules_of(lax, floor)
    assert rules.min_objects >= max(objects, floor.objects_at_least, 3 / rules.margin - 1e-6)
    assert rules.margin == min(margin, floor.margin_at_most)
    assert rules.cpu_ratio_at_most == min(cpu, floor.cpu_ratio_at_most)


@pytest.mark.parametrize(("margin", "objects"), [(0.03, 100), (0.05, 60), (0.1, 30), (0.2, 15), (0.001, 3000)])
def test_a_margin_needs_as_many_objects_as_could_hide_it(margin: float, objects: int) -> None:
    assert objects_for(margin) == objects
    # Of so many without a difference, one that loses more than the margin would have shown none in one of 20 at most.
    assert (1 - margin) ** objects <= 0.05 + 1e-3


def test_a_small_set_that_both_models_do_alike_proves_nothing() -> None:
    """The interval is a point there: what is missing is objects, not doubt."""
    frames = 40
    rules = rules_of(ROAD.model_copy(update={"min_objects": 10}), GateFloor())
    counts = np.zeros((frames, 1, 3), np.int64)
    counts[:, :, 0] = 2
    showing = Showing(counts, (True,), np.full(frames, 1, np.int64))
    small = replace(rules, clips=("a",) * frames)
    verdict = judge(small, showing, showing, np.random.default_rng(1))
    assert verdict.outcome is UNDECIDED
    assert verdict.classes[0].words == "car: 80 objects in 10 blocks of frames; 100 in 8 are needed"
    verdict = judge(replace(small, excused=("car",)), showing, showing, np.random.default_rng(1))
    assert verdict.outcome is PASSED
    assert verdict.classes[0].words.endswith("excused by this vehicle's owner")


@pytest.mark.parametrize("outcome", [PASSED, UNDECIDED, FAILED])
def test_a_candidate_that_forgets_a_class_fails_whether_anybody_labelled_it_or_not(outcome: Outcome) -> None:
    verdict = covered(said(outcome), ["car"], ["car", "dog"], ["car"], ["car"])
    assert (verdict.outcome, verdict.lost) == (FAILED, ("dog",))
    assert "the candidate no longer knows: dog" in verdict.words


def test_a_class_that_the_vehicle_must_have_judged_leaves_undecided_what_a_set_without_it_says() -> None:
    verdict = covered(said(), ["car"], ["car", "person"], ["person", "car"], ["person"])
    assert verdict.outcome is UNDECIDED
    assert "nobody labelled what this vehicle must have judged: person" in verdict.words
    assert covered(said(FAILED), ["car"], ["car", "person"], ["person", "car"], ["person"]).outcome is FAILED
    # What the live model never knew isn't missed.
    assert covered(said(), ["car"], ["car"], ["car"], ["person"]).outcome is PASSED


def test_what_nobody_judged_is_told_and_decides_nothing() -> None:
    verdict = covered(said(), ["car"], ["car", "person", "dog"], ["car", "person", "dog"], ["car"])
    assert (verdict.outcome, verdict.unjudged) == (PASSED, ("person", "dog"))
    assert verdict.words == "words; judged by nobody: person, dog"


def test_the_set_that_ships_judges_what_the_default_floor_demands() -> None:
    old, new = find_package("drive-detect@1.0"), find_package("drive-detect@2.0")
    comparison = load_comparison(old, new, DEFAULT_EVALUATION)
    rules = rules_of(comparison.evaluation.manifest, comparison.floor)
    (car,) = comparison.evaluation.manifest.classes
    assert car.objects >= rules.min_objects
    assert set(comparison.floor.classes) <= set(rules.labels)


@pytest.mark.parametrize(
    "wrong", [{"margin_at_most": 0}, {"objects_at_least": 9}, {"cpu_ratio_at_most": 0}, {"class": ["car"]}]
)
def test_a_floor_that_isnt_one_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        GateFloor.model_validate(wrong)
