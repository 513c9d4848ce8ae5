"""A vehicle takes what the director says for whichever vehicle."""

from __future__ import annotations

import dataclasses
from typing import Any

from tests.sabotage.afterimport import after, put

CLAIM = "forged and stale offers refused by name"


@after("ota.trust")
def the_name_is_whoevers(trust: Any) -> None:
    def agreed(self: Any, directed: Any, image: Any) -> Any:
        named = directed.unrecognized_fields[trust.VEHICLE_FIELD]
        self._vehicle = dataclasses.replace(self._vehicle, name=named)
        return honest(self, directed, image)

    honest = put(trust.Trust, "_agreed", agreed)
