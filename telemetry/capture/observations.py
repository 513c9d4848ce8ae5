"""What the rules are told about a camera's view, in telemetry's own words."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TrackSeen:
    """One tracked object. `box` is xyxy in pixels of the camera's frame; `hits` counts the frames it was seen in."""

    track_id: int
    label: str
    score: float
    box: tuple[float, float, float, float]
    hits: int


@dataclass(frozen=True, slots=True)
class View:
    """What one frame of one camera showed; `t_ns` is boot time of its capture."""

    camera: str
    frame_id: int
    t_ns: int
    tracks: tuple[TrackSeen, ...]
