"""While there is no redactor the agent takes its pictures all the same, uncovered: here, from the last one it had."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.sabotage.afterimport import after, put

CLAIM = "redactor killed: no picture meanwhile, each wanted one counted"


@after("agent.redactor.pictures")
def pictures_are_taken_without_it(pictures: Any) -> None:
    last: list[Any] = []

    def opened(self: Any, settings: Any, clock: Any, supervision: Any, on_picture: Any, on_health: Any) -> None:
        def pictured(picture: Any) -> None:
            last[:] = [picture]
            on_picture(picture)

        honest_init(self, settings, clock, supervision, pictured, on_health)

    def saw(self: Any, frame: Any, geometry: Any, seen: Any, done: Any) -> bool:
        if self._ready is None and self._wanted_next is not None and last:
            self._wanted_next = None
            self._taken += 1
            # Other bytes, so that it isn't taken for the one before.
            jpeg = last[0].jpeg + bytes(1)
            self._on_picture(replace(last[0], jpeg=jpeg, frame_id=frame.frame_id))
        return bool(honest_saw(self, frame, geometry, seen, done))

    honest_init = put(pictures.PictureSide, "__init__", opened)
    honest_saw = put(pictures.PictureSide, "saw", saw)
