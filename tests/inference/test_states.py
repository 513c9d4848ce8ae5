"""States told of boxes: of light-state itself, of what can't be told, and within a real worker's frames."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from inference.crops import Crops, load_crops
from inference.evaluation import EVALUATIONS_FOLDER
from inference.manifest import DetectManifest, StateManifest
from inference.outputs import Outputs, softmax
from inference.package import find_package, load_package
from inference.session import Session
from inference.states import SMALLEST_PX, State, StateTeller, cut_out, teller_of

LIGHTS = load_package(find_package("light-state"))
MANIFEST = LIGHTS.manifest_of(StateManifest)


@pytest.fixture(scope="module")
def held_out() -> Crops:
    return load_crops(EVALUATIONS_FOLDER / "lights-1.0")


@pytest.fixture(scope="module")
def teller() -> StateTeller:
    return teller_of(Session(LIGHTS))


class Says:
    """A model with one answer, and what it was shown."""

    def __init__(self, *logits: float) -> None:
        self.shown: list[NDArray[np.uint8]] = []
        self._logits = np.array(logits, np.float32)

    def run(self, canvas: NDArray[np.uint8]) -> Outputs:
        self.shown.append(canvas)
        return (self._logits,)


def saying(*logits: float) -> StateTeller:
    return StateTeller(Says(*logits), "traffic_light", MANIFEST.input, MANIFEST.classes, MANIFEST.sure_from)


def test_it_tells_what_its_manifest_says_it_tells(teller: StateTeller, held_out: Crops) -> None:
    size = held_out.manifest.size
    box = (10.0, 20.0, 10.0 + size, 20.0 + size)
    right = dict.fromkeys(MANIFEST.classes, 0)
    for picture, label in zip(held_out.pictures, held_out.labels, strict=True):
        frame = np.full((100, 100, 3), 99, np.uint8)
        frame[20 : 20 + size, 10 : 10 + size] = picture
        state = teller.tell(frame, box)
        assert state is not None
        right[MANIFEST.classes[label]] += state.label == MANIFEST.classes[label]
    told = {figure.label: figure.right for figure in MANIFEST.accuracy.figures}
    # Below sure_from nothing is told, which counts as wrong here.
    assert all(told[label] - 4 <= found <= told[label] for label, found in right.items())
    assert right["red"] > 170
    assert right["green"] > 100


@pytest.mark.parametrize(
    ("logits", "label"), [((5.0, 0.0, 0.0), "red"), ((0.0, 0.0, 5.0), "green"), ((0.1, 0.0, 0.0), "")]
)
def test_what_isnt_sure_enough_isnt_told(logits: tuple[float, ...], label: str) -> None:
    state = saying(*logits).tell(np.zeros((50, 50, 3), np.uint8), (5.0, 5.0, 30.0, 45.0))
    assert state is not None
    assert state.label == label
    assert state.score == pytest.approx(float(softmax(np.array(logits, np.float32)).max()))


@pytest.mark.parametrize(
    "box",
    [
        (10.0, 10.0, 10.0 + SMALLEST_PX - 1, 40.0),
        (10.0, 10.0, 40.0, 10.0 + SMALLEST_PX - 1),
        (48.0, 5.0, 90.0, 45.0),
        (-40.0, 5.0, 3.0, 45.0),
        (60.0, 60.0, 90.0, 90.0),
    ],
)
def test_of_hardly_any_pixels_nothing_is_told(box: tuple[float, float, float, float]) -> None:
    assert saying(9.0, 0.0, 0.0).tell(np.zeros((50, 50, 3), np.uint8), box) is None


def test_a_box_is_cut_out_where_it_lies_and_its_mean_stays(held_out: Crops) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    cut = cut_out(frame, (20.4, 9.6, 84.3, 74.2), (32, 32))
    assert cut is not None
    assert (cut == cv2.resize(frame[10:74, 20:84], (32, 32), interpolation=cv2.INTER_AREA)).all()


def test_the_states_are_of_something_that_the_live_model_finds() -> None:
    finds = load_package(find_package("drive-detect@2.0")).manifest_of(DetectManifest).classes
    assert MANIFEST.of in finds
    assert isinstance(State("", 0.5), State)
