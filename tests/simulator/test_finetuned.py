"""A fine-tuned package is one that vehicles would take: of the same shape, with other weights, and not worse."""

from __future__ import annotations

from pathlib import Path

from inference.build.packing import write_package
from inference.floor import GateFloor
from inference.package import find_package, load_package
from inference.statejudge import judge_states
from inference.verdict import Outcome
from simulator.learning.finetuned import fine_tuned
from simulator.learning.proof import HELD_OUT

LIVE = find_package("light-state@1.0")


def test_a_fine_tuned_light_state_is_as_large_as_the_one_before_and_passes_where_yellow_is_excused(
    tmp_path: Path,
) -> None:
    write_package(tmp_path / "tuned", fine_tuned())
    before, after = load_package(LIVE), load_package(tmp_path / "tuned")
    sizes = [[variant.bytes for variant in package.manifest.variants] for package in (before, after)]
    assert sizes[0] == sizes[1]
    assert all(
        was.sha256 != now.sha256 for was, now in zip(before.manifest.variants, after.manifest.variants, strict=True)
    )
    assert judge_states(LIVE, tmp_path / "tuned", HELD_OUT, GateFloor(excused=("yellow",))).outcome is Outcome.PASSED
    # Nine yellow crops show nothing, however many of them it tells right.
    strict = judge_states(LIVE, tmp_path / "tuned", HELD_OUT)
    assert strict.outcome is Outcome.UNDECIDED
    assert [one.outcome for one in strict.classes] == [Outcome.PASSED, Outcome.UNDECIDED, Outcome.PASSED]
