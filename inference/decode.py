"""NanoDet's raw outputs into detections.

Each cell of the strides' grids tells a score per class and, per side of its box, a distribution over `bins` distances
in units of the stride; a side's distance is the distribution's mean (Li et al., Generalized Focal Loss,
arXiv:2006.04388, section 3.2, as NanoDet uses it).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from inference.detections import Detections, iou, surest_first

STRIDES = (8, 16, 32)
BINS = 11
MAX_CANDIDATES = 512
MAX_DETECTIONS = 100


class Decoder:
    """Knows the grid of one canvas size. Gives detections in canvas pixels."""

    def __init__(self, canvas_hw: tuple[int, int], strides: tuple[int, ...] = STRIDES, bins: int = BINS) -> None:
        self.canvas_hw = canvas_hw
        self._centres, self._strides = _grid(canvas_hw, strides)
        self._distances = np.arange(bins, dtype=np.float32)

    def decode(
        self, scores: NDArray[np.float32], reg: NDArray[np.float32], score_threshold: float, nms_iou: float
    ) -> Detections:
        """scores (cells, classes), reg (cells, 4 * bins) -> at most MAX_DETECTIONS, the surest first, in the canvas."""
        candidates = self.candidates(scores, reg, score_threshold)
        return candidates.pick(suppress(candidates, nms_iou)[:MAX_DETECTIONS])

    def candidates(self, scores: NDArray[np.float32], reg: NDArray[np.float32], score_threshold: float) -> Detections:
        """What each cell at or above the threshold says, before suppression; at most the MAX_CANDIDATES surest.

        A cell stands for its best class, the first of equals.
        """
        best = scores.max(axis=1)
        cells = np.flatnonzero(best >= np.float32(score_threshold))
        cells = cells[np.argsort(-best[cells], kind="stable")[:MAX_CANDIDATES]]
        return Detections(self._boxes(cells, reg), best[cells], scores[cells].argmax(axis=1))

    def _boxes(self, cells: NDArray[np.intp], reg: NDArray[np.float32]) -> NDArray[np.float32]:
        logits = reg[cells].reshape(-1, 4, len(self._distances))
        weights = np.exp(logits - logits.max(axis=2, keepdims=True))
        weights /= weights.sum(axis=2, keepdims=True)
        sides = (weights * self._distances).sum(axis=2) * self._strides[cells, None]
        centres = self._centres[cells]
        boxes = np.concatenate([centres - sides[:, :2], centres + sides[:, 2:]], axis=1)
        height, width = self.canvas_hw
        clipped: NDArray[np.float32] = np.clip(boxes, 0.0, np.array([width, height, width, height], np.float32))
        return clipped


def cell_count(canvas_hw: tuple[int, int], strides: tuple[int, ...] = STRIDES) -> int:
    """Rows of the outputs over a canvas."""
    return sum((canvas_hw[0] // stride) * (canvas_hw[1] // stride) for stride in strides)


def suppress(candidates: Detections, nms_iou: float) -> NDArray[np.intp]:
    """Indices of those kept, the surest first: none overlaps a surer kept one of its class by more than `nms_iou`.

    Equals are settled as in `surest_first`, so the order in which candidates come doesn't matter.
    """
    order = surest_first(candidates)
    ranked = candidates.pick(order)
    rivals = (iou(ranked.boxes, ranked.boxes) > nms_iou) & (ranked.labels[:, None] == ranked.labels[None])
    alive = np.ones(len(ranked), np.bool_)
    for rank in range(len(ranked)):
        if alive[rank]:
            alive[rank + 1 :] &= ~rivals[rank, rank + 1 :]
    return order[alive]


def _grid(canvas_hw: tuple[int, int], strides: tuple[int, ...]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Centres (cells, 2) xy in pixels and strides (cells,), stride by stride, each row by row."""
    centres, sizes = [], []
    for stride in strides:
        rows, columns = canvas_hw[0] // stride, canvas_hw[1] // stride
        y, x = np.mgrid[:rows, :columns].reshape(2, -1)
        centres.append(np.stack([x, y], axis=1) * stride + (stride - 1) / 2)
        sizes.append(np.full(rows * columns, stride))
    return np.concatenate(centres).astype(np.float32), np.concatenate(sizes).astype(np.float32)
