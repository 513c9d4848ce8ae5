"""A redactor's process: `python -m agent.redactor.process --faces DIR --channel FD`.

A frame and what the live model saw in it come in; a JPEG in which nobody can be told apart is all that ever goes out,
and all that is remembered (the pre-roll). It sees the frame memory read-only, holds no keys and no network, and writes
nothing anywhere: a core dump of it doesn't exist.
"""

from __future__ import annotations

import argparse
import math
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.redactor.messages import (
    MAX_PICTURE_BYTES,
    PART_BYTES,
    REMEMBERED,
    Cover,
    Covered,
    Crop,
    Develop,
    Developed,
    Part,
    RedactorFault,
    RedactorReady,
    Thing,
    ToRedactor,
)
from ecu.channel import Channel, ChannelClosed
from ecu.process import Limits, freeze_heap
from inference.confined import begin
from inference.errors import InferenceError
from inference.faces import FaceDetector, face_detector_of
from inference.manifest import FacesManifest
from inference.messages import Ring
from inference.package import load_package
from inference.pixels import FrameMemory
from inference.session import Session
from telemetry.privacy.covering import Box, cover, person_cover, pixel_region, plate_band_of

ADDRESS_SPACE_BYTES: Final = 2 << 30
JPEG_QUALITY: Final = 80
LEAST_CUT_PX: Final = 5
PERSON: Final = "person"
VEHICLES: Final = frozenset({"car", "truck", "bus", "motorcycle", "train"})
NOBODYS: Final = frozenset({"bicycle", "traffic_light", "stop_sign", "dog", "cat", "horse"})
"""What tells of nobody. A label that is in none of these is covered whole: a later model may call a person anything."""


class NoPicture(Exception):
    """What was asked for can't be a picture; the process ends after saying so."""


class Redactor:
    """Answers each Cover with a Covered, and each Develop with its pictures, in order."""

    def __init__(self, faces: FaceDetector, trusted_px: float | None, channel: Channel[ToRedactor]) -> None:
        self._faces = faces
        self._trusted_px = trusted_px
        self._channel = channel
        self._memory: FrameMemory | None = None
        self._remembered: OrderedDict[int, bytes] = OrderedDict()

    def run(self) -> None:
        """Until the agent goes (ChannelClosed), the model fails (InferenceError) or a frame is none (NoPicture)."""
        while True:
            message, descriptors = self._channel.receive()
            match message:
                case Cover():
                    self._cover(message)
                case Develop(frame_id, before):
                    self._develop(frame_id, before)
                case Ring(slots, slot_bytes):
                    self._memory = FrameMemory(descriptors[0], slots, slot_bytes, writable=False)

    def _cover(self, asked: Cover) -> None:
        assert self._memory is not None, "a Cover came before the Ring"
        if min(asked.width, asked.height) < 1:
            raise NoPicture(
                f"A frame of {asked.width}x{asked.height} pixels has nothing to cover. Look at the camera's settings."
            )
        frame = self._memory.frame(asked.slot, asked.height, asked.width)
        covered, regions = redacted(frame, asked.things, self._faces, self._trusted_px)
        # Its slot may go back now: nothing of the frame as it was is looked at again.
        self._channel.send(Covered(asked.frame_id, regions))
        for cut in asked.cuts:
            if (pixels := cut_out(covered, cut.box, asked.crop_px)) is not None:
                self._channel.send(Crop(asked.frame_id, cut.track_id, asked.crop_px, pixels))
        done, jpeg = cv2.imencode(".jpg", covered, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        if done and len(jpeg) <= MAX_PICTURE_BYTES:
            self._remembered[asked.frame_id] = jpeg.tobytes()
        while len(self._remembered) > REMEMBERED:
            self._remembered.popitem(last=False)

    def _develop(self, frame_id: int, before: int) -> None:
        earlier = [remembered for remembered in self._remembered if remembered < frame_id]
        wanted = earlier[max(0, len(earlier) - before) :]
        wanted += [frame_id] if frame_id in self._remembered else []
        for remembered in wanted:
            for part in _parts(remembered, self._remembered[remembered]):
                self._channel.send(part)
        self._channel.send(Developed(frame_id, len(wanted)))


def redacted(
    frame: NDArray[np.uint8], things: tuple[Thing, ...], faces: FaceDetector, trusted_px: float | None
) -> tuple[NDArray[np.uint8], int]:
    """A copy of frame (H, W, 3) uint8 BGR with every face, head and plate band covered, and how many regions that is.

    `trusted_px` is the height from which on a tracked person's box is trusted to show where the head is. Raises
    ModelFault.
    """
    persons = [thing for thing in things if thing.label == PERSON]
    # There may be a hundred that are hardly persons: those are covered whole, and no face is looked for in them.
    looked_at = [person.box for person in persons if person.tracked]
    found = faces.detect(frame, np.array(looked_at, np.float32).reshape(-1, 4))
    boxes: list[Box] = [(float(x1), float(y1), float(x2), float(y2)) for x1, y1, x2, y2 in found.boxes]
    boxes += [cover_of(thing, trusted_px) for thing in things if thing.label not in NOBODYS]
    picture = frame.copy()
    cover(picture, boxes)
    return picture, len(boxes)


def cut_out(picture: NDArray[np.uint8], box: Box, size: int) -> bytes | None:
    """What picture (H, W, 3) uint8 holds in the box, scaled to size x size by the mean over areas; None where that is
    less than LEAST_CUT_PX high or wide."""
    region = None if any(map(math.isnan, box)) else pixel_region(box, *picture.shape[:2])
    if region is None or min(region.right - region.left, region.bottom - region.top) < LEAST_CUT_PX:
        return None
    part = picture[region.top : region.bottom, region.left : region.right]
    return cv2.resize(part, (size, size), interpolation=cv2.INTER_AREA).tobytes()


def cover_of(thing: Thing, trusted_px: float | None) -> Box:
    """What to cover of something that may tell of somebody: what is neither a person nor a vehicle, all of it."""
    if thing.label in VEHICLES:
        return plate_band_of(thing.box)
    return person_cover(thing.box, trusted_px if thing.label == PERSON and thing.tracked else None)


def _parts(frame_id: int, jpeg: bytes) -> Iterator[Part]:
    for at in range(0, len(jpeg), PART_BYTES):
        yield Part(frame_id, len(jpeg), jpeg[at : at + PART_BYTES])


def main() -> None:
    parser = argparse.ArgumentParser(prog="agent.redactor.process")
    parser.add_argument("--faces", type=Path, required=True)
    parser.add_argument("--channel", type=int, required=True)
    arguments = parser.parse_args()
    limits = Limits(address_space_bytes=ADDRESS_SPACE_BYTES)
    channel: Channel[ToRedactor] = begin(arguments.channel, ToRedactor, limits)
    try:
        package = load_package(arguments.faces)
        manifest = package.manifest_of(FacesManifest)
        detector = face_detector_of(Session(package))
        freeze_heap()
        channel.send(RedactorReady(package.title))
        Redactor(detector, manifest.recall.trusted_person_px, channel).run()
    except (InferenceError, NoPicture) as fault:
        channel.send(RedactorFault(str(fault)))
    except ChannelClosed:
        pass


if __name__ == "__main__":
    main()
