"""One thing in view, as everything that shows a drive takes it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Box:
    """A track in one frame. `box` is xyxy in pixels of the camera's frame; `score` is 0..1."""

    track_id: int
    label: str
    score: float
    box: tuple[float, float, float, float]
