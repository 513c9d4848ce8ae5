"""The workbench of real packages: what speaks against a candidate, and what against nobody."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import inference
from inference.errors import InferenceError, PackageRefused
from inference.package import MODELS_FOLDER
from inference.verdict import Outcome
from receiver.learning.order import Lineage, Unfit, Vector, vector
from receiver.learning.packagebench import PackageBench

LIVE = MODELS_FOLDER / "light-state-1.0"
CROPS = Path(inference.__file__).parent / "evaluations" / "lights-1.0"
LEARNED = Lineage("lights-1", "a" * 64, 1, 3, "b" * 64)
BENCH = PackageBench()


def start() -> Vector:
    return vector(BENCH.look(LIVE, CROPS).parameters)


def built(parameters: Vector) -> dict[str, bytes]:
    return BENCH.build(LIVE, parameters, "1.0.1", CROPS, LEARNED)


def test_what_changed_nothing_isnt_worse() -> None:
    assert BENCH.judge(LIVE, built(start()), CROPS).outcome is not Outcome.FAILED


@pytest.mark.parametrize("factor", [-1.0, 1e3, 1e30, 0.0])
def test_whatever_finite_numbers_an_aggregate_comes_to_nobody_else_is_blamed_and_none_pass(factor: float) -> None:
    try:
        files = built((start() * np.float64(factor)).astype(np.float32))
        outcome = BENCH.judge(LIVE, files, CROPS).outcome
    except InferenceError:
        return
    assert outcome is not Outcome.PASSED


def test_a_candidate_that_isnt_what_it_says_speaks_against_itself() -> None:
    files = built(start())
    with pytest.raises(PackageRefused):
        BENCH.judge(LIVE, {**files, "u8s8.onnx": files["u8s8.onnx"][:-1]}, CROPS)


def test_crops_and_live_packages_that_are_damaged_speak_against_no_candidate(tmp_path: Path) -> None:
    files = built(start())
    crops = Path(shutil.copytree(CROPS, tmp_path / "crops"))
    (crops / "sheet.webp").write_bytes(b"no picture")
    with pytest.raises(Unfit):
        BENCH.judge(LIVE, files, crops)
    live = Path(shutil.copytree(LIVE, tmp_path / "live"))
    (live / "u8s8.onnx").unlink()
    with pytest.raises(Unfit):
        BENCH.judge(live, files, CROPS)


def test_crops_of_other_classes_judge_nothing_of_it(tmp_path: Path) -> None:
    crops = Path(shutil.copytree(CROPS, tmp_path / "crops"))
    manifest = json.loads((crops / "crops.json").read_text())
    manifest["classes"][0]["label"] = "purple"
    (crops / "crops.json").write_text(json.dumps(manifest))
    with pytest.raises(PackageRefused, match=r"show purple, yellow, green, light-state@1\.0 tells red"):
        BENCH.look(LIVE, crops)
