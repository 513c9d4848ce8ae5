"""One number of a benchmark, and the whole answer of one."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, assert_never

NOT_MEASURED: Final = "not measured"
Sense = Literal["at least", "at most", "above"]
_DIGITS: Final = 4


@dataclass(frozen=True, slots=True)
class Metric:
    """`bar` is None where no number was promised: the metric then informs and can't fail. `value` is not a
    number (NaN) where nothing could be measured here: `how` says why, and no bar is met."""

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
            # JSON has no number for what isn't finite.
            "value": round(self.value, _DIGITS) if math.isfinite(self.value) else None,
            "unit": self.unit,
            "bar": self.bar,
            "ok": self.ok,
            "how": self.how,
        }

    @property
    def said(self) -> str:
        """The number with its unit, for people."""
        return NOT_MEASURED if math.isnan(self.value) else f"{self.value:.4g} {self.unit}"


def unless(missing: str | None, *metrics: Metric) -> list[Metric]:
    """These rows; where something is `missing` they are there all the same, without a number: no bar vanishes."""
    if missing is None:
        return list(metrics)
    return [replace(metric, value=math.nan, how=f"{NOT_MEASURED}: {missing}") for metric in metrics]


def answer(bench: str, host: str, metrics: list[Metric]) -> dict[str, Any]:
    """The stable form of `outrider bench NAME --json`. `load` is the machine's load average as it ended."""
    load = round(os.getloadavg()[0], 2)
    return {"bench": bench, "host": host, "load": load, "metrics": [metric.as_json() for metric in metrics]}
