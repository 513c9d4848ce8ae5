"""Covers what tells persons and vehicles apart in a picture, opaquely: what was there can't be computed back.

A blur can be inverted (McPherson et al., arXiv:1609.00408), and even a region's mean tells a skin's colour; so every
region becomes the same grey. Boxes are (x1, y1, x2, y2) in pixels, and this is how one is understood that no detector
should give: its corners may come in any order; what lies outside the picture is cut off; one of zero width or height
covers nothing; infinite reaches the edge; and one with a number that is none (NaN) covers the whole picture, since
nobody can say where it lies.

Only the process that redacts pictures imports this: it needs numpy, and the agent loads none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

GREY: Final = 128

Box = tuple[float, float, float, float]

_HEAD_OF_HEIGHT: Final = 0.25
_HEAD_OF_WIDTH: Final = 0.8
_HEAD_BESIDE: Final = 0.1
_HEAD_ABOVE: Final = 0.06
_PLATE_FROM: Final = 0.4
_PLATE_MARGIN: Final = 0.05
_PERSON_MARGIN: Final = 0.1


@dataclass(frozen=True, slots=True)
class PixelRegion:
    """Whole pixels of a picture: columns `left` up to but not `right`, rows `top` up to but not `bottom`."""

    left: int
    top: int
    right: int
    bottom: int


def cover(picture: NDArray[np.uint8], boxes: Iterable[Box]) -> None:
    """Fills every box's region of picture (H, W, 3) uint8 with GREY, in place. No other pixel changes.

    In whichever order the boxes come, and however often, the picture is the same.
    """
    height, width = picture.shape[:2]
    for box in boxes:
        region = pixel_region(box, height, width)
        if region:
            picture[region.top : region.bottom, region.left : region.right] = GREY


def pixel_region(box: Box, height: int, width: int) -> PixelRegion | None:
    """Every pixel of the picture that the box touches; None when it touches none."""
    if any(map(math.isnan, box)):
        return PixelRegion(0, 0, width, height) if width and height else None
    x1, y1, x2, y2 = _ordered(box)
    left, right = _whole_pixels(x1, x2, width)
    top, bottom = _whole_pixels(y1, y2, height)
    return PixelRegion(left, top, right, bottom) if left < right and top < bottom else None


def head_of(person: Box) -> Box:
    """Where the head in a person's box is, with room around it: the upper quarter, and a little above the box.

    More of a wide box: who sits, rides or is half hidden has a larger head in a lower box. Never below the box.
    """
    x1, y1, x2, y2 = _ordered(person)
    width, height = x2 - x1, y2 - y1
    reach = min(height, max(_HEAD_OF_HEIGHT * height, _HEAD_OF_WIDTH * width))
    return x1 - _HEAD_BESIDE * width, y1 - _HEAD_ABOVE * height, x2 + _HEAD_BESIDE * width, y1 + reach


def person_cover(person: Box, trusted_px: float | None) -> Box:
    """What to cover of a person: the head when the box is at least `trusted_px` high, otherwise all of it.

    Of a person too small, no face detector is sure enough where the face is; None trusts no height. The threshold comes
    with the face model, which measured it.
    """
    x1, y1, x2, y2 = _ordered(person)
    if trusted_px is not None and y2 - y1 >= trusted_px:
        return head_of(person)
    return _with_margin((x1, y1, x2, y2), _PERSON_MARGIN)


def plate_band_of(vehicle: Box) -> Box:
    """Where a plate may be on a vehicle, seen from any side: the lower part of the box over its whole width."""
    _, top, _, bottom = _ordered(vehicle)
    left, _, right, below = _with_margin(vehicle, _PLATE_MARGIN)
    return left, top + _PLATE_FROM * (bottom - top), right, below


def _ordered(box: Box) -> Box:
    """The same box with its least corner first; NaN stays NaN, wherever it is."""
    if any(map(math.isnan, box)):
        return math.nan, math.nan, math.nan, math.nan
    x1, y1, x2, y2 = box
    return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)


def _with_margin(box: Box, margin: float) -> Box:
    x1, y1, x2, y2 = _ordered(box)
    beside, over = margin * (x2 - x1), margin * (y2 - y1)
    return x1 - beside, y1 - over, x2 + beside, y2 + over


def _whole_pixels(start: float, end: float, length: int) -> tuple[int, int]:
    """The whole pixels that [start, end] touches, of so many; none when it has no length."""
    if start == end:
        return 0, 0
    return math.floor(min(max(start, 0.0), length)), math.ceil(min(max(end, 0.0), length))
