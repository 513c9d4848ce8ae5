"""Positions among signals: found by their names, and dropped or made coarse."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final

from telemetry.privacy.grid import compass_point, middle_of_cell
from telemetry.privacy.policy import Position
from telemetry.privacy.zones import Area, any_holds, is_place
from telemetry.signals import vss

LATITUDE: Final = "latitude"
LONGITUDE: Final = "longitude"
HEADING: Final = "heading"


def blur(
    signals: Mapping[str, float],
    position: Position,
    cell_m: float,
    areas: Iterable[Area] = (),
    known: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """The signals with every position as exact as allowed, and none in `areas`.

    A place is a VSS branch with a latitude or longitude in it (also one that is withheld: `known` are all signals that
    there were), and the vehicle's own location always; unless positions are exact, nothing else below a place is
    told (an altitude finds a road), but the heading as a point of the compass.
    """
    areas = tuple(areas)
    if position is Position.EXACT and not areas:
        return dict(signals)
    known = signals if known is None else known
    places = places_of(known)
    kept = {path: value for path, value in signals.items() if not is_within(path, places)}
    hidden = {place for place in places if not _may_be_told(known, place, areas)}
    match position:
        case Position.EXACT:
            return {path: value for path, value in signals.items() if path in kept or not is_within(path, hidden)}
        case Position.COARSE:
            for place in places - hidden:
                kept.update(_coarse(signals, place, cell_m))
    return kept


def split(path: str) -> tuple[str, str]:
    branch, _, leaf = path.casefold().rpartition(".")
    return branch, leaf


def places_of(paths: Iterable[str]) -> set[str]:
    return {vss.LOCATION.casefold(), *(split(path)[0] for path in paths if is_coordinate(path))}


def is_coordinate(path: str) -> bool:
    """It says where some place is."""
    return split(path)[1] in (LATITUDE, LONGITUDE)


def is_within(path: str, places: Iterable[str]) -> bool:
    return any(path.casefold() == place or path.casefold().startswith(f"{place}.") for place in places)


def _may_be_told(signals: Mapping[str, float], place: str, areas: tuple[Area, ...]) -> bool:
    """Whether that place lies outside of all areas; where it lies nowhere, only where there are none."""
    if not areas:
        return True
    named = _named(signals, place)
    if LATITUDE not in named or LONGITUDE not in named:
        return False
    latitude, longitude = signals[named[LATITUDE]], signals[named[LONGITUDE]]
    return bool(is_place(latitude, longitude)) and not any_holds(areas, latitude, longitude)


def _named(signals: Mapping[str, float], place: str) -> dict[str, str]:
    return {leaf: path for path in signals for branch, leaf in [split(path)] if branch == place}


def _coarse(signals: Mapping[str, float], place: str, cell_m: float) -> dict[str, float]:
    """Empty unless latitude and longitude are both there: the one's cells depend on the other."""
    named = _named(signals, place)
    if LATITUDE not in named or LONGITUDE not in named:
        return {}
    middle = middle_of_cell(signals[named[LATITUDE]], signals[named[LONGITUDE]], cell_m)
    if middle is None:
        return {}
    coarse = dict(zip((named[LATITUDE], named[LONGITUDE]), middle, strict=True))
    if HEADING in named and math.isfinite(signals[named[HEADING]]):
        coarse[named[HEADING]] = compass_point(signals[named[HEADING]])
    return coarse
