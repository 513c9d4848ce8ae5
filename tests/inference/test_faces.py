"""Laws of the face detector: it looks everywhere, tells where in the frame, and the same each time."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from inference.blazeface import MAX_CANDIDATES, FaceDecoder
from inference.build.face_card import card_text
from inference.build.kernels import Kernels, options_for
from inference.detector import detector_of
from inference.errors import PackageRefused
from inference.faces import FaceDetector, Region, face_detector_of, head_region, tiles, widened
from inference.manifest import MANIFEST_FILE, FacesManifest, Margin
from inference.package import ModelPackage, find_package, load_package
from inference.session import Engine, Runner, Session, contract_of, golden_fault, open_engine, read_canvas
from inference.verify import verify
from tests.inference.tiny import Manifest, put

FACES = "face-blur@1.0"
CELLS = 48 * 48
lengths = st.integers(1, 2200)
Outputs = tuple[NDArray[np.float32], NDArray[np.float32]]


@pytest.fixture(scope="module")
def package() -> ModelPackage:
    return load_package(find_package(FACES))


@pytest.fixture(scope="module")
def manifest(package: ModelPackage) -> FacesManifest:
    return package.manifest_of(FacesManifest)


@pytest.fixture(scope="module")
def session(package: ModelPackage) -> Session:
    return Session(package)


class Bright:
    """Sees one face of 20 canvas pixels wherever a canvas is brightest, and keeps count of the canvases."""

    def __init__(self) -> None:
        self.looks = 0

    def run(self, canvas: NDArray[np.uint8]) -> Outputs:
        self.looks += 1
        cells = canvas.reshape(48, 4, 48, 4, 3).mean(axis=(1, 3, 4)).reshape(-1)
        scores, boxes = np.zeros((CELLS, 1), np.float32), np.zeros((CELLS, 4), np.float32)
        if cells.max() > 200:
            scores[cells.argmax()] = 0.9
            boxes[cells.argmax(), 2:] = 20
        return scores, boxes


def detector(runner: Runner, manifest: FacesManifest) -> FaceDetector:
    return FaceDetector(runner, manifest.input, manifest.outputs, manifest.thresholds, manifest.search)


def covered(regions: list[Region], frame_hw: tuple[int, int]) -> NDArray[np.bool_]:
    seen = np.zeros(frame_hw, np.bool_)
    for region in regions:
        seen[region.y : region.y + region.height, region.x : region.x + region.width] = True
    return seen


@pytest.mark.parametrize("frame_hw", [(0, 0), (0, 9), (9, 0)])
def test_a_frame_without_pixels_is_refused(frame_hw: tuple[int, int], manifest: FacesManifest) -> None:
    with pytest.raises(ValueError, match="no pixels"):
        detector(Bright(), manifest).detect(np.zeros((*frame_hw, 3), np.uint8))


@given(st.integers(1, 400), st.integers(1, 400), st.integers(32, 300), st.integers(0, 60))
def test_the_tiles_cover_every_pixel_and_none_is_outside(height: int, width: int, side: int, overlap: int) -> None:
    regions = tiles((height, width), side, overlap)
    assert covered(regions, (height, width)).all()
    assert all(r.x >= 0 and r.y >= 0 and r.x + r.width <= width and r.y + r.height <= height for r in regions)
    assert all(r.width == min(r.width, width) and r.width > 0 and r.height > 0 for r in regions)
    assert len(set(regions)) == len(regions)


@given(lengths, lengths, st.integers(32, 300), st.integers(0, 31), st.data())
def test_what_is_no_larger_than_the_overlap_lies_whole_in_some_tile(
    height: int, width: int, side: int, overlap: int, data: st.DataObject
) -> None:
    size = min(overlap, side // 2, height, width)
    x, y = data.draw(st.integers(0, width - size)), data.draw(st.integers(0, height - size))
    fine = [region for region in tiles((height, width), side, overlap) if region.width == min(side, width)]
    assert any(r.x <= x and r.y <= y and x + size <= r.x + r.width and y + size <= r.y + r.height for r in fine)


@given(lengths, lengths)
def test_the_number_of_tiles_grows_with_the_area_alone(height: int, width: int) -> None:
    assert (
        len(tiles((height, width), 240, 24))
        <= (height / 216 + 2) * (width / 216 + 2) + 2 * max(height / width, width / height) + 2
    )


anything = st.floats(allow_nan=True, allow_infinity=True, width=32) | st.floats(-50, 1000)


@given(st.lists(anything, min_size=4, max_size=4), st.floats(0.1, 1.0))
def test_a_heads_region_lies_inside_the_frame_whatever_the_box(person: list[float], head_crop: float) -> None:
    region = head_region(person, (540, 960), head_crop)
    if region:
        assert region.width > 0
        assert region.height > 0
        assert 0 <= region.x <= 960 - region.width
        assert 0 <= region.y <= 540 - region.height


@pytest.mark.parametrize(
    "person",
    [
        [9.0, 9, 9, 50],
        [9, 9, 50, 9],
        [50, 9, 9, 50],
        [2000, 9, 2100, 400],
        [float("nan"), 0, 9, 9],
        [0, 0, float("inf"), 9],
    ],
)
def test_a_box_of_nobody_is_looked_at_by_nobody(person: list[float], manifest: FacesManifest) -> None:
    assert head_region(person, (540, 960), 0.6) is None
    runner, frame = Bright(), np.zeros((540, 960, 3), np.uint8)
    detector(runner, manifest).detect(frame)
    looks = runner.looks
    detector(runner, manifest).detect(frame, np.array([person], np.float32))
    assert runner.looks == 2 * looks


def test_no_canvas_has_more_faces_than_can_be_compared_and_the_surest_stay() -> None:
    decoder, boxes = FaceDecoder((192, 192), 4), np.full((CELLS, 4), 8, np.float32)
    scores = np.linspace(0.2, 1, CELLS, dtype=np.float32)[:, None]
    found = decoder.candidates(scores, boxes, 0.2)
    assert len(found) == MAX_CANDIDATES
    assert found.scores.min() == np.sort(scores[:, 0])[-MAX_CANDIDATES]


def test_a_face_at_the_threshold_is_one() -> None:
    scores, boxes = np.zeros((CELLS, 1), np.float32), np.full((CELLS, 4), 8, np.float32)
    scores[7] = np.float32(0.2)
    assert len(FaceDecoder((192, 192), 4).candidates(scores, boxes, 0.2)) == 1


def test_where_a_persons_head_must_be_a_face_is_believed_sooner(manifest: FacesManifest) -> None:
    """Nowhere else is an unsure one: signs and wheels would cover the picture."""

    class Unsure(Bright):
        def run(self, canvas: NDArray[np.uint8]) -> Outputs:
            scores, boxes = super().run(canvas)
            scores[scores > 0] = (manifest.search.head_score + manifest.thresholds.score) / 2
            return scores, boxes

    assert manifest.search.head_score < manifest.thresholds.score
    frame = np.zeros((540, 960, 3), np.uint8)
    frame[102:118, 412:428] = 255
    someone, elsewhere = [400.0, 100.0, 440.0, 200.0], [700.0, 300.0, 740.0, 400.0]
    seen = detector(Unsure(), manifest)
    assert len(seen.detect(frame)) == 0
    assert len(seen.detect(frame, np.array([elsewhere], np.float32))) == 0
    (box,) = seen.detect(frame, np.array([elsewhere, someone], np.float32)).boxes
    assert np.abs((box[:2] + box[2:]) / 2 - (420, 110)).max() <= 12


def test_a_heads_region_holds_the_upper_part_of_an_upright_person() -> None:
    assert head_region([400, 100, 440, 200], (540, 960), 0.6) == Region(390, 80, 60, 60)


def test_a_heads_region_is_as_wide_as_who_sits_or_rides() -> None:
    assert head_region([400, 200, 600, 250], (540, 960), 0.6) == Region(400, 105, 200, 200)


@pytest.mark.parametrize("frame_hw", [(540, 960), (720, 1280), (192, 192), (100, 700), (1080, 320)])
def test_a_face_is_told_in_the_frames_pixels_widened_and_clipped(
    frame_hw: tuple[int, int], manifest: FacesManifest
) -> None:
    rng = np.random.default_rng(5)
    for _ in range(5):
        x, y = rng.integers(8, frame_hw[1] - 8), rng.integers(8, frame_hw[0] - 8)
        frame = np.zeros((*frame_hw, 3), np.uint8)
        frame[y - 8 : y + 8, x - 8 : x + 8] = 255
        seen = detector(Bright(), manifest).detect(frame)
        assert len(seen) > 0
        middle = (seen.boxes[:, :2] + seen.boxes[:, 2:]) / 2
        assert ((seen.boxes >= 0) & (seen.boxes <= (*frame_hw[::-1], *frame_hw[::-1]))).all()
        assert (np.abs(middle - (x, y)) <= (seen.boxes[:, 2:] - seen.boxes[:, :2]) / 2 + 12).all()


def test_hair_and_chin_belong_to_every_face_that_is_told(manifest: FacesManifest) -> None:
    frame = np.zeros((192, 192, 3), np.uint8)
    frame[88:104, 88:104] = 255
    margin = manifest.search.margin
    (box,) = detector(Bright(), manifest).detect(frame).boxes
    assert box[2] - box[0] == pytest.approx(20 * (1 + 2 * margin.sides))
    assert box[3] - box[1] == pytest.approx(20 * (1 + margin.up + margin.down))


def test_a_margin_is_added_on_its_own_side() -> None:
    wide = widened(np.array([[10, 20, 20, 40]], np.float32), Margin(sides=0.5, up=0.25, down=0.75))
    np.testing.assert_allclose(wide, [[5, 15, 25, 55]])


@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_a_face_is_its_cells_middle_and_offset_and_size(seed: int, threshold: float) -> None:
    rng = np.random.default_rng(seed)
    scores, boxes = rng.random((CELLS, 1), np.float32), rng.normal(0, 9, (CELLS, 4)).astype(np.float32)
    seen = FaceDecoder((192, 192), 4).candidates(scores, boxes, threshold)
    assert (seen.scores >= np.float32(threshold)).all()
    assert (np.diff(seen.scores) <= 0).all()
    for box, score in zip(seen.boxes[:5], seen.scores[:5], strict=True):
        (cell,) = np.flatnonzero((scores[:, 0] == score) & (boxes[:, 2:] > 0).all(axis=1))
        x, y, width, height = boxes[cell]
        x, y = x + 4 * (cell % 48) + 2, y + 4 * (cell // 48) + 2
        np.testing.assert_allclose(box, [x - width / 2, y - height / 2, x + width / 2, y + height / 2], atol=1e-3)


def test_a_face_without_a_size_is_none() -> None:
    scores, boxes = np.ones((CELLS, 1), np.float32), np.full((CELLS, 4), -1, np.float32)
    assert len(FaceDecoder((192, 192), 4).candidates(scores, boxes, 0.5)) == 0


def test_the_same_frame_gives_the_same_faces_in_whichever_order_persons_come(session: Session) -> None:
    frame = np.random.default_rng(2).integers(0, 256, (540, 960, 3), np.uint8)
    persons = np.array([[-60, 100, 40, 330], [500, 50, 600, 400], [700, 200, 740, 300]], np.float32)
    seeing = face_detector_of(session)
    first = seeing.detect(frame, persons)
    seeing.detect(frame[:300, :300])
    again = seeing.detect(frame, persons[::-1].copy())
    assert first.boxes.tobytes() == again.boxes.tobytes()
    assert first.scores.tobytes() == again.scores.tobytes()


def test_a_detector_of_one_task_takes_no_package_of_the_other(session: Session) -> None:
    with pytest.raises(PackageRefused, match="is for the task faces"):
        detector_of(session)
    with pytest.raises(PackageRefused, match="is for the task detect"):
        face_detector_of(Session(load_package(find_package("drive-detect@1.0"))))


def test_the_shipped_package_runs_here_and_its_card_says_what_its_manifest_says(
    package: ModelPackage, manifest: FacesManifest
) -> None:
    verdict = verify(package)
    assert verdict.chosen.variant == "fp16"
    assert set(dict(verdict.variants[0].admitted.operators)) == {
        "Add", "Cast", "Concat", "Conv", "MaxPool", "Mul", "Relu", "Reshape", "Resize", "Sigmoid", "Sub", "Transpose",
    }  # fmt: skip
    assert package.read(manifest.card).decode() == card_text(manifest)


def test_the_runtimes_fusions_change_nothing_that_the_golden_vectors_would_see(package: ModelPackage) -> None:
    (variant,) = package.manifest.variants
    for kernels in Kernels:
        engine = Engine(package.read(variant), contract_of(package.manifest), options_for(kernels))
        assert golden_fault(package, variant, engine) is None


class Altered:
    """The engine with what it is shown, or what it says, altered."""

    def __init__(self, engine: Engine, shown: Callable[[Any], Any], said: Callable[[Any, Any], Any]) -> None:
        self._engine, self._shown, self._said = engine, shown, said

    def run(self, canvas: NDArray[np.uint8]) -> Outputs:
        scores, boxes = self._said(*self._engine.run(self._shown(canvas)))
        return scores, boxes


def as_it_is(canvas: Any) -> Any:
    return canvas


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        (lambda canvas: canvas[::-1].copy(), lambda scores, boxes: (scores, boxes)),
        (as_it_is, lambda scores, boxes: (scores * np.float32(0.85), boxes)),
        (as_it_is, lambda scores, boxes: (scores, boxes + np.float32(6))),
        (as_it_is, lambda scores, boxes: (np.maximum(scores, np.float32(0.5)), boxes)),
    ],
)
def test_the_golden_vectors_catch_a_computer_that_sees_faces_otherwise(
    package: ModelPackage, shown: Callable[[Any], Any], said: Callable[[Any, Any], Any]
) -> None:
    (variant,) = package.manifest.variants
    engine = open_engine(package, variant)
    assert golden_fault(package, variant, Altered(engine, as_it_is, lambda *outputs: outputs)) is None
    assert golden_fault(package, variant, Altered(engine, shown, said)) is not None


def test_every_golden_canvas_shows_a_face(package: ModelPackage) -> None:
    (variant,) = package.manifest_of(FacesManifest).variants
    assert len(variant.golden) == 3
    for entry, objects in zip(package.manifest.golden.canvases, variant.golden, strict=True):
        assert read_canvas(package, entry).shape == (192, 192, 3)
        assert max(seen.score for seen in objects) >= 0.5


def spoiled(folder: Path, change: Callable[[Manifest], None]) -> Path:
    shutil.copytree(find_package(FACES), folder)
    manifest = json.loads((folder / MANIFEST_FILE).read_text())
    change(manifest)
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest))
    return folder


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (put("task", value="detect"), "outputs"),
        (put("task", value="lanes"), "task"),
        (put("classes", value=["face", "hand"]), "classes"),
        (put("outputs", "strides", value=[4]), "outputs.strides"),
        (put("search", "overlap_px", value=240), "overlap_px must be less than tile_px"),
        (put("recall", "trusted_person_px", value=60.0), "trusted_person_px 60.0 doesn't follow"),
        (put("recall", "trusted_person_px", value=None), "trusted_person_px None doesn't follow"),
        (put("recall", "bar", value=0.999), "doesn't follow from the figures"),
        (put("recall", "persons_per_face", value=8.0), "doesn't follow from the figures"),
        (put("recall", "figures", 0, "with_person", "found", value=200), "doesn't follow from 200 of 240"),
        (put("recall", "figures", 0, "alone", "found", value=241), "doesn't follow from 241 of 240"),
        (put("recall", "figures", 0, "alone", "low", value=0.99), "the bound 0.99 doesn't follow"),
    ],
)
def test_a_manifest_whose_words_dont_follow_from_its_figures_is_refused(
    tmp_path: Path, change: Callable[[Manifest], None], key: str
) -> None:
    with pytest.raises(PackageRefused) as refused:
        load_package(spoiled(tmp_path / "faces", change))
    assert key in str(refused.value)
