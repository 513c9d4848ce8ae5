"""Small drives made for tests: lossless, so that one pixel is one pixel."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from simulator.demo.demo import DRIVE

Picture = NDArray[np.uint8]


def write_drive(path: Path, pictures: list[Picture], rate: float = 25.0) -> Path:
    """An FFV1 video (RFC 9043): what is read back is what was written."""
    height, width = pictures[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"FFV1"), rate, (width, height))
    assert writer.isOpened(), "this OpenCV can't write FFV1"
    for picture in pictures:
        writer.write(picture)
    writer.release()
    return path


def real_pictures(count: int, start: int = 0) -> list[Picture]:
    """Frames of the default drive."""
    capture = cv2.VideoCapture(str(DRIVE), cv2.CAP_FFMPEG)
    pictures = [np.asarray(capture.read()[1], np.uint8) for _ in range(start + count)]
    capture.release()
    return pictures[start:]


def excerpt(folder: Path, count: int = 20, change: Callable[[list[Picture]], None] | None = None) -> Path:
    """The default drive's first frames, changed if wanted."""
    pictures = real_pictures(count)
    if change is not None:
        change(pictures)
    return write_drive(folder / "drive.avi", pictures)


def slow_road(folder: Path) -> Path:
    """Twenty frames in a third of their size, ten a second: where what is seen doesn't matter, and waiting shouldn't
    cost what looking costs."""
    return write_drive(folder / "road.avi", _small_pictures(), rate=10.0)


@cache
def _small_pictures() -> list[Picture]:
    return [np.asarray(cv2.resize(picture, (320, 180)), np.uint8) for picture in real_pictures(20)]
