"""The privacy stage over columns: the same policy as over records, before a campaign or anybody else sees a sample.

Before a condition sees them, too: who may ask "is the latitude above 48.137?" as often as he likes needs no position.
So whoever runs campaigns gives them what `treat` returns, and no other samples.

A place whose latitude and longitude are told apart is joined from the last known of each. Raw values stay raw: a coarse
one is the raw value nearest to the middle of its cell, the same for the whole cell. Rows that may not be told are taken
out, of all their signals: in zones, where nobody knows whether it is one, and where a position is none.

Child processes import this; the agent loads no numpy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

from ecu.clock import MILLISECOND_NS
from telemetry.privacy.grid import COMPASS_POINT, DECIMALS, columns_of, rows_of
from telemetry.privacy.policy import Position, PrivacyPolicy
from telemetry.privacy.position import HEADING, LATITUDE, LONGITUDE, is_within, places_of, split
from telemetry.privacy.stage import DenyList, Reason
from telemetry.privacy.whereabouts import HOLDS_NS
from telemetry.privacy.zones import any_holds, areas_of, is_place
from telemetry.signals import vss
from telemetry.signals.schema import Columns, Form, Group, Schema, SignalSpec, Values, physical

Floats = NDArray[np.float64]
Times = NDArray[np.int64]
Flags = NDArray[np.bool_]

_REMEMBERS_NS: Final = 10 * HOLDS_NS
"""Batches of slower groups come later than the positions that they were measured at."""
_MOST_RAW: Final = float(1 << 62)
_HOME: Final = vss.LOCATION.casefold()


class _Fate(Enum):
    TOLD = auto()
    WITHHELD = auto()
    LATITUDE = auto()
    LONGITUDE = auto()
    HEADING = auto()


@dataclass(frozen=True, slots=True)
class Fix:
    """Where the vehicle was, for whoever hears no positions of its own; degrees, as exact as they came."""

    t_ns: int
    latitude: float
    longitude: float


@dataclass(slots=True)
class _Known:
    """One coordinate of a place by time, over all groups that tell it."""

    t_ns: Times = field(default_factory=lambda: np.empty(0, np.int64))
    values: Floats = field(default_factory=lambda: np.empty(0))

    def add(self, t_ns: Times, values: Floats) -> None:
        order = np.argsort(joined := np.concatenate((self.t_ns, t_ns)), kind="stable")
        self.t_ns, self.values = joined[order], np.concatenate((self.values, values))[order]

    def forget_before(self, t_ns: int) -> None:
        first = max(0, int(np.searchsorted(self.t_ns, t_ns)) - 1)
        self.t_ns, self.values = self.t_ns[first:], self.values[first:]

    def at(self, t_ns: Times) -> tuple[Times, Floats]:
        """When the last one up to then was measured, and what it was: NaN where there is none, or none so new."""
        if not len(self.t_ns):
            return np.zeros_like(t_ns), np.full(len(t_ns), np.nan)
        at = np.searchsorted(self.t_ns, t_ns, side="right") - 1
        since = self.t_ns[np.maximum(at, 0)]
        known = (at >= 0) & (t_ns - since <= HOLDS_NS)
        return since, np.where(known, self.values[np.maximum(at, 0)], np.nan)


@dataclass(slots=True)
class _Place:
    latitude: _Known = field(default_factory=_Known)
    longitude: _Known = field(default_factory=_Known)

    def at(self, t_ns: Times) -> tuple[Times, Floats, Floats]:
        """Since when it was known at the latest, latitude and longitude."""
        latitude_since, latitude = self.latitude.at(t_ns)
        longitude_since, longitude = self.longitude.at(t_ns)
        return np.minimum(latitude_since, longitude_since), latitude, longitude


class ColumnPrivacy:
    """Applies one policy to the batches of one schema, given in the order of time. `dropped` counts rows by reason; a
    signal that is withheld is in no row, and not counted there. `before` is what did so for another schema until now:
    its counts go on, and where the vehicle is stays known."""

    def __init__(self, schema: Schema, policy: PrivacyPolicy, before: ColumnPrivacy | None = None) -> None:
        self.dropped: Counter[Reason] = Counter(before.dropped if before is not None else ())
        self.fixes: tuple[Fix, ...] = ()
        """Of the last batches."""
        self._schema = schema
        self._policy = policy
        self._areas = areas_of(policy.zones)
        paths = [spec.path for group in schema.groups for spec in group.signals]
        known: dict[str, _Place] = before._places if before is not None else {}
        self._places: dict[str, _Place] = {place: known.get(place) or _Place() for place in places_of(paths)}
        deny = DenyList(policy.deny)
        self._fates = [tuple(self._fate(spec, deny) for spec in group.signals) for group in schema.groups]
        self._placed = [self._placed_in(group, fates) for group, fates in zip(schema.groups, self._fates, strict=True)]
        self._plain = [
            not placed and all(fate is _Fate.TOLD for fate in fates)
            for placed, fates in zip(self._placed, self._fates, strict=True)
        ]
        self._newest_ns: int = before._newest_ns if before is not None else 0

    def may_tell(self, path: str) -> bool:
        """Whether anything of a signal is ever told: a condition on another one can't come true."""
        named = path.casefold()
        return any(
            spec.path.casefold() == named and fate is not _Fate.WITHHELD
            for group, fates in zip(self._schema.groups, self._fates, strict=True)
            for spec, fate in zip(group.signals, fates, strict=True)
        )

    def treat(self, batches: Sequence[Columns]) -> list[Columns]:
        """What of them may be known to anybody. Rows keep their order and stamps; groups with nothing left are gone."""
        self._learn_places(batches)
        hides = bool(self._areas) and not self._is_all_visible(batches)
        told = [batch for given in batches if (batch := self._treated(given, hides)) is not None]
        self._forget_places()
        return told

    # --- deciding ---------------------------------------------------------------------------------

    def _fate(self, spec: SignalSpec, deny: DenyList) -> _Fate:
        if deny.names(spec.path):
            return _Fate.WITHHELD
        if not is_within(spec.path, self._places):
            return _Fate.TOLD
        if self._policy.position is Position.EXACT:
            return _Fate.TOLD
        branch, leaf = split(spec.path)
        if self._policy.position is Position.DROP or self._is_half_denied(branch, deny) or spec.scale == 0:
            return _Fate.WITHHELD
        fates = {LATITUDE: _Fate.LATITUDE, LONGITUDE: _Fate.LONGITUDE, HEADING: _Fate.HEADING}
        return fates.get(leaf, _Fate.WITHHELD) if branch in self._places else _Fate.WITHHELD

    def _is_half_denied(self, place: str, deny: DenyList) -> bool:
        """The one coordinate's cells depend on the other: neither is told alone."""
        return deny.names(f"{place}.{LATITUDE}") or deny.names(f"{place}.{LONGITUDE}")

    # --- where things are -------------------------------------------------------------------------

    def _learn_places(self, batches: Sequence[Columns]) -> None:
        here = self._places[_HOME]
        heard: list[Times] = []
        for batch in batches:
            for spec, raw in zip(self._group(batch).signals, batch.values, strict=True):
                branch, leaf = split(spec.path)
                if raw is None or leaf not in (LATITUDE, LONGITUDE):
                    continue
                place = self._places[branch]
                known = place.latitude if leaf == LATITUDE else place.longitude
                known.add(batch.t_ns, physical(spec, raw))
                if place is here:
                    heard.append(batch.t_ns)
            if len(batch):
                self._newest_ns = max(self._newest_ns, int(batch.t_ns[-1]))
        self.fixes = tuple(self._fixes_at(heard))

    def _forget_places(self) -> None:
        for place in self._places.values():
            place.latitude.forget_before(self._newest_ns - _REMEMBERS_NS)
            place.longitude.forget_before(self._newest_ns - _REMEMBERS_NS)

    def _fixes_at(self, heard: list[Times]) -> Iterable[Fix]:
        if not heard:
            return ()
        t_ns = np.unique(np.concatenate(heard))
        _, latitude, longitude = self._places[_HOME].at(t_ns)
        return map(Fix, t_ns.tolist(), latitude.tolist(), longitude.tolist())

    def _hidden(self, t_ns: Times) -> dict[Reason, Flags]:
        """Rows that may not be told for where the vehicle was."""
        since, latitude, longitude = self._places[_HOME].at(t_ns)
        unknown = ~is_place(latitude, longitude) | (t_ns - since > HOLDS_NS)
        return {Reason.PLACE_UNKNOWN: unknown, Reason.IN_ZONE: ~unknown & any_holds(self._areas, latitude, longitude)}

    def _is_all_visible(self, batches: Sequence[Columns]) -> bool:
        """Whether no row of them is hidden, by looking once for all groups: as nearly always."""
        spans = [(int(batch.t_ns[0]), int(batch.t_ns[-1])) for batch in batches if len(batch)]
        if not spans:
            return True
        first_ns, last_ns = min(begin for begin, _ in spans), max(end for _, end in spans)
        here = self._places[_HOME]
        measured = np.concatenate((here.latitude.t_ns, here.longitude.t_ns))
        # Between these the place stays the same, and can only become stale.
        begins = np.unique(np.append(measured[(measured > first_ns) & (measured <= last_ns)], first_ns))
        since, _, _ = here.at(begins)
        ends = np.append(begins[1:] - 1, last_ns)
        return not any(rows.any() for rows in self._hidden(begins).values()) and bool((ends - since <= HOLDS_NS).all())

    # --- acting -----------------------------------------------------------------------------------

    def _treated(self, batch: Columns, hides: bool) -> Columns | None:
        told = self._without(batch, self._hidden(batch.t_ns)) if hides else batch
        if self._plain[batch.group]:
            return told if len(told) else None
        group, fates = self._group(batch), self._fates[batch.group]
        told = self._without(told, self._misplaced(batch.group, told))
        if not len(told):
            return None
        columns = tuple(
            None if raw is None else self._column(spec, fate, raw, told.t_ns)
            for spec, fate, raw in zip(group.signals, fates, told.values, strict=True)
        )
        return None if all(column is None for column in columns) else Columns(batch.group, told.t_ns, columns)

    def _without(self, batch: Columns, reasons: dict[Reason, Flags]) -> Columns:
        if not any(rows.any() for rows in reasons.values()):
            return batch
        for reason, rows in reasons.items():
            if number := int(np.count_nonzero(rows)):
                self.dropped[reason] += number
        kept = ~np.logical_or.reduce(list(reasons.values()))
        values = tuple(None if raw is None else cast(Values, raw[kept]) for raw in batch.values)
        return Columns(batch.group, batch.t_ns[kept], values)

    def _misplaced(self, group: int, batch: Columns) -> dict[Reason, Flags]:
        """Rows in which a place is none, or lies in a zone."""
        none, zoned = np.zeros(len(batch), bool), np.zeros(len(batch), bool)
        for place in self._placed[group]:
            _, latitude, longitude = self._places[place].at(batch.t_ns)
            known = (np.abs(latitude) <= 90.0) & (np.abs(longitude) <= 180.0)
            if self._areas:
                known &= is_place(latitude, longitude)
                zoned |= known & any_holds(self._areas, latitude, longitude)
            none |= ~known
        return {Reason.PLACE_UNKNOWN: none, Reason.IN_ZONE: zoned & ~none}

    def _placed_in(self, group: Group, fates: tuple[_Fate, ...]) -> tuple[str, ...]:
        """Places of which the group tells something that depends on where they are."""
        if self._policy.position is Position.EXACT and not self._areas:
            return ()
        told = [spec.path for spec, fate in zip(group.signals, fates, strict=True) if fate is not _Fate.WITHHELD]
        return tuple(place for place in self._places if any(is_within(path, (place,)) for path in told))

    def _column(self, spec: SignalSpec, fate: _Fate, raw: Values, t_ns: Times) -> Values | None:
        match fate:
            case _Fate.TOLD:
                return raw
            case _Fate.WITHHELD:
                return None
            case _Fate.HEADING:
                return to_raw(spec, compass_points(physical(spec, raw)), raw)
            case _Fate.LATITUDE | _Fate.LONGITUDE:
                _, latitude, longitude = self._places[split(spec.path)[0]].at(t_ns)
                middle = middles_of_cells(latitude, longitude, self._policy.cell_m)
                return to_raw(spec, middle[0 if fate is _Fate.LATITUDE else 1], raw)

    def _group(self, batch: Columns) -> Group:
        return self._schema.groups[batch.group]


def rounded_times(batches: Iterable[Columns], round_ms: int) -> list[Columns]:
    """With stamps rounded down, for what is written: conditions and windows want the exact ones."""
    step_ns = round_ms * MILLISECOND_NS
    return [Columns(b.group, b.t_ns - b.t_ns % step_ns if step_ns else b.t_ns, b.values) for b in batches]


def middles_of_cells(latitude: Floats, longitude: Floats, cell_m: float) -> tuple[Floats, Floats]:
    """As telemetry.privacy.grid.middle_of_cell, bit by bit, of arrays of positions; all have to be some."""
    rows = rows_of(cell_m)
    row = np.minimum(((latitude + 90.0) / 180.0 * rows).astype(np.int64), rows - 1)
    rows_met, place = np.unique(row, return_inverse=True)
    columns = np.array([columns_of(int(one), rows, cell_m) for one in rows_met], np.int64)[place]
    column = np.minimum((((longitude + 180.0) % 360.0) / 360.0 * columns).astype(np.int64), columns - 1)
    middle_latitude = (row + 0.5) * 180.0 / rows - 90.0
    middle_longitude = (column + 0.5) * 360.0 / columns - 180.0
    return _rounded(middle_latitude), _rounded(middle_longitude)


def compass_points(heading: Floats) -> Floats:
    """As telemetry.privacy.grid.compass_point; north for what is no number."""
    finite = np.where(np.isfinite(heading), heading, 0.0)
    return np.rint(finite / COMPASS_POINT) * COMPASS_POINT % 360.0


def to_raw(spec: SignalSpec, wanted: Floats, like: Values) -> Values:
    """The raw values that decode nearest to what is wanted: half a step of the signal's away at most."""
    raw = (wanted - spec.offset) / spec.scale
    match spec.form:
        case Form.FLOAT:
            return raw
        case Form.INT:
            return np.rint(np.clip(raw, -_MOST_RAW, _MOST_RAW)).astype(np.int64)
        case Form.UINT:
            return np.rint(np.clip(raw, 0.0, _MOST_RAW)).astype(np.uint64)


def _rounded(degrees: Floats) -> Floats:
    """As Python rounds, to the last bit; few cells are met in one batch."""
    met, place = np.unique(degrees, return_inverse=True)
    return np.array([round(one, DECIMALS) for one in met.tolist()])[place]
