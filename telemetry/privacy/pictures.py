"""Pictures that may be written: a value that only a redactor makes, and the port that it comes through (law 5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from telemetry.records import Record


@dataclass(frozen=True, slots=True)
class RedactedPicture:
    """A picture in which nobody can be recognized. `jpeg` has `width` x `height` pixels; `captured_ns` is the frame's
    boot time; `covered` counts the regions made unrecognizable, 0 where nobody was seen; `reason`: what it is for.

    Holding one is the proof that the privacy stage has seen it: nothing but a Redactor makes one.
    """

    jpeg: bytes
    width: int
    height: int
    frame_id: int
    captured_ns: int
    covered: int
    reason: str


@dataclass(frozen=True, slots=True)
class RedactedCrop:
    """A part of a picture in which nobody can be recognized: what a track's box held in that frame, scaled to `size` x
    `size` pixels of three bytes (BGR). Cut by a Redactor from what it had covered, as it would be in its picture."""

    pixels: bytes
    size: int
    frame_id: int
    captured_ns: int
    track_id: int


class Redactor(Protocol):
    """Makes pictures of one camera's frames, with everything personal covered, and gives them to whoever it was made
    for.

    What it gives has been through detection and covering of this very frame, at the size that it has now, and holds no
    metadata but a JPEG's own. It fails closed: whatever goes wrong (no model, no time, a process that died), there is
    no picture, and that is counted.
    """

    def note(self, record: Record) -> None:
        """An event that has passed the privacy stage; some deserve a picture of what was seen with them."""
        ...
