"""Frames of a recorded drive, as copies that may be kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inference.sources import VideoSource


def every_frame(video: Path, step: int = 1) -> Iterator[NDArray[np.uint8]]:
    """Every `step`-th frame from the first on, (H, W, 3) uint8 BGR. Raises SourceUnusable."""
    source = VideoSource(video, loop=False)
    index = 0
    while source.grab():
        if index % step == 0:
            frame = np.empty((source.height, source.width, 3), np.uint8)
            source.fill(frame)
            yield frame
        index += 1
