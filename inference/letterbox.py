"""Any frame into a model's canvas and boxes back: uniform scale, top-left, the rest filled.

Scaling is bilinear, as in NanoDet's own training. Area averaging costs ten times as much and sees nothing more: over
the default drive the fp32 detections agree to F1 .967 to .992, with slightly more of them here.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

FILL = 114


def blank_canvas(height: int, width: int, fill: int = FILL) -> NDArray[np.uint8]:
    """(height, width, 3) uint8 of the fill value."""
    return np.full((height, width, 3), fill, np.uint8)


@dataclass(frozen=True, slots=True)
class Letterbox:
    """Geometry of one frame size in one canvas size. The frame's picture is `scaled_hw` pixels at the top left."""

    frame_hw: tuple[int, int]
    canvas_hw: tuple[int, int]
    scaled_hw: tuple[int, int]

    @classmethod
    def fit(cls, frame_hw: tuple[int, int], canvas_hw: tuple[int, int]) -> Letterbox:
        """The largest picture of the frame's shape that fits. Raises ValueError for an empty frame or canvas."""
        if min(*frame_hw, *canvas_hw) < 1:
            raise ValueError(f"a frame of {frame_hw} can't be fitted into a canvas of {canvas_hw}")
        scale = min(canvas_hw[0] / frame_hw[0], canvas_hw[1] / frame_hw[1])
        height, width = (max(1, min(side, round(of * scale))) for of, side in zip(frame_hw, canvas_hw, strict=True))
        return cls(frame_hw, canvas_hw, (height, width))

    def place(self, frame: NDArray[np.uint8], canvas: NDArray[np.uint8]) -> None:
        """Scales `frame` into `canvas` in place; what lies outside the picture keeps its fill."""
        height, width = self.scaled_hw
        picture = canvas[:height, :width]
        scaled = cv2.resize(frame, (width, height), dst=picture, interpolation=cv2.INTER_LINEAR)
        if not np.shares_memory(scaled, picture):
            raise ValueError(
                f"a canvas of {canvas.shape} {canvas.dtype} can't take a frame of {frame.shape} {frame.dtype}"
            )

    def boxes_to_frame(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, 4) xyxy in canvas pixels -> (N, 4) xyxy in frame pixels, clipped to the frame."""
        height, width = self.frame_hw
        most = np.array([width, height, width, height], np.float32)
        inside: NDArray[np.float32] = np.minimum(np.maximum(self.to_frame(boxes), np.float32(0)), most)
        return inside

    def to_frame(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, 4) xyxy in canvas pixels -> (N, 4) xyxy in frame pixels, wherever they lie."""
        return boxes * self._frame_per_canvas()

    def boxes_to_canvas(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, 4) xyxy in frame pixels -> (N, 4) xyxy in canvas pixels."""
        return boxes / self._frame_per_canvas()

    def _frame_per_canvas(self) -> NDArray[np.float32]:
        down, across = self.frame_hw[0] / self.scaled_hw[0], self.frame_hw[1] / self.scaled_hw[1]
        return np.array([across, down, across, down], np.float32)
