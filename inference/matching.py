"""Which detections are right: those of one class in one frame, held against its labels as COCO does.

(Lin et al., arXiv:1405.0312; pycocotools' COCOeval.) The surer chooses first, an object is found once, and what wasn't
right but lies mostly in regions to be ignored counts neither way.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from inference.detections import Detections, iou, surest_first

IGNORED_FROM = 0.5
"""A detection with more than this share of its area in ignored regions isn't counted false."""


class Tally(NamedTuple):
    """Objects found, detections that are false, objects missed."""

    found: int
    false: int
    missed: int


def tally(objects: NDArray[np.float64], ignored: NDArray[np.float64], seen: Detections, match_iou: float) -> Tally:
    """objects (N, 4), ignored (M, 4) xyxy in pixels; `seen` is of the same class. In whatever order they come."""
    right = _match(objects, seen, match_iou)
    false = ~right & (covered_share(seen.boxes.astype(np.float64), ignored) <= IGNORED_FROM)
    found = int(right.sum())
    return Tally(found, int(false.sum()), len(objects) - found)


def covered_share(boxes: NDArray[np.float64], regions: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,): how much of each box's area, a fraction of 1, lies in the union of regions (M, 4), all xyxy."""
    # Between the regions' own edges every cell is either covered or not: their overlaps are counted once.
    columns, rows = np.unique(regions[:, ::2]), np.unique(regions[:, 1::2])
    covered = (
        (regions[:, 0, None, None] <= columns[:-1, None])
        & (regions[:, 2, None, None] >= columns[1:, None])
        & (regions[:, 1, None, None] <= rows[:-1])
        & (regions[:, 3, None, None] >= rows[1:])
    ).any(axis=0)
    across, down = _shared(boxes[:, ::2], columns), _shared(boxes[:, 1::2], rows)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    share: NDArray[np.float64] = ((across @ covered) * down).sum(axis=1) / area
    return share


def _shared(spans: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, edges - 1): how much each span (N, 2) shares with each interval between neighbouring edges."""
    shared: NDArray[np.float64] = np.minimum(spans[:, 1:], edges[1:]) - np.maximum(spans[:, :1], edges[:-1])
    return shared.clip(min=0.0)


def _match(objects: NDArray[np.float64], seen: Detections, match_iou: float) -> NDArray[np.bool_]:
    """(len(seen),): which detections have found an object."""
    overlap = iou(objects, seen.boxes.astype(np.float64))
    right = np.zeros(len(seen), np.bool_)
    for one in surest_first(seen).tolist() if len(objects) else ():
        best = int(overlap[:, one].argmax())
        if overlap[best, one] >= match_iou:
            overlap[best] = 0.0
            right[one] = True
    return right
