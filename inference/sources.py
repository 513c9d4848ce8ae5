"""Where frames come from, by URL. Now: `video:PATH[?loop=0|1]`, a recorded drive read frame by frame.

A source knows pixels and their pace, nothing of slots or processes.
"""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from ecu.clock import MILLISECOND_NS, SECOND_NS
from ecu.errors import UsageFault, shown

MAX_PIXELS: Final = 4096 * 2304
RATES: Final = (1.0, 240.0)


class SourceUnusable(UsageFault):
    """This input can't be used, now or later. The message names it and says why."""


class VideoSource:
    """A recorded drive, upright as its orientation mark says. Raises SourceUnusable at once when it can't be one."""

    def __init__(self, path: Path, loop: bool) -> None:
        self._path = path
        self._name = shown(path)
        self._loop = loop
        self._capture = self._opened()
        self._expected = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self._read_in_loop = 0
        self._reached_ms = 0.0
        self._fresh = True
        self.period_ns = self._period()
        self.height, self.width = self._geometry()

    def grab(self) -> bool:
        """Moves to the next frame, at the drive's end to its first again when looping. False: the drive is over."""
        if self._step():
            return True
        self._demand_whole()
        if not self._loop:
            return False
        self._rewind()
        if not self._step():
            raise SourceUnusable(f"The drive {self._name} holds no frame any more: put the whole file back.")
        self._fresh = True
        return True

    def fill(self, frame: NDArray[np.uint8]) -> bool:
        """Decodes the grabbed frame into `frame` in place; True when the scene starts anew with it."""
        ok, got = self._capture.retrieve(frame)
        if not ok or got.shape != frame.shape:
            shape = f"{got.shape[1]}x{got.shape[0]}" if ok else "nothing"
            raise SourceUnusable(
                f"Frame {self._read_in_loop} of the drive {self._name} decodes to {shape} where "
                f"{self.width}x{self.height} was expected. One drive has one size: convert it first."
            )
        if got is not frame:
            # A picture turned by a quarter comes in memory of its own.
            np.copyto(frame, got)
        fresh, self._fresh = self._fresh, False
        return fresh

    def _step(self) -> bool:
        if not self._capture.grab():
            return False
        self._read_in_loop += 1
        self._reached_ms = self._capture.get(cv2.CAP_PROP_POS_MSEC)
        return True

    def _demand_whole(self) -> None:
        # Some containers only estimate their count, so the time reached must fall short as well.
        claimed_ms = (self._expected - 1.5) * self.period_ns / MILLISECOND_NS
        if self._read_in_loop < self._expected and self._reached_ms < claimed_ms:
            raise SourceUnusable(
                f"The drive {self._name} breaks off after {self._read_in_loop} of {self._expected} frames: it is "
                "truncated or damaged. Copy it again, or cut it to its whole part (ffmpeg -i IN -c copy OUT)."
            )

    def _opened(self) -> cv2.VideoCapture:
        self._demand_readable()
        # An absolute path can't be taken for a URL or a device; one thread decodes the same on any load.
        capture = cv2.VideoCapture(str(self._path.absolute()), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
        if not capture.isOpened():
            raise SourceUnusable(
                f"The file {self._name} can't be read as a video. It may be damaged, or in a format that this "
                "machine can't decode: convert it to MP4 with H.264."
            )
        return capture

    def _demand_readable(self) -> None:
        try:
            is_file = stat.S_ISREG(self._path.stat().st_mode)
            if is_file:
                self._path.open("rb").close()
        except OSError as error:
            raise SourceUnusable(
                f"The drive {self._name} can't be opened: {error.strerror}. Name a video file (MP4, H.264)."
            ) from error
        if not is_file:
            raise SourceUnusable(f"The drive {self._name} isn't a file. Name a video file (MP4, H.264).")

    def _period(self) -> int:
        rate = float(self._capture.get(cv2.CAP_PROP_FPS))
        if not RATES[0] <= rate <= RATES[1]:
            raise SourceUnusable(
                f"The drive {self._name} claims {rate:g} frames a second; between {RATES[0]:g} and {RATES[1]:g} can be "
                "played. Convert it to its true rate."
            )
        return round(SECOND_NS / rate)

    def _geometry(self) -> tuple[int, int]:
        turn = self._capture.get(cv2.CAP_PROP_ORIENTATION_META)
        if turn % 90:
            raise SourceUnusable(
                f"The drive {self._name} is marked as turned by {turn:g} degrees; only quarter turns can be undone. "
                "Remove the mark, or turn the pictures themselves."
            )
        # What is claimed is looked at first: decoding makes room for it.
        self._demand_size(
            int(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT)), int(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH))
        )
        ok, frame = self._capture.read()
        if not ok:
            raise SourceUnusable(f"The drive {self._name} holds no frame that can be decoded. Record or copy it again.")
        height, width = frame.shape[:2]
        self._demand_size(height, width)
        self._rewind()
        return height, width

    def _demand_size(self, height: int, width: int) -> None:
        if height * width > MAX_PIXELS:
            raise SourceUnusable(
                f"The drive {self._name} has frames of {width}x{height}; {MAX_PIXELS} pixels are the most that a frame "
                "may have. Scale it down first."
            )

    def _rewind(self) -> None:
        # Seeking lands on a key frame, not always on the first: opening anew is exact.
        self._capture.release()
        self._capture = self._opened()
        self._read_in_loop = 0


def open_source(url: str) -> VideoSource:
    """Raises SourceUnusable for an unknown kind of source or an unusable one."""
    kind, _, rest = url.partition(":")
    if kind != "video" or not rest:
        raise SourceUnusable(f"The camera source '{shown(url)}' is of no known kind. Known: video:PATH[?loop=1].")
    for option, loop in (("?loop=1", True), ("?loop=0", False)):
        if rest.endswith(option):
            return VideoSource(Path(rest.removesuffix(option)), loop)
    # Any other question mark belongs to the file's name.
    return VideoSource(Path(rest), loop=False)
