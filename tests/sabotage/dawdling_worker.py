"""The worker takes 60 ms longer over every frame."""

from __future__ import annotations

import time
from typing import Any

from tests.sabotage.afterimport import after, put

CLAIM = "camera to result"


@after("inference.detector")
def frames_take_long(detector: Any) -> None:
    def detect(self: Any, *arguments: Any) -> Any:
        time.sleep(0.06)
        return honest(self, *arguments)

    honest = put(detector.Detector, "detect", detect)
