"""Laws of the detector: the model's boxes end up where they were seen, in frames of any size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.decode import BINS, cell_count
from inference.detector import Detector, detector_of
from inference.manifest import DetectManifest
from inference.package import load_package
from inference.session import Session
from tests.inference.tiny import SIDE, write_package


class Scripted:
    """Answers every canvas with one certain cell, and keeps what it was shown."""

    def __init__(self, cell: int, distance: int) -> None:
        self.shown: list[NDArray[np.uint8]] = []
        self._scores = np.zeros((cell_count((SIDE, SIDE)), 2), np.float32)
        self._scores[cell, 0] = 0.9
        self._distances = np.zeros((cell_count((SIDE, SIDE)), 4 * BINS), np.float32)
        self._distances[cell, distance::BINS] = 40

    def run(self, canvas: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        self.shown.append(canvas.copy())
        return self._scores, self._distances


@pytest.fixture
def manifest(tmp_path: Path) -> DetectManifest:
    return load_package(write_package(tmp_path / "tiny")).manifest_of(DetectManifest)


def detector(runner: Scripted, manifest: DetectManifest) -> Detector:
    return Detector(runner, manifest.input, manifest.outputs, manifest.thresholds)


def test_boxes_are_in_the_frames_pixels(manifest: DetectManifest) -> None:
    seen = detector(Scripted(0, 1), manifest).detect(np.zeros((320, 640, 3), np.uint8))
    np.testing.assert_allclose(seen.boxes, [[0, 0, 115, 115]], atol=0.5)  # (3.5 + 8) canvas pixels, ten to one


def test_what_lies_wholly_in_the_fill_is_dropped(manifest: DetectManifest) -> None:
    below_the_picture = Scripted(8 * 7, 1)
    assert len(detector(below_the_picture, manifest).detect(np.zeros((320, 640, 3), np.uint8))) == 0
    assert len(detector(below_the_picture, manifest).detect(np.zeros((640, 640, 3), np.uint8))) == 1


def test_a_frame_of_another_size_leaves_nothing_of_the_one_before(manifest: DetectManifest) -> None:
    runner = Scripted(0, 1)
    seeing = detector(runner, manifest)
    seeing.detect(np.full((640, 640, 3), 200, np.uint8))
    seeing.detect(np.full((320, 640, 3), 200, np.uint8))
    assert (runner.shown[0] == 200).all()
    assert (runner.shown[1][:32] == 200).all()
    assert (runner.shown[1][32:] == 114).all()


def test_the_packages_own_score_holds_unless_another_is_asked_for(manifest: DetectManifest) -> None:
    seeing = detector(Scripted(0, 1), manifest)
    frame = np.zeros((64, 64, 3), np.uint8)
    assert len(seeing.detect(frame)) == 1
    assert len(seeing.detect(frame, score_threshold=0.95)) == 0


def test_a_bright_thing_is_found_where_it_is(tmp_path: Path) -> None:
    session = Session(load_package(write_package(tmp_path / "tiny")))
    frame = np.zeros((640, 640, 3), np.uint8)
    frame[320:480, 160:320] = 255
    seen = detector_of(session).detect(frame)
    assert len(seen) > 0
    centres = (seen.boxes[:, :2] + seen.boxes[:, 2:]) / 2
    assert ((centres > (160, 320)) & (centres < (320, 480))).all()
