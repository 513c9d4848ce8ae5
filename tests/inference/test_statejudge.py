"""The judge of states: better passes, worse in one class fails, too little proves nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.build.candidate import build_candidate
from inference.build.packing import write_package
from inference.crops import Crops, load_crops
from inference.errors import PackageRefused, Party, Unjudgeable
from inference.evaluation import EVALUATIONS_FOLDER
from inference.floor import GateFloor
from inference.manifest import FederatedLineage, StateManifest
from inference.package import find_package, load_package
from inference.session import Session
from inference.statejudge import CROPS_AT_LEAST, Told, judge_states, judge_told
from inference.training.package import layout_of, load_learnable, parameters_of
from inference.verdict import Outcome

LIVE = find_package("light-state@1.0")
HELD_OUT = EVALUATIONS_FOLDER / "lights-1.0"
FLOOR = GateFloor()
EXCUSED = GateFloor(excused=("yellow",))
LEARNED = FederatedLineage(plan="lights", base="0" * 64, number=1, vehicles=3, updates_sha256="1" * 64)

Right = NDArray[np.bool_]


@pytest.fixture(scope="module")
def crops() -> Crops:
    return load_crops(HELD_OUT)


def told(crops: Crops, right: Right, ns: int = 1000) -> Told:
    answers = np.where(right, crops.labels, (crops.labels + 1) % 3)
    return Told(right, answers, np.full(len(right), ns, np.int64))


def but(crops: Crops, label: int, wrong: int) -> Right:
    """All right but so many of one class."""
    right = np.ones(len(crops.labels), bool)
    right[np.flatnonzero(crops.labels == label)[:wrong]] = False
    return right


def test_one_that_is_right_more_often_in_a_class_and_nowhere_worse_passes(crops: Crops) -> None:
    verdict = judge_told(crops, told(crops, but(crops, 1, 8)), told(crops, but(crops, 1, 0)), EXCUSED)
    assert verdict.outcome is Outcome.PASSED
    red, yellow, green = verdict.classes
    assert (yellow.live and yellow.live.found, yellow.candidate and yellow.candidate.found) == (1, 9)
    assert yellow.low > 0
    assert red.difference == green.difference == 0.0


def test_one_that_is_worse_in_a_single_class_fails_however_good_it_is_elsewhere(crops: Crops) -> None:
    verdict = judge_told(crops, told(crops, but(crops, 0, 30)), told(crops, but(crops, 2, 24)), EXCUSED)
    assert verdict.outcome is Outcome.FAILED
    assert [one.outcome for one in verdict.classes] == [Outcome.PASSED, Outcome.PASSED, Outcome.FAILED]
    assert "green: 1.000 -> 0.776" in verdict.words


def test_one_that_is_a_little_worse_everywhere_is_undecided_though_no_class_fails(crops: Crops) -> None:
    right = but(crops, 0, 3) & but(crops, 2, 1) & but(crops, 1, 1)
    verdict = judge_told(crops, told(crops, but(crops, 0, 0)), told(crops, right), EXCUSED)
    assert verdict.outcome is Outcome.UNDECIDED
    assert [one.outcome for one in verdict.classes] == [Outcome.PASSED] * 3
    assert "it may be worse by more than 0.02" in verdict.words


@pytest.mark.parametrize(
    ("wrong", "outcome"), [(0, Outcome.PASSED), (3, Outcome.PASSED), (9, Outcome.UNDECIDED), (25, Outcome.FAILED)]
)
def test_each_class_is_judged_by_its_own_margin(crops: Crops, wrong: int, outcome: Outcome) -> None:
    verdict = judge_told(crops, told(crops, but(crops, 2, 0)), told(crops, but(crops, 2, wrong)), EXCUSED)
    assert [one.outcome for one in verdict.classes] == [Outcome.PASSED, Outcome.PASSED, outcome]


def test_a_class_that_nobody_excuses_and_that_has_too_few_crops_decides_nothing(crops: Crops) -> None:
    right = but(crops, 1, 0)
    verdict = judge_told(crops, told(crops, right), told(crops, right), FLOOR)
    assert verdict.outcome is Outcome.UNDECIDED
    assert [one.outcome for one in verdict.classes] == [Outcome.PASSED, Outcome.UNDECIDED, Outcome.PASSED]
    assert "of 9, difference -0.299 to +0.299: 38 are needed" in verdict.words
    # Too few to show that it isn't worse can still show that it is.
    verdict = judge_told(crops, told(crops, right), told(crops, but(crops, 1, 9)), EXCUSED)
    assert verdict.classes[1].outcome is Outcome.FAILED


def test_one_that_is_surely_worse_over_all_crops_fails_by_that_too(crops: Crops) -> None:
    verdict = judge_told(crops, told(crops, but(crops, 0, 0)), told(crops, but(crops, 0, 30)), EXCUSED)
    assert verdict.outcome is Outcome.FAILED
    assert ": worse by more than 0.02; red" in verdict.words


def test_few_crops_prove_nothing(crops: Crops) -> None:
    few = Crops(crops.manifest, crops.pictures[: CROPS_AT_LEAST - 1], crops.labels[: CROPS_AT_LEAST - 1])
    every = np.ones(len(few.labels), bool)
    verdict = judge_told(few, told(few, every), told(few, every), FLOOR)
    assert verdict.outcome is Outcome.UNDECIDED
    assert "green: no crop of it" in verdict.words
    assert f"{CROPS_AT_LEAST - 1} crops, {CROPS_AT_LEAST} are needed" in verdict.words


def test_one_that_is_slow_fails(crops: Crops) -> None:
    every = but(crops, 0, 0)
    assert judge_told(crops, told(crops, every), told(crops, every, ns=9000), EXCUSED).outcome is Outcome.FAILED


# --- of packages --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def candidate_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[NDArray[np.float32]], Path]:
    def candidate(parameters: NDArray[np.float32]) -> Path:
        folder = tmp_path_factory.mktemp("candidate") / "light-state-1.1"
        write_package(folder, build_candidate(LIVE, parameters, "1.1", HELD_OUT, LEARNED))
        return folder

    return candidate


def test_the_same_parameters_make_the_same_graphs_under_another_version(
    candidate_of: Callable[[NDArray[np.float32]], Path],
) -> None:
    live = load_package(LIVE)
    again = load_package(candidate_of(parameters_of(live)))
    before, after = live.manifest_of(StateManifest), again.manifest_of(StateManifest)
    assert [one.sha256 for one in after.variants] == [one.sha256 for one in before.variants]
    assert after.training == before.training
    assert (after.version, after.learned) == ("1.1", LEARNED)
    assert judge_states(LIVE, again.folder, HELD_OUT).classes[0].difference == 0.0


def test_flipped_labels_dont_pass(candidate_of: Callable[[NDArray[np.float32]], Path]) -> None:
    """Whoever calls red yellow and green red: finite numbers, and no release."""
    live = load_package(LIVE)
    layout, parameters = layout_of(live.manifest_of(StateManifest)), parameters_of(live)
    parts = dict(layout.split(parameters.copy()))
    for name in ("lamp.weight", "lamp.bias"):
        parts[name] = np.roll(parts[name], 1, axis=0)
    verdict = judge_states(LIVE, candidate_of(layout.joined(parts)), HELD_OUT)
    assert verdict.outcome is Outcome.FAILED


def test_what_isnt_finite_or_as_long_as_it_must_be_is_no_candidate() -> None:
    parameters = parameters_of(load_package(LIVE))
    for spoiled in (
        np.append(parameters, np.float32(0)),
        np.where(np.arange(len(parameters)) == 3, np.nan, parameters),
    ):
        with pytest.raises(PackageRefused, match="finite numbers"):
            build_candidate(LIVE, spoiled.astype(np.float32), "1.1", HELD_OUT, LEARNED)
    with pytest.raises(PackageRefused, match="is for the task faces"):
        build_candidate(find_package("face-blur"), parameters, "1.1", HELD_OUT, LEARNED)


def test_whose_fault_it_is_that_nothing_can_be_judged_is_told(tmp_path: Path) -> None:
    shutil.copytree(LIVE, tmp_path / "spoiled")
    (tmp_path / "spoiled" / "u8s8.onnx").write_bytes(b"")
    for live, candidate, labelled, party in (
        (LIVE, tmp_path / "spoiled", HELD_OUT, Party.CANDIDATE),
        (tmp_path / "spoiled", LIVE, HELD_OUT, Party.LIVE),
        (LIVE, LIVE, LIVE, Party.EVALUATION),
        (LIVE, find_package("face-blur"), HELD_OUT, Party.CANDIDATE),
    ):
        with pytest.raises(Unjudgeable) as fault:
            judge_states(live, candidate, labelled)
        assert fault.value.party is party


# --- what learning takes from it ----------------------------------------------------------------------


def test_what_is_learned_from_starts_where_the_package_is() -> None:
    learnable = load_learnable(LIVE)
    assert (learnable.title, learnable.classes, learnable.size) == ("light-state@1.0", ("red", "yellow", "green"), 32)
    assert learnable.layout.size == len(learnable.parameters) == 10_283
    manifest = load_package(LIVE).manifest_of(StateManifest)
    assert learnable.base == manifest.training.parameters.sha256 == manifest.lineage.weights_sha256
    assert learnable.graph_sha256 == manifest.training.graph.sha256
    assert learnable.graph.batch == manifest.training.batch


def test_integers_tell_what_the_floats_tell(crops: Crops) -> None:
    """Of all held-out crops at most one otherwise."""
    from simulator.learning.proof import right_with

    session = Session(load_package(LIVE))
    said = np.array([int(session.run(picture)[0].argmax()) for picture in crops.pictures]) == crops.labels
    assert int((said != right_with(crops)(parameters_of(load_package(LIVE)))).sum()) <= 1
