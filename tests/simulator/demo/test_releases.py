"""Releases that only a judgement can tell are worse: everything else about them is in order."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from time import process_time_ns

import pytest

from inference.comparison import load_comparison
from inference.evaluation import DEFAULT_EVALUATION
from inference.package import find_package, load_package
from inference.session import Session, read_canvas
from inference.verdict import Outcome, Verdict
from simulator.demo.releases import BLIND_FOR, GOOD, VARIANT, Flaw, again, worse


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Mapping[Flaw, Path]:
    folder = tmp_path_factory.mktemp("releases")
    return {flaw: worse(flaw, f"2.{number}", folder / flaw) for number, flaw in enumerate(Flaw, 2)}


def verdict(candidate: Path) -> Verdict:
    comparison = load_comparison(find_package(GOOD), candidate, DEFAULT_EVALUATION)
    return comparison.run(process_time_ns, lambda done, of: None)


@pytest.mark.parametrize("flaw", Flaw)
def test_each_loads_and_holds_its_golden_vectors(releases: Mapping[Flaw, Path], flaw: Flaw) -> None:
    package = load_package(releases[flaw])
    assert package.manifest.version == f"2.{list(Flaw).index(flaw) + 2}"
    assert Session(package).chosen.variant == VARIANT


@pytest.mark.parametrize(
    ("flaw", "words"),
    [
        # The same judgement as of the mute one, and the demo makes it of both.
        pytest.param(Flaw.SCRAMBLED, "the candidate finds none", marks=pytest.mark.soak),
        (Flaw.SLOW, "too slow"),
        (Flaw.MUTE, "the candidate finds none"),
    ],
)
def test_each_is_found_worse_for_its_own_flaw(releases: Mapping[Flaw, Path], flaw: Flaw, words: str) -> None:
    found = verdict(releases[flaw])
    assert found.outcome is Outcome.FAILED
    assert words in found.words
    if flaw is Flaw.SLOW:
        assert found.speed.low > found.speed.at_most
        assert found.classes[0].outcome is Outcome.PASSED


def test_the_slow_one_answers_the_same_to_the_bit_and_the_mute_one_but_for_cars(releases: Mapping[Flaw, Path]) -> None:
    good = load_package(find_package(GOOD))
    only = good.manifest.model_copy(update={"variants": good.manifest.variants[1:]})
    sound = Session(type(good)(good.folder, only, good.digest))
    assert sound.chosen.variant == VARIANT
    slow, mute = (Session(load_package(releases[flaw])) for flaw in (Flaw.SLOW, Flaw.MUTE))
    others = [label != BLIND_FOR for label in good.manifest.classes]
    for entry in good.manifest.golden.canvases:
        scores, places = sound.run(read_canvas(good, entry))
        same_scores, same_places = slow.run(read_canvas(good, entry))
        assert (same_scores == scores).all()
        assert (same_places == places).all()
        mute_scores, mute_places = mute.run(read_canvas(good, entry))
        assert (mute_places == places).all()
        assert (mute_scores[:, others] == scores[:, others]).all()
        assert mute_scores.max(axis=0)[others.index(False)] < 1e-6


def test_the_good_one_again_is_another_release_of_the_same_bytes(tmp_path: Path) -> None:
    package, good = load_package(again("2.1", tmp_path / "again")), load_package(find_package(GOOD))
    assert package.title == "drive-detect@2.1"
    assert package.manifest.variants == good.manifest.variants
