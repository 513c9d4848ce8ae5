"""The live worker waits over each frame that a candidate looks at, too."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from tests.sabotage.afterimport import after, put

CLAIM = "live model while another looks on"


@after("agent.perception.perception")
def the_look_says_so(perception: Any) -> None:
    def look_at(self: Any, frame: Any) -> Any:
        return msgspec.structs.replace(honest(self, frame), fingerprint=self._models.beside is not None)

    honest = put(perception.Perception, "_look_at", look_at)


@after("inference.pixels")
def whoever_is_told_waits(pixels: Any) -> None:
    """The worker's own module has another name where it is the main one: its two neighbours tell it between them."""
    from ecu.channel import Channel

    watched = [False]

    def receive(self: Any) -> Any:
        message, descriptors = hear(self)
        watched[0] = getattr(message, "fingerprint", False)
        return message, descriptors

    def frame(self: Any, *arguments: Any) -> Any:
        if watched[0]:
            time.sleep(0.02)
        return honest(self, *arguments)

    hear = put(Channel, "receive", receive)
    honest = put(pixels.FrameMemory, "frame", frame)
