"""The receiver forgets which updates a vehicle has sent before."""

from __future__ import annotations

import dataclasses
from typing import Any

from tests.sabotage.afterimport import after, put

CLAIM = "updates replayed, stale, of a wrong base"


@after("telemetry.federated.admission")
def forgets(admission: Any) -> None:
    def admit_update(vehicle: str, update: Any, verify: Any, known: Any) -> Any:
        return honest(vehicle, update, verify, dataclasses.replace(known, sent=frozenset()))

    honest = put(admission, "admit_update", admit_update)
