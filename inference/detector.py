"""Frame in, detections out: letterbox, one call of the model, decode, back to the frame's pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from inference.decode import Decoder
from inference.detections import Detections
from inference.letterbox import Letterbox, blank_canvas
from inference.manifest import DetectManifest, DetectOutputs, ModelInput, Thresholds
from inference.outputs import two_of
from inference.session import Runner, Session


class Detector:
    """Sees frames of any size; keeps one canvas, drawn anew in place for each frame."""

    def __init__(self, runner: Runner, model_input: ModelInput, outputs: DetectOutputs, thresholds: Thresholds) -> None:
        self._runner = runner
        self._input = model_input
        self._thresholds = thresholds
        self._canvas_hw = model_input.height, model_input.width
        self._decoder = Decoder(self._canvas_hw, outputs.strides, outputs.bins)
        self._letterbox: Letterbox | None = None
        self._canvas = self._blank()

    def detect(self, frame: NDArray[np.uint8], score_threshold: float | None = None) -> Detections:
        """frame (H, W, 3) uint8 BGR -> detections in its pixels, the surest first, none of them empty.

        Without `score_threshold` the package's own holds. Raises ModelFault.
        """
        letterbox = self._fit((frame.shape[0], frame.shape[1]))
        letterbox.place(frame, self._canvas)
        threshold = self._thresholds.score if score_threshold is None else score_threshold
        seen = self._decoder.decode(*two_of(self._runner.run(self._canvas)), threshold, self._thresholds.nms_iou)
        boxes = letterbox.boxes_to_frame(seen.boxes)
        # What lies wholly in the fill is nothing in the frame.
        solid = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        return Detections(boxes, seen.scores, seen.labels).pick(solid)

    def _fit(self, frame_hw: tuple[int, int]) -> Letterbox:
        if self._letterbox is None or self._letterbox.frame_hw != frame_hw:
            self._letterbox = Letterbox.fit(frame_hw, self._canvas_hw)
            self._canvas = self._blank()
        return self._letterbox

    def _blank(self) -> NDArray[np.uint8]:
        return blank_canvas(*self._canvas_hw, self._input.letterbox_fill)


def detector_of(session: Session) -> Detector:
    """The detector that a package's session makes. Raises PackageRefused for a package of another task."""
    manifest = session.package.manifest_of(DetectManifest)
    return Detector(session, manifest.input, manifest.outputs, manifest.thresholds)
