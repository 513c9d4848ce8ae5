"""What a head unit's display is told of each frame: the `seen` event of `GET /events`."""

from __future__ import annotations

from dataclasses import dataclass

from inference.messages import SeenTrack


@dataclass(frozen=True, slots=True)
class View:
    """One frame's result, and the model that gave it. `t_ns` is boot time of its capture, `latency_ns` from there to
    here; of it, `model_ns` went into the runtime's own call."""

    frame_id: int
    model: str
    t_ns: int
    latency_ns: int
    model_ns: int
    tracks: tuple[SeenTrack, ...]
