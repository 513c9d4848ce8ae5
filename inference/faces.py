"""Faces in a whole frame, so that they can be covered before the picture leaves the car.

The model sees 192x192 pixels and finds faces from about 10 of them up. Small faces are therefore looked for in tiles of
the frame at their own size, large ones in squares as high as the frame, and those of persons that somebody else found
in an enlarged crop around the head. To cover a face twice costs nothing and to miss one can't be mended, so what
overlaps is kept more readily than an object detector would.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.blazeface import FaceDecoder
from inference.decode import suppress
from inference.detections import Detections, joined
from inference.letterbox import Letterbox, blank_canvas
from inference.manifest import FaceOutputs, FaceSearch, FacesManifest, Margin, ModelInput, Thresholds
from inference.outputs import two_of
from inference.session import Runner, Session

NOBODY = np.zeros((0, 4), np.float32)
"""No person's box."""
_HEAD_MIDDLE = 0.1
"""Of a person's height, from above: where the middle of an upright head is."""


@dataclass(frozen=True, slots=True)
class Region:
    """A rectangle of whole pixels inside a frame, never empty."""

    x: int
    y: int
    width: int
    height: int

    def cut(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The frame's pixels, without a copy."""
        return frame[self.y : self.y + self.height, self.x : self.x + self.width]


class FaceDetector:
    """Sees frames of any size; keeps one canvas, drawn anew in place for each region."""

    def __init__(
        self, runner: Runner, model_input: ModelInput, outputs: FaceOutputs, thresholds: Thresholds, search: FaceSearch
    ) -> None:
        self._runner = runner
        self._thresholds = thresholds
        self._search = search
        self._fill = model_input.letterbox_fill
        self._canvas_hw = model_input.height, model_input.width
        self._decoder = FaceDecoder(self._canvas_hw, outputs.stride)
        self._canvas = blank_canvas(*self._canvas_hw, self._fill)

    def detect(self, frame: NDArray[np.uint8], persons: NDArray[np.float32] = NOBODY) -> Detections:
        """frame (H, W, 3) uint8 BGR, persons (M, 4) xyxy in its pixels -> faces, the surest first, label 0.

        Boxes are widened to cover hair and chin and clipped to the frame, none of them empty. A person's box that is
        empty, outside the frame or not finite is passed over. The same frame and persons give the same faces, in
        whichever order the persons come. Raises ModelFault, and ValueError for a frame without pixels.
        """
        search, frame_hw = self._search, (frame.shape[0], frame.shape[1])
        if not frame.size:
            raise ValueError(f"a frame of {frame_hw} has no pixels to look at")
        seen = [
            self._look(frame, region, self._thresholds.score)
            for region in tiles(frame_hw, search.tile_px, search.overlap_px)
        ]
        heads = (head_region(person, frame_hw, search.head_crop) for person in persons.tolist())
        seen += [self._look(frame, region, search.head_score) for region in heads if region]
        faces = joined(seen)
        kept = faces.pick(suppress(faces, self._thresholds.nms_iou))
        boxes = _clipped(widened(kept.boxes, search.margin), frame_hw)
        solid = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        return Detections(boxes, kept.scores, kept.labels).pick(solid)

    def _look(self, frame: NDArray[np.uint8], region: Region, score: float) -> Detections:
        """Faces in one region, in the frame's pixels, as the model gives them."""
        letterbox = Letterbox.fit((region.height, region.width), self._canvas_hw)
        self._canvas[:] = self._fill
        letterbox.place(region.cut(frame), self._canvas)
        found = self._decoder.candidates(*two_of(self._runner.run(self._canvas)), score)
        # Before all regions are compared: a face makes dozens of cells sure.
        found = found.pick(suppress(found, self._thresholds.nms_iou))
        corner = np.array([region.x, region.y, region.x, region.y], np.float32)
        return Detections(letterbox.to_frame(found.boxes) + corner, found.scores, found.labels)


def face_detector_of(session: Session) -> FaceDetector:
    """The detector that a package's session makes. Raises PackageRefused for a package of another task."""
    manifest = session.package.manifest_of(FacesManifest)
    return FaceDetector(session, manifest.input, manifest.outputs, manifest.thresholds, manifest.search)


def tiles(frame_hw: tuple[int, int], side: int, overlap: int) -> list[Region]:
    """Squares of `side`, then squares of the frame's shorter side: each kind covers the frame on its own, evenly.

    Neighbours share `overlap` pixels, or half their side when that is less. Where the frame is shorter than a square,
    the square is.
    """
    sides = side, min(frame_hw)
    return list(dict.fromkeys(region for length in sides for region in _squares(frame_hw, length, overlap)))


def head_region(person: list[float], frame_hw: tuple[int, int], head_crop: float) -> Region | None:
    """The square to look for a person's face in, clipped to the frame; None when nothing of it is there.

    It is `head_crop` of the box's height, and at least as wide as the box: who sits, rides or is half hidden has a
    larger head in a lower box.
    """
    left, top, right, bottom = person
    if not (all(map(math.isfinite, person)) and right > left and bottom > top):
        return None
    height, width = frame_hw
    half = max(head_crop * (bottom - top), right - left) / 2
    x, y = (left + right) / 2, top + _HEAD_MIDDLE * (bottom - top)
    x0, x1 = max(0, math.floor(x - half)), min(width, math.ceil(x + half))
    y0, y1 = max(0, math.floor(y - half)), min(height, math.ceil(y + half))
    return Region(x0, y0, x1 - x0, y1 - y0) if x1 > x0 and y1 > y0 else None


def widened(boxes: NDArray[np.float32], margin: Margin) -> NDArray[np.float32]:
    """(N, 4) xyxy with the margin around each."""
    sizes = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    outwards = np.array([-margin.sides, -margin.up, margin.sides, margin.down], np.float32)
    return np.asarray(boxes + sizes * outwards, np.float32)


def _squares(frame_hw: tuple[int, int], side: int, overlap: int) -> Iterator[Region]:
    height, width = (min(side, length) for length in frame_hw)
    for y in _starts(frame_hw[0], side, overlap):
        for x in _starts(frame_hw[1], side, overlap):
            yield Region(x, y, width, height)


def _starts(length: int, side: int, overlap: int) -> list[int]:
    step = max(side - overlap, -(-side // 2))
    gaps = max(0, -(-(length - side) // step))
    return [0] + [gap * (length - side) // gaps for gap in range(1, gaps + 1)]


def _clipped(boxes: NDArray[np.float32], frame_hw: tuple[int, int]) -> NDArray[np.float32]:
    height, width = frame_hw
    most = np.array([width, height, width, height], np.float32)
    inside: NDArray[np.float32] = np.minimum(np.maximum(boxes, np.float32(0)), most)
    return inside
