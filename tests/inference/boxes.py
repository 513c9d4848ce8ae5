"""Detections for tests: by hand, and drawn by hypothesis."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from inference.detections import Detections

Row = tuple[int, float, float, float, float, float]


def detections(*rows: Row) -> Detections:
    """Of rows (label, score, x1, y1, x2, y2)."""
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Detections(table[:, 2:].astype(np.float32), table[:, 1].astype(np.float32), table[:, 0].astype(np.int64))


@st.composite
def _row(draw: st.DrawFn) -> Row:
    x, y = draw(st.integers(0, 60)), draw(st.integers(0, 60))
    width, height = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    # Few values each: ties and duplicates are where orders go wrong.
    score = draw(st.sampled_from([0.25, 0.35, 0.4, 0.5, 0.5, 0.9]))
    return draw(st.integers(0, 2)), score, x, y, x + width, y + height


def some_detections(max_size: int = 12) -> st.SearchStrategy[Detections]:
    return st.lists(_row(), max_size=max_size).map(lambda rows: detections(*rows))


def as_rows(seen: Detections) -> list[Row]:
    """Sorted, so that two orders of the same detections are equal."""
    columns = zip(seen.labels.tolist(), seen.scores.tolist(), *seen.boxes.T.tolist(), strict=True)
    return sorted(columns)
