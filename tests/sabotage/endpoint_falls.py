"""The endpoint's process ends at the first packet that breaks the protocol."""

from __future__ import annotations

import os
from typing import Any

from tests.sabotage.afterimport import after, put

CLAIM = "hostile packets refused, endpoint up"


@after("receiver.packets")
def a_violation_ends_it(packets: Any) -> None:
    def init(self: Any, *_: Any) -> None:
        os._exit(70)

    put(packets.Violation, "__init__", init)
