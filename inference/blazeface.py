"""BlazeFace's raw outputs into faces (Bazarevsky et al., arXiv:1907.05047; MediaPipe's full-range model).

One grid of cells, each a score and a box: its centre, as an offset from the cell's, and its size, all in pixels of the
canvas. There is one class.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from inference.detections import Detections

MAX_CANDIDATES = 256


class FaceDecoder:
    """Knows the grid of one canvas size. Gives faces in canvas pixels, label 0."""

    def __init__(self, canvas_hw: tuple[int, int], stride: int) -> None:
        rows, columns = canvas_hw[0] // stride, canvas_hw[1] // stride
        y, x = np.mgrid[:rows, :columns].reshape(2, -1)
        self._centres = ((np.stack([x, y], axis=1) + 0.5) * stride).astype(np.float32)

    def candidates(self, scores: NDArray[np.float32], boxes: NDArray[np.float32], score_threshold: float) -> Detections:
        """scores (cells, 1), boxes (cells, 4) -> the at most MAX_CANDIDATES surest at or above the threshold, before
        suppression. A box may reach beyond the canvas, as a face may; one without a positive size is none."""
        cells = np.flatnonzero((scores[:, 0] >= np.float32(score_threshold)) & (boxes[:, 2:] > 0).all(axis=1))
        cells = cells[np.argsort(-scores[cells, 0], kind="stable")[:MAX_CANDIDATES]]
        centres, halves = self._centres[cells] + boxes[cells, :2], boxes[cells, 2:] / 2
        corners = np.concatenate([centres - halves, centres + halves], axis=1)
        return Detections(corners, scores[cells, 0], np.zeros(len(cells), np.int64))
