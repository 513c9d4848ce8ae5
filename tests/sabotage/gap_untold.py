"""A picture that was wanted while there was no redactor is forgotten without a count."""

from __future__ import annotations

from typing import Any

from tests.sabotage.afterimport import after, put

CLAIM = "redactor killed: no picture meanwhile, each wanted one counted"


@after("agent.redactor.pictures")
def nobody_counts_it(pictures: Any) -> None:
    def drop_wanted(self: Any, why: Any) -> None:
        self._wanted_next = None

    put(pictures.PictureSide, "_drop_wanted", drop_wanted)
