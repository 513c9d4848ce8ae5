"""What the agent and its redactor tell each other (over ecu.channel); frame memory comes as inference.messages.Ring."""

from __future__ import annotations

from typing import Final, Union

import msgspec

from ecu.channel import Message
from inference.messages import Ring

PART_BYTES: Final = 96 * 1024
MAX_PICTURE_BYTES: Final = 4 << 20
MOST_CUTS: Final = 8
"""Crops of one frame."""
REMEMBERED: Final = 16
"""Covered pictures that a redactor holds: those before an event are among them."""


class Thing(msgspec.Struct, frozen=True):
    """Something the live model saw. `box` is xyxy in pixels of the frame; what isn't `tracked` was too unsure to be."""

    label: str
    box: tuple[float, float, float, float]
    tracked: bool = True


class Cut(msgspec.Struct, frozen=True):
    """A track to cut out of the covered picture. `box` is xyxy in pixels of the frame."""

    track_id: int
    box: tuple[float, float, float, float]


class Cover(Message, frozen=True, tag="cover"):
    """Cover the frame in the slot, with what the live model saw in it, and remember the result for a while. `cuts` are
    told as crops of `crop_px` x `crop_px` pixels."""

    slot: int
    frame_id: int
    width: int
    height: int
    things: tuple[Thing, ...]
    cuts: tuple[Cut, ...] = ()
    crop_px: int = 0


class Develop(Message, frozen=True, tag="develop"):
    """Tell the covered picture of that frame, and up to `before` remembered ones from before it, the oldest first."""

    frame_id: int
    before: int


class RedactorReady(Message, frozen=True, tag="redactor_ready"):
    """The face model is loaded, and its golden vectors hold here. `model` names it."""

    model: str


class Covered(Message, frozen=True, tag="covered"):
    """Nobody looks at the frame's slot any more. The picture holds `regions` covered regions."""

    frame_id: int
    regions: int


class Crop(Message, frozen=True, tag="crop"):
    """After that frame's Covered: one of its cuts, size x size x 3 bytes (BGR) of the covered picture. A cut that holds
    too few pixels to show anything is left out."""

    frame_id: int
    track_id: int
    size: int
    pixels: bytes


class Part(Message, frozen=True, tag="part"):
    """A part of that frame's covered JPEG, of `whole` bytes; they come in order, one picture after the other."""

    frame_id: int
    whole: int
    data: bytes


class Developed(Message, frozen=True, tag="developed"):
    """All pictures of that frame's Develop have been told: how many."""

    frame_id: int
    pictures: int


class RedactorFault(Message, frozen=True, tag="redactor_fault"):
    """It can't make pictures that show nobody; the process ends after saying so."""

    reason: str


ToRedactor = Union[Ring, Cover, Develop]  # noqa: UP007
FromRedactor = Union[RedactorReady, Covered, Crop, Part, Developed, RedactorFault]  # noqa: UP007
