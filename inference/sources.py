"""Where frames come from, by URL. Now: `video:PATH[?loop=1]`, a recorded drive read frame by frame.

A source knows pixels and their pace, nothing of slots or processes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final
from urllib.parse import parse_qs

import cv2
import numpy as np
from numpy.typing import NDArray

from ecu.errors import UsageFault

MAX_PIXELS: Final = 4096 * 2304
DECODER_ENVIRONMENT: Final = {
    "OPENCV_FFMPEG_CAPTURE_OPTIONS": "protocol_whitelist;file",  # a playlist dressed as a video opens nothing else
    "OPENCV_LOG_LEVEL": "SILENT",
    "OPENCV_FFMPEG_LOGLEVEL": "-8",
}
"""What the decoder's process must be started with: FFmpeg takes these from its environment alone."""


class SourceUnusable(UsageFault):
    """This input can't be used, now or later. The message names it and says why."""


def shown(path: Path | str) -> str:
    """A name fit for a terminal: control characters are escaped, so that a file name can't write on the screen."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(path))


class VideoSource:
    """A recorded drive, upright as its orientation mark says. Raises SourceUnusable at once when it can't be one."""

    def __init__(self, path: Path, loop: bool) -> None:
        self._path = path
        self._loop = loop
        self._capture = self._opened()
        self._expected = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self._read_in_loop = 0
        self._fresh = True
        self.period_ns = self._period()
        self.height, self.width = self._geometry()

    def grab(self) -> bool:
        """Moves to the next frame, at the drive's end to its first again when looping. False: the drive is over."""
        if self._capture.grab():
            self._read_in_loop += 1
            return True
        if self._read_in_loop < self._expected:
            raise SourceUnusable(
                f"The drive {shown(self._path)} breaks off after {self._read_in_loop} of {self._expected} frames: it is "
                "truncated or damaged. Copy it again, or cut it to its whole part (ffmpeg -i IN -c copy OUT)."
            )
        if not self._loop:
            return False
        self._rewind()
        self._read_in_loop, self._fresh = int(self._capture.grab()), True
        return True

    def fill(self, frame: NDArray[np.uint8]) -> bool:
        """Decodes the grabbed frame into `frame` in place; True when the scene starts anew with it."""
        ok, got = self._capture.retrieve(frame)
        if not ok or got.shape != frame.shape:
            shape = "nothing" if not ok else f"{got.shape[1]}x{got.shape[0]}"
            raise SourceUnusable(
                f"Frame {self._read_in_loop} of the drive {shown(self._path)} decodes to {shape} where "
                f"{self.width}x{self.height} was expected. One drive has one size: convert it first."
            )
        return self.passed()

    def passed(self) -> bool:
        """As `fill` for a frame that nobody looks at: True when the scene starts anew with it."""
        fresh, self._fresh = self._fresh, False
        return fresh

    def _opened(self) -> cv2.VideoCapture:
        if not self._path.is_file():
            raise SourceUnusable(f"There is no drive at {shown(self._path)}. Name a video file (MP4, H.264).")
        # An absolute path can't be taken for a URL or a device; one thread decodes the same on any load.
        capture = cv2.VideoCapture(str(self._path.absolute()), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
        if not capture.isOpened():
            raise SourceUnusable(
                f"The file {shown(self._path)} can't be read as a video. It may be damaged, or in a format that this "
                "machine can't decode: convert it to MP4 with H.264."
            )
        return capture

    def _period(self) -> int:
        rate = float(self._capture.get(cv2.CAP_PROP_FPS))
        if not 1.0 <= rate <= 240.0:
            raise SourceUnusable(
                f"The drive {shown(self._path)} claims {rate:g} frames a second; between 1 and 240 can be played."
            )
        return round(1e9 / rate)

    def _geometry(self) -> tuple[int, int]:
        ok, frame = self._capture.read()
        if not ok or frame is None:
            raise SourceUnusable(f"The drive {shown(self._path)} holds no frame that can be decoded.")
        height, width = frame.shape[:2]
        if height * width > MAX_PIXELS:
            raise SourceUnusable(
                f"The drive {shown(self._path)} has frames of {width}x{height}: more than can be held."
            )
        self._rewind()
        return height, width

    def _rewind(self) -> None:
        # Seeking lands on a key frame, not always on the first: opening anew is exact.
        self._capture.release()
        self._capture = self._opened()
        self._read_in_loop = 0


def open_source(url: str) -> VideoSource:
    """Raises SourceUnusable for an unknown kind of source or an unusable one."""
    kind, _, rest = url.partition(":")
    if kind != "video" or not rest:
        raise SourceUnusable(f"The camera source {shown(url)!r} is of no known kind. Known: video:PATH[?loop=1].")
    path, mark, query = rest.rpartition("?")
    options = parse_qs(query) if mark else {}
    return VideoSource(Path(path if mark else rest), loop=options.get("loop") == ["1"])
