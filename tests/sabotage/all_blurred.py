"""The redactor covers what it must, and blurs all the rest, to be sure."""

from __future__ import annotations

from typing import Any

from tests.sabotage.afterimport import after, put

CLAIM = "all that isn't covered is as the camera saw it"


@after("telemetry.privacy.covering")
def the_rest_is_blurred(covering: Any) -> None:
    def cover(picture: Any, boxes: Any) -> None:
        import cv2

        picture[:] = cv2.blur(picture, (15, 15))
        honest(picture, boxes)

    honest = put(covering, "cover", cover)
