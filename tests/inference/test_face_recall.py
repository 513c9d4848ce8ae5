"""Laws of the scenes that recall is measured on, and of the measurement; a small one of the shipped model.

The portrait is in scikit-image's wheel: nothing is fetched. The whole measurement, with the second portrait, is the
build's.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from inference.build.face_recall import BAR, COVERED, FACE_PX, false_alarms, recall_by_size, share_of
from inference.build.frames import every_frame
from inference.build.pins import DRIVE_SHA256
from inference.build.portraits import Portrait, collins
from inference.build.scenes import PERSONS_PER_FACE, compose, cut_head
from inference.faces import FaceDetector, face_detector_of
from inference.manifest import FacesManifest
from inference.package import find_package, load_package
from inference.recall import wilson_low
from inference.session import Session
from telemetry.privacy.covering import Box, cover, head_of, person_cover

DRIVE = Path(__file__).parents[2] / "simulator" / "drives" / "solidWhiteRight.mp4"
FACES = 12


@pytest.fixture(scope="module")
def portrait() -> Portrait:
    return collins()


@pytest.fixture(scope="module")
def roads() -> list[NDArray[np.uint8]]:
    return list(every_frame(DRIVE, step=60))


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return face_detector_of(Session(load_package(find_package("face-blur@1.0"))))


@pytest.fixture(scope="module")
def manifest() -> FacesManifest:
    return load_package(find_package("face-blur@1.0")).manifest_of(FacesManifest)


def as_box(box: NDArray[np.float32]) -> Box:
    x1, y1, x2, y2 = box.tolist()
    return x1, y1, x2, y2


@given(st.integers(0, 2**32 - 1), st.sampled_from(FACE_PX))
@settings(max_examples=20)
def test_a_scenes_face_lies_in_the_frame_and_its_head_is_at_the_top_of_its_person(seed: int, size: int) -> None:
    road = np.full((540, 960, 3), 90, np.uint8)
    scene = compose(collins(), road, size, np.random.default_rng(seed))
    assert scene.frame.shape == road.shape
    x1, y1, x2, y2 = as_box(scene.face)
    assert -1 <= x1 < x2 <= 961
    assert -1 <= y1 < y2 <= 541
    assert 0.9 * size <= y2 - y1 <= 1.05 * size
    # The reach of a head, as the redactor covers it, holds the face.
    assert share_of(scene.face, np.array([head_of(as_box(scene.person))], np.float32))[0] >= COVERED


def test_a_scene_is_its_seed(portrait: Portrait, roads: list[NDArray[np.uint8]]) -> None:
    first, again, other = (compose(portrait, roads[0], 24, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first.frame.tobytes() == again.frame.tobytes()
    assert first.face.tobytes() == again.face.tobytes()
    assert first.face.tobytes() != other.face.tobytes()


@pytest.mark.parametrize("tilt_deg", [-20, 0, 20])
def test_a_cut_heads_face_is_as_high_as_asked_and_in_the_middle(portrait: Portrait, tilt_deg: float) -> None:
    head = cut_head(portrait, 64, tilt_deg)
    middle = len(head.opacity) // 2
    assert head.opacity[middle - 20 : middle + 20, middle - 15 : middle + 15].min() > 0.99
    assert head.opacity[0].max() == head.opacity[-1].max() == 0.0
    assert head.half_face[1] == pytest.approx(32, rel=0.05)


@pytest.mark.parametrize(
    ("box", "share"),
    [
        ((0, 0, 10, 10), 1.0),
        ((0, 0, 10, 5), 0.5),
        ((5, 5, 15, 15), 0.25),
        ((10, 0, 20, 10), 0.0),
        ((-9, -9, 99, 99), 1),
    ],
)
def test_a_share_is_of_the_faces_own_area(box: Box, share: float) -> None:
    assert share_of(np.array([0, 0, 10, 10], np.float32), np.array([box], np.float32))[0] == share


@pytest.mark.soak
def test_the_shipped_model_finds_the_faces_that_its_card_says(
    detector: FaceDetector, portrait: Portrait, roads: list[NDArray[np.uint8]], manifest: FacesManifest
) -> None:
    told = {figure.face_px: figure for figure in manifest.recall.figures}
    for it in recall_by_size(detector, [portrait], roads, (12, 20, 48), FACES, seed=7):
        # A dozen scenes that the build never drew: no rate as low as the bound's would be a surprise, a lower one is.
        assert it.with_person.found >= np.floor(FACES * told[it.face_px].with_person.low) - 1
        assert it.alone.found >= np.floor(FACES * told[it.face_px].alone.low) - 2
        assert it.alone.low == round(wilson_low(it.alone.found, FACES), 4)


def test_a_person_without_a_head_is_no_face(
    detector: FaceDetector, portrait: Portrait, roads: list[NDArray[np.uint8]]
) -> None:
    """The control of the measurement: what is found is the head, not any place above a body."""
    faceless = Portrait("nobody", portrait.picture, portrait.face, (0, 0, 1, 1))
    (figure,) = recall_by_size(detector, [faceless], roads, (32,), FACES, seed=7)
    assert figure.with_person.found <= FACES // 4


def test_an_empty_road_is_hardly_covered(
    detector: FaceDetector, roads: list[NDArray[np.uint8]], manifest: FacesManifest
) -> None:
    alarms, area = false_alarms(detector, roads)
    assert alarms <= 2 * manifest.recall.alarms_per_frame + 1
    assert area <= 0.02


def test_the_shipped_figures_are_of_the_default_drive_and_of_enough_faces(manifest: FacesManifest) -> None:
    report = manifest.recall
    assert report.drive_sha256 == DRIVE_SHA256
    assert tuple(figure.face_px for figure in report.figures) == FACE_PX
    assert all(figure.faces >= 200 for figure in report.figures)
    assert (report.bar, report.covered, report.persons_per_face) == (BAR, COVERED, PERSONS_PER_FACE)


def test_nothing_of_a_person_below_the_trusted_height_is_left(
    portrait: Portrait, roads: list[NDArray[np.uint8]], manifest: FacesManifest
) -> None:
    scene = compose(portrait, roads[0], 10, np.random.default_rng(3))
    person = as_box(scene.person)
    trusted = manifest.recall.trusted_person_px
    assert trusted is None or person[3] - person[1] < trusted
    picture = scene.frame.copy()
    cover(picture, [person_cover(person, trusted)])
    left, top, right, bottom = (int(side) for side in person)
    assert np.ptp(picture[top:bottom, left:right]) == 0
