"""A face in the public domain on a road frame: what must be found before pictures are covered, and never after."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from inference.faces import FaceDetector, face_detector_of
from inference.package import load_package
from inference.session import Session
from simulator.demo.canary import AT, FACES, portrait
from simulator.demo.demo import DRIVE

__all__ = ["AT", "FACES", "detector", "portrait", "road_frame", "sees_canary", "with_canary"]


@cache
def detector() -> FaceDetector:
    return face_detector_of(Session(load_package(FACES)))


@cache
def road_frame(index: int = 60) -> NDArray[np.uint8]:
    capture = cv2.VideoCapture(str(DRIVE))
    capture.set(cv2.CAP_PROP_POS_FRAMES, index)
    there, frame = capture.read()
    capture.release()
    assert there
    return np.asarray(frame, np.uint8)


def with_canary(frame: NDArray[np.uint8], at: tuple[int, int] = AT) -> NDArray[np.uint8]:
    marked, face = frame.copy(), portrait()
    marked[at[1] : at[1] + face.shape[0], at[0] : at[0] + face.shape[1]] = face
    return marked


def sees_canary(picture: NDArray[np.uint8], at: tuple[int, int] = AT) -> bool:
    """Whether a face is found whose middle lies in the portrait."""
    height, width = portrait().shape[:2]
    boxes = detector().detect(picture).boxes
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2 - np.array(at, np.float32)
    return bool(((middles > 0) & (middles < np.array([width, height]))).all(axis=1).any())
