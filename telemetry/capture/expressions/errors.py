"""Why a text isn't an expression.

TelemetryError
└── BadExpression    never ask again with the same text; `column` is where, from 1
"""

from __future__ import annotations

from ecu.errors import UsageFault
from telemetry.records import TelemetryError


class BadExpression(TelemetryError, UsageFault):
    """`column` counts characters from 1; `nearest` is the right name that was probably meant, where there is one."""

    def __init__(self, column: int, reason: str, nearest: str | None = None) -> None:
        hint = "" if nearest is None else f" The nearest one is {nearest}."
        super().__init__(f"column {column}: {reason}{hint}")
        self.column = column
        self.reason = reason
        self.nearest = nearest
