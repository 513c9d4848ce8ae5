"""A picture that was wanted while there was no redactor is forgotten without a count."""

from __future__ import annotations

from typing import Any

from tests.sabotage.afterimport import after, put

CLAIM = "redactor killed: no picture meanwhile, each wanted one counted"


@after("agent.redactor.pictures")
def nobody_counts_it(pictures: Any) -> None:
    real = pictures.PictureSide.saw

    def saw(self: Any, frame: Any, *more: Any) -> bool:
        if self._ready is None:
            self._taken_wishes(frame.t_ns)
            return False
        return bool(real(self, frame, *more))

    put(pictures.PictureSide, "saw", saw)
