"""Portraits of known people whose pictures anybody may use, and where the face is in each.

Both were taken for the United States' government, which claims no copyright in them. Two people are no sample of
mankind: the model card says so.
"""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import skimage.data
from numpy.typing import NDArray

from ecu.errors import UsageFault
from inference.build import pins

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Portrait:
    """A picture (H, W, 3) uint8 BGR and, xyxy in its pixels, marked by hand: the face from the brow's upper edge to the
    chin and from ear to ear, and the head with its hair and hat."""

    who: str
    picture: NDArray[np.uint8]
    face: Box
    head: Box


def collins() -> Portrait:
    """Eileen Collins, NASA, as scikit-image carries her. Raises UsageFault when it is another picture."""
    rgb: NDArray[np.uint8] = skimage.data.astronaut()  # type: ignore[no-untyped-call]
    picture = np.ascontiguousarray(rgb[:, :, ::-1])
    if hashlib.sha256(picture.tobytes()).hexdigest() != pins.COLLINS_PIXELS_SHA256:
        raise UsageFault("scikit-image's astronaut isn't the pinned picture. Install scikit-image 0.26.")
    return Portrait("Eileen Collins (NASA)", picture, (178, 76, 272, 187), (150, 12, 304, 196))


def hopper(wheel: Path) -> Portrait:
    """Grace Hopper, U.S. Navy, out of Matplotlib's wheel. Raises UsageFault when the wheel isn't the pinned one."""
    pins.demand_sha256(wheel, pins.HOPPER_WHEEL_SHA256)
    with zipfile.ZipFile(wheel) as archive:
        data = archive.read(pins.HOPPER_MEMBER)
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    return Portrait(
        "Grace Hopper (U.S. Navy)", np.asarray(picture, np.uint8), (163, 140, 368, 332), (148, 20, 378, 345)
    )
