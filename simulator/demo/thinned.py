"""The drive with fewer frames, at its own speed: for vehicles that need a road to be tried on, and not all of it."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import cv2

from ecu.errors import EnvironmentFault
from simulator.demo.proofs import drive_frames


def thin_out(drive: Path, every: int, frames: int, to: Path) -> Path:
    """A film of every `every`-th frame of the drive, `frames` of them at most. Raises EnvironmentFault."""
    capture = cv2.VideoCapture(str(drive))
    fps, width, height = (
        capture.get(what) for what in (cv2.CAP_PROP_FPS, cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
    )
    capture.release()
    film = cv2.VideoWriter(str(to), cv2.VideoWriter.fourcc(*"mp4v"), fps / every, (int(width), int(height)))
    if not film.isOpened():
        raise EnvironmentFault(f"OpenCV can't write {to}. Install opencv-python-headless anew.")
    for frame in islice(drive_frames(drive, every), frames):
        film.write(frame)
    film.release()
    return to
