"""The state of a thing that somebody else has found: its box cut out, shrunk, and told by a small model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from inference.manifest import CropInput, StateManifest
from inference.outputs import softmax
from inference.session import Runner, Session

SMALLEST_PX: Final = 6
"""Of a box's shorter side: below it there is nothing to tell."""

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class State:
    """`score` is the softmax of the surest one, 0 to 1; `label` is empty where that isn't sure enough."""

    label: str
    score: float


class StateTeller:
    """Tells the state of one box after the other, of things found under the label `of`."""

    def __init__(self, runner: Runner, of: str, crop: CropInput, classes: tuple[str, ...], sure_from: float) -> None:
        self.of = of
        self._runner = runner
        self._hw = crop.height, crop.width
        self._classes = classes
        self._sure_from = sure_from

    def tell(self, frame: NDArray[np.uint8], box: Box) -> State | None:
        """Of frame (H, W, 3) uint8 BGR and a box, xyxy in its pixels; None where the box is too small to tell. Raises
        ModelFault."""
        cut = cut_out(frame, box, self._hw)
        if cut is None:
            return None
        (logits,) = self._runner.run(cut)
        scores = softmax(logits)
        surest = int(scores.argmax())
        score = float(scores[surest])
        return State(self._classes[surest] if score >= self._sure_from else "", score)


def teller_of(session: Session) -> StateTeller:
    """Raises PackageRefused for a package of another task."""
    manifest = session.package.manifest_of(StateManifest)
    return StateTeller(session, manifest.of, manifest.input, manifest.classes, manifest.sure_from)


def cut_out(frame: NDArray[np.uint8], box: Box, crop_hw: tuple[int, int]) -> NDArray[np.uint8] | None:
    """The box's pixels within the frame as a canvas (height, width, 3); None where hardly any are."""
    height, width = frame.shape[:2]
    x1, y1 = (max(0, round(side)) for side in box[:2])
    x2, y2 = min(width, round(box[2])), min(height, round(box[3]))
    if min(x2 - x1, y2 - y1) < SMALLEST_PX:
        return None
    cut = cv2.resize(frame[y1:y2, x1:x2], crop_hw[::-1], interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(cut, np.uint8)
