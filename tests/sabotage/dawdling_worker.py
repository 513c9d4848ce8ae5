"""The worker takes 60 ms longer over every frame."""

from __future__ import annotations

import time
from itertools import count
from typing import Any

from tests.sabotage.afterimport import after

CLAIM = "camera to result, p99"


@after("inference.detector")
def some_frames_take_long(detector: Any) -> None:
    honest, number = detector.Detector.detect, count(1)

    def detect(self: Any, *arguments: Any) -> Any:
        if next(number) % 20 == 0:
            time.sleep(0.1)
        return honest(self, *arguments)

    detector.Detector.detect = detect
