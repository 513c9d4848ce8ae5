"""While there is no redactor the agent takes its pictures all the same, and nothing in them is covered."""

from __future__ import annotations

from typing import Any

from tests.sabotage.afterimport import after, put

CLAIM = "redactor killed: no picture meanwhile, each wanted one counted"


@after("agent.redactor.pictures")
def pictures_are_taken_without_it(pictures: Any) -> None:
    def saw(self: Any, frame: Any, geometry: Any, seen: Any, done: Any) -> bool:
        if self._ready is None and self._wanted_next is not None:
            wish, self._wanted_next = self._wanted_next, None
            self._taken += 1
            self._on_picture(
                pictures.RedactedPicture(
                    jpeg=b"\xff\xd8 frame %d as it was \xff\xd9" % frame.frame_id, width=geometry.width,
                    height=geometry.height, frame_id=frame.frame_id, captured_ns=frame.t_ns, covered=0,
                    reason=wish.reason,
                )
            )  # fmt: skip
        return bool(honest_saw(self, frame, geometry, seen, done))

    honest_saw = put(pictures.PictureSide, "saw", saw)
