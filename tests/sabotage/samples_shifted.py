"""Each sample of a campaign is told with the value of the one before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.sabotage.afterimport import after, put

CLAIM = "a signed campaign told what the vehicle did"


@after("agent.signals.capturing")
def shifts(capturing: Any) -> None:
    def pack(parts: Sequence[Any], *arguments: Any) -> Any:
        shifted = [type(part)(part.group, part.t_ns, tuple(map(_shifted, part.values))) for part in parts]
        return honest(shifted, *arguments)

    honest = put(capturing, "pack", pack)


def _shifted(values: Any) -> Any:
    return None if values is None else np.roll(values, 1)
