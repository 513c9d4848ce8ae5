"""What a detector saw in one frame, and how much two boxes overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """N objects, the surest first: boxes (N, 4) float32 xyxy in pixels, scores (N,) float32, labels (N,) int64."""

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.scores)

    def pick(self, which: NDArray[np.intp] | NDArray[np.bool_]) -> Detections:
        return Detections(self.boxes[which], self.scores[which], self.labels[which])

    def at_least(self, score: float) -> Detections:
        return self.pick(self.scores >= np.float32(score))

    @staticmethod
    def none() -> Detections:
        return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))


def joined(parts: Sequence[Detections]) -> Detections:
    """All of them, one after the other: `surest_first` gives them an order. Raises ValueError for no parts."""
    boxes, scores, labels = zip(*((part.boxes, part.scores, part.labels) for part in parts), strict=True)
    return Detections(np.concatenate(boxes), np.concatenate(scores), np.concatenate(labels))


def surest_first(detections: Detections) -> NDArray[np.intp]:
    """The one order that doesn't depend on how they came: by score down, then label, then the box's corners."""
    x1, y1, x2, y2 = detections.boxes.T
    return np.lexsort((y2, x2, y1, x1, detections.labels, -detections.scores))


def iou(left: NDArray[np.floating], right: NDArray[np.floating]) -> NDArray[np.floating]:
    """Intersection over union of (N, 4) with (M, 4) xyxy boxes: (N, M) in [0, 1]; 0 where both are empty."""
    width = np.minimum(left[:, 2:3], right[:, 2]) - np.maximum(left[:, 0:1], right[:, 0])
    height = np.minimum(left[:, 3:], right[:, 3]) - np.maximum(left[:, 1:2], right[:, 1])
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    union = _area(left)[:, None] + _area(right) - shared
    overlap: NDArray[np.floating] = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return overlap


def _area(boxes: NDArray[np.floating]) -> NDArray[np.floating]:
    return np.maximum(boxes[:, 2] - boxes[:, 0], 0) * np.maximum(boxes[:, 3] - boxes[:, 1], 0)
