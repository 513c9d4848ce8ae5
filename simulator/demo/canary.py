"""The drive that the demo's vehicle sees: the recorded road with a face beside it, in every frame, in the same place.

The face is a canary: found on the road, it must be found in no picture that reached the cloud. It is Grace Hopper's, a
portrait of the U.S. Navy in the public domain, as it stands in the face model's own golden picture.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from ecu.errors import EnvironmentFault
from inference.faces import FaceDetector
from inference.package import find_package
from simulator.demo.proofs import drive_frames

Pixels = NDArray[np.uint8]

FACES: Final = find_package("face-blur")
AT: Final = (430, 150)
"""Where the portrait begins, x and y in the frame: beside the road, in the sky's light."""
LOOKS_PX: Final = (240, 160, 120)
"""Squares around it that it is looked for in, the smaller the larger the face: more looks than any redactor takes."""
ALL_COVERED: Final = 0.9
"""Of a face's place; the rest is the rim of her hat, and what a JPEG makes of an edge."""
_IN_GOLDEN: Final = slice(46, 122), slice(66, 126)


@cache
def portrait() -> Pixels:
    """(76, 60, 3) uint8 BGR."""
    golden = cv2.imread(str(FACES / "golden-2.png"))
    assert golden is not None, "the face model's package lacks its golden picture"
    return np.asarray(golden[_IN_GOLDEN], np.uint8)


def set_canary(frame: Pixels) -> None:
    """Puts the portrait into frame (H, W, 3) uint8 BGR, in place."""
    (x, y), (height, width) = AT, portrait().shape[:2]
    frame[y : y + height, x : x + width] = portrait()


def sees_canary(faces: FaceDetector, picture: Pixels, covered: NDArray[np.bool_] | None = None) -> bool:
    """Whether, from any distance, a face is found whose middle lies in the portrait's place. Raises ModelFault.

    A rectangle of grey before the sky is a head's shape, too: where all that it shows of the portrait's place is
    `covered` (H, W), it is nobody's face.
    """
    return any(
        covered is None or covered[top:bottom, left:right].mean() < ALL_COVERED
        for side in LOOKS_PX
        for left, top, right, bottom in _faces_there(faces, picture, side)
    )


def _faces_there(faces: FaceDetector, picture: Pixels, side: int) -> list[list[int]]:
    """Boxes, xyxy in whole pixels of the picture, as far as they lie in the portrait's place."""
    start, size = np.array(AT), np.array(portrait().shape[1::-1])
    middle = start + size // 2
    x, y = np.maximum(0, middle - side // 2)
    found = faces.detect(np.ascontiguousarray(picture[y : y + side, x : x + side])).boxes
    boxes = np.rint(found).astype(int) + np.array([x, y, x, y])
    beside = np.abs((boxes[:, :2] + boxes[:, 2:]) / 2 - middle)
    inside = np.clip(boxes, np.tile(start, 2), np.tile(start + size, 2))
    there: list[list[int]] = inside[(beside < size / 2).all(axis=1)].tolist()
    return there


def make_drive(road: Path, marked: Path, frames_per_s: float = 25.0) -> None:
    """Writes the road with its canary to `marked`, an AVI of JPEGs: each frame decodes by itself, at about 41 dB.

    Raises EnvironmentFault when it can't be written.
    """
    height, width = next(drive_frames(road, 1)).shape[:2]
    codec = cv2.VideoWriter.fourcc(*"MJPG")
    writer = cv2.VideoWriter(str(marked.absolute()), cv2.CAP_FFMPEG, codec, frames_per_s, (width, height))
    if not writer.isOpened():
        raise EnvironmentFault(f"The demo's drive can't be written to {marked}. Look for room there.")
    for frame in drive_frames(road, 1):
        set_canary(frame)
        writer.write(frame)
    writer.release()
