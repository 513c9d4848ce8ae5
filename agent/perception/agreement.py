"""How far two models agree about the frames that both have seen: where things are, what, and in which state.

It raises questions, and judges nothing: a better model differs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from inference.messages import SeenTrack

MATCH_IOU: Final = 0.5

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Objects of both models over `frames` frames: seen by both, by the first alone, by the second alone."""

    frames: int = 0
    both: int = 0
    first_alone: int = 0
    second_alone: int = 0

    @property
    def f1(self) -> float:
        """1 where nothing was seen by either."""
        objects = 2 * self.both + self.first_alone + self.second_alone
        return 2 * self.both / objects if objects else 1.0

    def plus(self, other: Agreement) -> Agreement:
        return Agreement(
            self.frames + other.frames,
            self.both + other.both,
            self.first_alone + other.first_alone,
            self.second_alone + other.second_alone,
        )

    def with_frame(self, first: Iterable[SeenTrack], second: Iterable[SeenTrack]) -> Agreement:
        ours, theirs = list(first), list(second)
        both = 0
        for track in ours:
            match = next((other for other in theirs if _are_one(track, other)), None)
            if match is not None:
                theirs.remove(match)
                both += 1
        return self.plus(Agreement(1, both, len(ours) - both, len(theirs)))


def _are_one(a: SeenTrack, b: SeenTrack) -> bool:
    return (a.label, a.state) == (b.label, b.state) and _iou(a.box, b.box) >= MATCH_IOU


def _iou(a: Box, b: Box) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    common = width * height
    return common / (_area(a) + _area(b) - common)


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
