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
from inference.detections import iou
from inference.faces import FaceDetector
from inference.package import find_package
from simulator.demo.proofs import drive_frames

Pixels = NDArray[np.uint8]

FACES: Final = find_package("face-blur")
AT: Final = (430, 150)
"""Where the portrait begins, x and y in the frame: beside the road, in the sky's light."""
LOOKS_PX: Final = (240, 160, 120)
"""Squares around it that it is looked for in, the smaller the larger the face: more looks than any redactor takes."""
FACE: Final = (428, 152, 495, 230)
"""Where the face model finds it, with hair and chin: xyxy in the frame, to a few pixels, whatever the road shows."""
SAME_FACE_IOU: Final = 0.4
"""On the road it is 0.9 and more; with a corner of what covers her, below 0.3."""
ALL_COVERED: Final = 0.95
"""The rest is what a JPEG makes of an edge."""
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
    """Whether, from any distance, a face is found where hers is. Raises ModelFault.

    A grey rectangle before the sky, or a corner of it, is a head's shape, too: near her isn't enough, and a box that
    shows nothing of her but `covered` (H, W) is nobody's face.
    """
    hers = np.array([FACE], np.float32)
    near = np.concatenate([_faces_near(faces, picture, side) for side in LOOKS_PX])
    found = near[iou(near, hers)[:, 0] >= SAME_FACE_IOU]
    return any(covered is None or _share(covered, box) < ALL_COVERED for box in found)


def _share(covered: NDArray[np.bool_], box: NDArray[np.float32]) -> float:
    """Of what the box shows of her face."""
    left, top = np.rint(np.maximum(box[:2], FACE[:2])).astype(int)
    right, bottom = np.rint(np.minimum(box[2:], FACE[2:])).astype(int)
    return float(covered[top:bottom, left:right].mean())


def _faces_near(faces: FaceDetector, picture: Pixels, side: int) -> NDArray[np.float32]:
    """Those in a square around her: (N, 4) float32, pixels of the picture, xyxy."""
    x, y = (max(0, (start + end - side) // 2) for start, end in zip(FACE[:2], FACE[2:], strict=True))
    found = faces.detect(np.ascontiguousarray(picture[y : y + side, x : x + side])).boxes
    return found + np.array([x, y, x, y], np.float32)


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
