"""The plan asks for as many parameters as a vehicle's own floor lets it."""

from __future__ import annotations

from typing import Any

from tests.sabotage.afterimport import after, put

CLAIM = "an update is smaller"


@after("simulator.demo.classroom")
def keeps_all(classroom: Any) -> None:
    put(classroom, "KEEP", 4096)
