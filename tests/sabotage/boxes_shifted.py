"""Boxes are drawn half their width to the right; the model itself, and so its golden check, is in order."""

from __future__ import annotations

from typing import Any

from tests.sabotage.afterimport import after, put

CLAIM = "INT8 fidelity to fp32"


@after("inference.letterbox")
def boxes_are_shifted(letterbox: Any) -> None:
    def boxes_to_frame(self: Any, boxes: Any) -> Any:
        shifted = boxes.copy()
        shifted[:, [0, 2]] += (boxes[:, [2]] - boxes[:, [0]]) / 2
        return honest(self, shifted)

    honest = put(letterbox.Letterbox, "boxes_to_frame", boxes_to_frame)
