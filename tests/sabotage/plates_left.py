"""The redactor covers faces and heads, and forgets that vehicles have plates."""

from __future__ import annotations

from typing import Any

from tests.sabotage.afterimport import after, put

CLAIM = "where plates are, pictures lose their detail"


@after("telemetry.privacy.covering")
def plate_bands_are_empty(covering: Any) -> None:
    put(covering, "plate_band_of", lambda vehicle: (0.0, 0.0, 0.0, 0.0))
