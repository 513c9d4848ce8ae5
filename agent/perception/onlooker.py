"""Somebody else who may look at a frame once the live model has: the redactor, for pictures of what was noticed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from inference.frames import FrameRing
from inference.messages import CameraHello, Filled, Seen


class Onlooker(Protocol):
    """Told of every frame after what came of it was told."""

    def show(self, ring: FrameRing) -> None:
        """From now on frames lie in this ring; told once."""
        ...

    def saw(self, frame: Filled, geometry: CameraHello, seen: Seen, done: Callable[[], None]) -> bool:
        """True: the frame stays where it is until `done` is called, once."""
        ...
