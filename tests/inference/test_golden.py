"""Laws of the golden check: what is expected is there, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.decode import BINS, cell_count
from inference.golden import GoldenCheck
from inference.manifest import AnyObjectsManifest, DetectManifest, ExpectedObject
from inference.package import load_package
from tests.inference.tiny import SIDE, write_package

Outputs = tuple[NDArray[np.float32], NDArray[np.float32]]
CELL = 8 * 3 + 3  # stride 8, row 3, column 3: centre (27.5, 27.5)
BOX = (19.5, 19.5, 35.5, 35.5)
FAR = 8 * 7 + 7


@pytest.fixture
def manifest(tmp_path: Path) -> AnyObjectsManifest:
    return load_package(write_package(tmp_path / "tiny")).manifest_of(DetectManifest)


def outputs(cells: dict[int, float], label: int = 0, distance: int = 1) -> Outputs:
    """Each cell sees an object of so many strides to all sides, at its score."""
    scores = np.zeros((cell_count((SIDE, SIDE)), 2), np.float32)
    distances = np.zeros((cell_count((SIDE, SIDE)), 4 * BINS), np.float32)
    for cell, score in cells.items():
        scores[cell, label] = score
        distances[cell, distance::BINS] = 40
    return scores, distances


def difference(manifest: AnyObjectsManifest, got: Outputs, *expected: ExpectedObject) -> str | None:
    return GoldenCheck(manifest).first_difference(expected, got)


def expect(score: float = 0.6, label: str = "car") -> ExpectedObject:
    return ExpectedObject(label=label, score=score, box=BOX)


@pytest.mark.parametrize("score", [0.56, 0.6, 0.64])
def test_an_object_within_the_tolerance_holds(manifest: AnyObjectsManifest, score: float) -> None:
    assert difference(manifest, outputs({CELL: score}), expect()) is None


@pytest.mark.parametrize(
    ("got", "said"),
    [
        (outputs({CELL: 0.54}), "the object at score 0.600 is off by 0.060"),
        (outputs({CELL: 0.66}), "the object at score 0.600 is off by 0.060"),
        (outputs({CELL: 0.6}, label=1), "the object at score 0.600 isn't found"),
        (outputs({CELL: 0.6}, distance=2), "the object at score 0.600 isn't found"),
        (outputs({CELL + 1: 0.6}), "the object at score 0.600 isn't found"),
        (outputs({}), "the object at score 0.600 isn't found"),
        (outputs({CELL: 0.6, FAR: 0.4}), "an object at score 0.400 isn't expected"),
    ],
)
def test_anything_else_is_told(manifest: AnyObjectsManifest, got: Outputs, said: str) -> None:
    assert difference(manifest, got, expect()) == said


def test_an_object_near_the_limit_may_fall_below_it_and_one_below_may_rise(manifest: AnyObjectsManifest) -> None:
    assert difference(manifest, outputs({CELL: 0.27}), expect(score=0.31)) is None
    assert difference(manifest, outputs({FAR: 0.34})) is None
    assert difference(manifest, outputs({FAR: 0.36})) == "an object at score 0.360 isn't expected"


def test_which_of_two_equally_sure_cells_stands_doesnt_matter(manifest: AnyObjectsManifest) -> None:
    scores, distances = outputs({CELL: 0.60, CELL + 1: 0.61}, distance=5)
    wide = ExpectedObject(label="car", score=0.6, box=(0, 0, 64, 64))
    assert difference(manifest, (scores, distances), wide) is None


def test_an_empty_canvas_holds_when_nothing_is_seen(manifest: AnyObjectsManifest) -> None:
    assert difference(manifest, outputs({})) is None
