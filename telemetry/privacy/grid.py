"""Coarse positions: the Earth in fixed cells, each told as its middle.

Rows of equal height, each divided into a whole number of cells by its own circumference, from the 180th meridian on:
the scheme of NASA's integerized sinusoidal bins (Ocean Biology Processing Group, level-3 binning). A cell depends on
nothing but `cell_m`, so that standing still or passing again tells nothing new, as added noise would.
"""

from __future__ import annotations

import math
from typing import Final

METRES_PER_DEGREE: Final = math.radians(6_371_008.8)
"""Along a great circle of the sphere with the Earth's mean radius."""

DECIMALS: Final = 5
COMPASS_POINT: Final = 45.0


def middle_of_cell(latitude: float, longitude: float, cell_m: float) -> tuple[float, float] | None:
    """The middle (latitude, longitude) of the cell around a position in degrees; None for what is no position.

    A cell is at least `cell_m` high, and at least that wide unless it is the only one of its row (near a pole).
    """
    if not (-90.0 <= latitude <= 90.0 and -180.0 <= longitude <= 180.0):
        return None
    rows = rows_of(cell_m)
    row, middle_latitude = _middle(latitude + 90.0, 180.0, rows)
    columns = columns_of(row, rows, cell_m)
    # 180 degrees east is 180 degrees west.
    _, middle_longitude = _middle((longitude + 180.0) % 360.0, 360.0, columns)
    return round(middle_latitude - 90.0, DECIMALS), round(middle_longitude - 180.0, DECIMALS)


def compass_point(heading: float) -> float:
    """The nearest of the eight points of the compass, degrees."""
    return round(heading / COMPASS_POINT) * COMPASS_POINT % 360.0


def _middle(along: float, whole: float, parts: int) -> tuple[int, float]:
    """Which of the equal parts of `whole` holds `along`, and that part's middle."""
    part = min(int(along / whole * parts), parts - 1)
    return part, (part + 0.5) * whole / parts


def rows_of(cell_m: float) -> int:
    """How many there are from pole to pole."""
    return max(1, int(180.0 * METRES_PER_DEGREE / cell_m))


def columns_of(row: int, rows: int, cell_m: float) -> int:
    """Cells in a row: by its narrower edge, so that no cell is narrower than asked."""
    edges = (abs(part * 180.0 / rows - 90.0) for part in (row, row + 1))
    circumference_m = 360.0 * METRES_PER_DEGREE * math.cos(math.radians(max(edges)))
    return max(1, int(circumference_m / cell_m))
