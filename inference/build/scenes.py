"""Road frames with a person on them whose face is known: what recall is measured on.

A portrait's head is cut out along an ellipse, scaled, tilted and dimmed, and set upon a drawn body; the frame is then
softened and given a sensor's noise. A person is ten faces tall (Vitruvius, De architectura III.1), which is more than
most are: whoever is shorter has a larger face in the same box.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from inference.build.portraits import Portrait

PERSONS_PER_FACE: Final = 10.0
TILT_DEG: Final = 20.0
_WIDTH_OF_HEIGHT: Final = (0.30, 0.42)
_HEAD_ALONG_FRAME: Final = (0.30, 0.62)
_LIGHT: Final = (0.45, 1.0)
_SOFTNESS_PX: Final = (0.2, 0.9)
_NOISE: Final = 2.0
_FABRIC: Final = 8.0
_BOX_OFF: Final = 0.03
"""How far a person's box is from the person, standard deviation: of its width at the sides, of its height below."""
_FEATHER_PX: Final = 6.0
"""Of the portrait: how softly the head's outline ends."""

Picture = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """frame (H, W, 3) uint8 BGR; the face and a detector's box of its person, (4,) float32 xyxy in pixels."""

    frame: NDArray[np.uint8]
    face: NDArray[np.float32]
    person: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """A square patch with the face's middle in its own, how opaque each pixel is, half the face's width and height as
    it is tilted, and how far the head reaches above the face's middle."""

    pixels: Picture
    opacity: Picture
    half_face: tuple[float, float]
    above: float


def compose(portrait: Portrait, road: NDArray[np.uint8], face_px: int, rng: np.random.Generator) -> Scene:
    """The portrait's head on somebody at the roadside or on the road, its face `face_px` high before it is tilted."""
    head = cut_head(portrait, face_px, rng.uniform(-TILT_DEG, TILT_DEG))
    height, width = road.shape[:2]
    x = rng.uniform(head.half_face[0], width - head.half_face[0])
    y = max(head.above, rng.uniform(*_HEAD_ALONG_FRAME) * height)
    tall = PERSONS_PER_FACE * face_px
    person = _around(x, y - head.above, tall * rng.uniform(*_WIDTH_OF_HEIGHT), tall)
    frame = road.astype(np.float32)
    _draw_body(frame, person, y + head.half_face[1], face_px, rng)
    x, y = _set_on(frame, head, x, y, rng.uniform(*_LIGHT))
    frame = np.asarray(cv2.GaussianBlur(frame, (0, 0), rng.uniform(*_SOFTNESS_PX)), np.float32)
    frame += _NOISE * rng.standard_normal(frame.shape, np.float32)
    half_width, half_height = head.half_face
    face = np.array([x - half_width, y - half_height, x + half_width, y + half_height], np.float32)
    off = rng.normal(0.0, _BOX_OFF, 4) * (person[2] - person[0], tall / 3, person[2] - person[0], tall)
    seen = np.clip(person + off, 0.0, (width, height, width, height)).astype(np.float32)
    return Scene(np.clip(frame, 0, 255).astype(np.uint8), face, seen)


def cut_head(portrait: Portrait, face_px: float, tilt_deg: float) -> Head:
    """The head at that face height, turned about the face's middle."""
    left, top, right, bottom = portrait.head
    scale = face_px / (portrait.face[3] - portrait.face[1])
    size = [max(1, round(side * scale)) for side in portrait.picture.shape[1::-1]]
    outline = np.zeros(portrait.picture.shape[:2], np.float32)
    ellipse = ((left + right) / 2, (top + bottom) / 2), (right - left, bottom - top), 0.0
    cv2.ellipse(outline, ellipse, 1.0, cv2.FILLED)
    outline = np.asarray(cv2.GaussianBlur(outline, (0, 0), _FEATHER_PX), np.float32)
    per_pixel = np.divide(size, portrait.picture.shape[1::-1])
    middle = np.array([portrait.face[0] + portrait.face[2], portrait.face[1] + portrait.face[3]]) / 2 * per_pixel
    side = math.ceil(1.6 * scale * max(right - left, bottom - top)) + 4
    turn = np.asarray(cv2.getRotationMatrix2D(tuple(middle), tilt_deg, 1.0), np.float64)
    turn[:, 2] += side / 2 - middle
    pixels, opacity = (
        cv2.warpAffine(cv2.resize(layer, size, interpolation=cv2.INTER_AREA), turn, (side, side), borderMode=border)
        for layer, border in ((portrait.picture, cv2.BORDER_REPLICATE), (outline, cv2.BORDER_CONSTANT))
    )
    half = np.array([portrait.face[2] - portrait.face[0], portrait.face[3] - portrait.face[1]]) / 2 * per_pixel
    above = float(middle[1] - top * per_pixel[1])
    return Head(np.asarray(pixels, np.float32), np.asarray(opacity, np.float32), _tilted(half, tilt_deg), above)


def _tilted(half: NDArray[np.float64], tilt_deg: float) -> tuple[float, float]:
    """Half the width and height of the upright box around an ellipse that is turned."""
    cosine, sine = math.cos(math.radians(tilt_deg)), math.sin(math.radians(tilt_deg))
    return math.hypot(half[0] * cosine, half[1] * sine), math.hypot(half[0] * sine, half[1] * cosine)


def _around(x: float, top: float, width: float, height: float) -> NDArray[np.float64]:
    return np.array([x - width / 2, top, x + width / 2, top + height])


def _draw_body(
    frame: Picture, person: NDArray[np.float64], chin: float, face_px: int, rng: np.random.Generator
) -> None:
    """Neck, shoulders, trunk and legs of one dark or bright colour, with a fabric's grain."""
    left, top, right, bottom = person
    middle, hip, shoulder = (left + right) / 2, top + 0.55 * (bottom - top), chin + 0.5 * face_px
    neck, leg = 0.25 * face_px, (right - left) / 3
    half = [(neck, chin - 0.1 * face_px), ((right - left) / 2, shoulder), ((right - left) / 2, hip), (leg, bottom)]
    outline = [(middle + out, y) for out, y in half] + [(middle - out, y) for out, y in reversed(half)]
    shape = np.zeros(frame.shape[:2], np.float32)
    cv2.fillPoly(shape, [np.round(np.array(outline) * 16).astype(np.int32)], 1.0, cv2.LINE_AA, 4)
    grain = _FABRIC * rng.standard_normal((*frame.shape[:2], 1), np.float32)
    fabric = rng.integers(10, 160, 3).astype(np.float32) + grain
    frame += shape[:, :, None] * (fabric - frame)


def _set_on(frame: Picture, head: Head, x: float, y: float, light: float) -> tuple[float, float]:
    """Blends the head in; gives the face's middle in whole pixels of the patch, as it came to lie."""
    side = len(head.pixels)
    left, top = round(x - side / 2), round(y - side / 2)
    inside: Any = np.s_[max(0, top) : top + side, max(0, left) : left + side]
    under = frame[inside]
    patch: Any = np.s_[max(0, -top) :, max(0, -left) :]
    pixels, opacity = (layer[patch][: under.shape[0], : under.shape[1]] for layer in (head.pixels, head.opacity))
    under += opacity[:, :, None] * (light * pixels - under)
    return left + side / 2, top + side / 2
