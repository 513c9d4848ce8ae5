"""The road under the tracks, inferred from their boxes alone: where the horizon is, how large a metre, how many lanes.

On a flat road seen by a level camera a vehicle's height in the picture is in proportion to how far its foot is below
the horizon; the factor is the camera's height in vehicle heights. A car is taken to be 1.5 m high, a lane 3.6 m wide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from simulator.boxes import Box
from simulator.report.evidence import Point

CAR_M: Final = 1.5
LANE_M: Final = 3.6
MOST_LANES: Final = 3
"""To either side of our own."""
USUAL_CAMERA_M: Final = 1.35
USUAL_HORIZON: Final = 0.55
MOST_SKY: Final = 0.34
LEAST_SKY: Final = 0.16
FEWEST_BOXES: Final = 24
STRAY_SHARE: Final = 0.04
"""So many of the boxes may lie off the road: a detector errs, and a neighbour may be parked."""


@dataclass(frozen=True, slots=True)
class Ground:
    """The road in a picture of `width` x `height` pixels; lane counts are beside our own."""

    width: int
    height: int
    horizon: float
    camera_m: float
    lanes_left: int
    lanes_right: int
    top: float

    @property
    def metre_px(self) -> float:
        """How long a metre across the road is at the picture's lower edge."""
        return (self.height - self.horizon) / self.camera_m

    @property
    def edges_m(self) -> tuple[float, float]:
        """Of the road, from our lane's middle, right positive."""
        return -(self.lanes_left + 0.5) * LANE_M, (self.lanes_right + 0.5) * LANE_M

    @property
    def lines_m(self) -> tuple[float, ...]:
        """Between the lanes."""
        return tuple((n + 0.5) * LANE_M for n in range(-self.lanes_left, self.lanes_right))


def infer(boxes: Sequence[Box], width: int, height: int) -> Ground:
    """The usual road where too few boxes tell another."""
    cars = [box for box in boxes if box.label == "car"]
    horizon, camera_m = _fitted(cars if len(cars) >= FEWEST_BOXES else boxes, height)
    left, right = _lanes(
        [_across_m(box, width, horizon, camera_m) for box in boxes if box.box[3] > horizon + 0.03 * height]
    )
    return Ground(width, height, horizon, camera_m, left, right, _top(boxes, horizon, height))


def _fitted(boxes: Sequence[Box], height: int) -> tuple[float, float]:
    """(horizon, camera height): the resistant line through (height, foot), after Tukey's three groups."""
    usual = USUAL_HORIZON * height, USUAL_CAMERA_M
    if len(boxes) < FEWEST_BOXES:
        return usual
    by_height = sorted((box.box[3] - box.box[1], box.box[3]) for box in boxes)
    third = len(by_height) // 3
    low, high = _middle(by_height[:third]), _middle(by_height[-third:])
    if high[0] - low[0] < 0.02 * height:
        return usual
    slope = (high[1] - low[1]) / (high[0] - low[0])
    horizon = median(foot - slope * tall for tall, foot in by_height)
    is_road = 0.3 * height < horizon < 0.75 * height and 0.4 < slope < 2.5
    return (horizon, slope * CAR_M) if is_road else usual


def _middle(group: Sequence[Point]) -> Point:
    return median(x for x, _ in group), median(y for _, y in group)


def _across_m(box: Box, width: int, horizon: float, camera_m: float) -> float:
    x1, _, x2, foot = box.box
    return ((x1 + x2) / 2 - width / 2) / (foot - horizon) * camera_m


def _lanes(across_m: Sequence[float]) -> tuple[int, int]:
    """As many to the left and right as hold all but the strays."""
    if len(across_m) < FEWEST_BOXES:
        return 1, 1
    ranked = sorted(across_m)
    stray = int(STRAY_SHARE * len(ranked))
    left, right = (round(edge / LANE_M) for edge in (-ranked[stray], ranked[-1 - stray]))
    return min(MOST_LANES, max(0, left)), min(MOST_LANES, max(0, right))


def _top(boxes: Sequence[Box], horizon: float, height: int) -> float:
    """Where the drawing begins: above what was seen, but without much sky for the sake of one tall neighbour."""
    highest = min((box.box[1] for box in boxes), default=0.0) - 0.09 * height
    return max(0.0, min(max(highest, horizon - MOST_SKY * height), horizon - LEAST_SKY * height))
