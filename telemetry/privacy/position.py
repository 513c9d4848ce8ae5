"""Positions among signals: found by their names, and dropped or made coarse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from telemetry.privacy.grid import compass_point, middle_of_cell
from telemetry.privacy.policy import Position
from telemetry.signals import vss

_LATITUDE: Final = "latitude"
_LONGITUDE: Final = "longitude"
_HEADING: Final = "heading"


def blur(signals: Mapping[str, float], position: Position, cell_m: float) -> dict[str, float]:
    """The signals with every position as exact as allowed.

    A place is a VSS branch with a latitude or longitude in it, and the vehicle's own location always; unless positions
    are exact, nothing else below a place is told (an altitude finds a road), but the heading as a point of the compass.
    """
    if position is Position.EXACT:
        return dict(signals)
    places = _places(signals)
    kept = {path: value for path, value in signals.items() if not _is_within(path, places)}
    if position is Position.COARSE:
        for place in places:
            kept.update(_coarse(signals, place, cell_m))
    return kept


def _split(path: str) -> tuple[str, str]:
    branch, _, leaf = path.casefold().rpartition(".")
    return branch, leaf


def _places(signals: Mapping[str, float]) -> set[str]:
    branches = {branch for branch, leaf in map(_split, signals) if leaf in (_LATITUDE, _LONGITUDE)}
    return {vss.LOCATION.casefold(), *branches}


def _is_within(path: str, places: set[str]) -> bool:
    return any(path.casefold() == place or path.casefold().startswith(f"{place}.") for place in places)


def _coarse(signals: Mapping[str, float], place: str, cell_m: float) -> dict[str, float]:
    """Empty unless latitude and longitude are both there: the one's cells depend on the other."""
    named = {leaf: path for path in signals for branch, leaf in [_split(path)] if branch == place}
    if _LATITUDE not in named or _LONGITUDE not in named:
        return {}
    middle = middle_of_cell(signals[named[_LATITUDE]], signals[named[_LONGITUDE]], cell_m)
    if middle is None:
        return {}
    coarse = dict(zip((named[_LATITUDE], named[_LONGITUDE]), middle, strict=True))
    if _HEADING in named:
        coarse[named[_HEADING]] = compass_point(signals[named[_HEADING]])
    return coarse
