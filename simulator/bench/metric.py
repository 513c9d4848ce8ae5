"""One number of a benchmark, and the whole answer of one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Final, Literal, assert_never

Sense = Literal["at least", "at most", "above"]
_DIGITS: Final = 4


@dataclass(frozen=True, slots=True)
class Metric:
    """`bar` is None where no number was promised: the metric then informs and can't fail."""

    metric: str
    value: float
    unit: str
    how: str
    bar: float | None = None
    sense: Sense = "at most"

    @property
    def ok(self) -> bool:
        if self.bar is None:
            return True
        match self.sense:
            case "at least":
                return self.value >= self.bar
            case "at most":
                return self.value <= self.bar
            case "above":
                return self.value > self.bar
            case _:
                assert_never(self.sense)

    def as_json(self) -> dict[str, Any]:
        return {
            "metric": self.metric,
            "value": round(self.value, _DIGITS),
            "unit": self.unit,
            "bar": self.bar,
            "ok": self.ok,
            "how": self.how,
        }


def answer(bench: str, host: str, metrics: list[Metric]) -> dict[str, Any]:
    """The stable form of `outrider bench NAME --json`. `load` is the machine's load average as it ended."""
    load = round(os.getloadavg()[0], 2)
    return {"bench": bench, "host": host, "load": load, "metrics": [metric.as_json() for metric in metrics]}
