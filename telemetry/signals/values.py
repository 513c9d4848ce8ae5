"""The last value of every signal of a schema, how old it is, and whether it may still be believed.

As telemetry/signals/state.py, for batches of columns. Ages are of boot time, which goes on through a suspend: after one
everything is stale until it comes again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import numpy as np

from ecu.clock import MILLISECOND_NS, SECOND_NS
from telemetry.signals.schema import Columns, Schema
from telemetry.signals.state import STALE_AFTER_DEFAULT_NS, Validity

PERIODS: Final = 3
STALE_AT_LEAST_NS: Final = 100 * MILLISECOND_NS
STALE_AT_MOST_NS: Final = 10 * SECOND_NS
MAX_AHEAD_NS: Final = SECOND_NS
NEVER_NS: Final = -(1 << 62)


def stale_after_ns(period_us: int | None) -> int:
    """How old a value of a group may get: three of its periods, within bounds."""
    if period_us is None:
        return STALE_AFTER_DEFAULT_NS
    return min(max(PERIODS * period_us * 1000, STALE_AT_LEAST_NS), STALE_AT_MOST_NS)


class LastValues:
    """Last values by VSS path; `overrides` has the ages at which single paths are stale.

    A path that several groups have is the newest one's. A value that isn't finite means that the source doesn't know:
    the signal is then missing. Columns that end more than a second ahead of now are counted in `ahead` and not taken:
    they would make the true ones after them look old.
    """

    def __init__(self, schema: Schema, overrides: Mapping[str, int] | None = None) -> None:
        self.ahead = 0
        self._groups = schema.groups
        sizes = [len(group.signals) for group in schema.groups]
        self._begins = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64).tolist()
        self._t_ns = np.full(sum(sizes), NEVER_NS, np.int64)
        self._values = np.full(sum(sizes), math.nan)
        self._limits = np.repeat([stale_after_ns(group.period_us) for group in schema.groups] or [0], sizes or [0])
        self._places: dict[str, list[int]] = {}
        for place, spec in enumerate(spec for group in schema.groups for spec in group.signals):
            self._places.setdefault(spec.path, []).append(place)
        for path, limit_ns in (overrides or {}).items():
            self._limits[self._places.get(path, [])] = limit_ns

    def put(self, columns: Columns, now_ns: int) -> None:
        """Takes the last row of each signal that is told; an older one than the held changes nothing."""
        if not len(columns):
            return
        t_ns = int(columns.t_ns[-1])
        if t_ns > now_ns + MAX_AHEAD_NS:
            self.ahead += 1
            return
        begin = self._begins[columns.group]
        for at, (spec, values) in enumerate(
            zip(self._groups[columns.group].signals, columns.values, strict=True), begin
        ):
            if values is not None and t_ns >= self._t_ns[at]:
                self._t_ns[at] = t_ns
                self._values[at] = float(values[-1]) * spec.scale + spec.offset

    def value(self, path: str, now_ns: int) -> float | None:
        """The value in its unit when it may be believed, else None."""
        place = self._place(path)
        return float(self._values[place]) if place is not None and self._is_fresh(place, now_ns) else None

    def age_ns(self, path: str, now_ns: int) -> int | None:
        """None when there never was a value, or the source said that it doesn't know."""
        place = self._place(path)
        if place is None or not math.isfinite(self._values[place]):
            return None
        return max(0, now_ns - int(self._t_ns[place]))

    def last(self, path: str) -> float | None:
        """The value however old."""
        place = self._place(path)
        return float(self._values[place]) if place is not None and math.isfinite(self._values[place]) else None

    def validity(self, path: str, now_ns: int) -> Validity:
        place = self._place(path)
        if place is None or not math.isfinite(self._values[place]):
            return Validity.MISSING
        return Validity.FRESH if self._is_fresh(place, now_ns) else Validity.STALE

    def fresh(self, now_ns: int) -> dict[str, float]:
        """All values that may be believed now, by path in alphabetical order."""
        values = ((path, self.value(path, now_ns)) for path in sorted(self._places))
        return {path: value for path, value in values if value is not None}

    def _place(self, path: str) -> int | None:
        places = self._places.get(path)
        return None if places is None else max(places, key=lambda place: int(self._t_ns[place]))

    def _is_fresh(self, place: int, now_ns: int) -> bool:
        return math.isfinite(self._values[place]) and now_ns - int(self._t_ns[place]) <= int(self._limits[place])
