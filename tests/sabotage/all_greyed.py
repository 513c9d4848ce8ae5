"""The redactor covers everything, which is always safe and never of use."""

from __future__ import annotations

from typing import Any

from tests.sabotage.afterimport import after, put

CLAIM = "all that isn't covered is as the camera saw it"


@after("telemetry.privacy.covering")
def nothing_is_left(covering: Any) -> None:
    def cover(picture: Any, boxes: Any) -> None:
        picture[:] = covering.GREY

    put(covering, "cover", cover)
