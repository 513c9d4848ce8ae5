"""What the vehicle's owner allows, and how a policy from elsewhere may only ever tighten it (law 11)."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from telemetry.records import Purpose

ROUNDINGS_MS: Final = (0, 1, 10, 100, 1000, 10_000, 60_000, 600_000, 3_600_000)
"""Each divides the next, so that the larger of two tells nothing that the smaller hides."""

LEAST_ZONE_CELL_M: Final = 250.0
"""A zone is known to no one better than this, and a vehicle at 300 km/h needs 3 s for it."""

_MOST_ZONES: Final = 64
_NORTHERNMOST: Final = 85.0
_WIDEST_DEGREES: Final = 3.0


class Position(StrEnum):
    """How exactly a position may be told, the strictest first."""

    DROP = "drop"
    COARSE = "coarse"
    EXACT = "exact"


def purpose_of(given: Any) -> Any:
    """The purpose of that name, in any case; whatever else was given, as it is."""
    return Purpose.__members__.get(given.upper(), given) if isinstance(given, str) else given


Latitude = Annotated[float, Field(ge=-_NORTHERNMOST, le=_NORTHERNMOST)]
Longitude = Annotated[float, Field(ge=-180, le=180)]


class Zone(BaseModel):
    """[[privacy.zones]]: a circle, or a polygon whose edges are straight between longitudes and latitudes (RFC 7946,
    3.1.1). docs/privacy.md says what is told in it and around it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    latitude: Latitude | None = Field(default=None, description="A circle's middle, degrees north.")
    longitude: Longitude | None = Field(default=None, description="A circle's middle, degrees east.")
    radius_m: float | None = Field(default=None, gt=0, le=50_000, description="A circle's radius, metres.")
    polygon: tuple[tuple[Latitude, Longitude], ...] = Field(
        default=(), max_length=64, description="Corners, each [latitude, longitude], in order."
    )
    cell_m: float | None = Field(
        default=None, ge=LEAST_ZONE_CELL_M, le=100_000,
        description="How far its border is hidden, metres; by default [privacy] cell_m, and 250 at least.",
    )  # fmt: skip

    @model_validator(mode="after")
    def _is_one_shape(self) -> Self:
        circle = (self.latitude, self.longitude, self.radius_m)
        if (None in circle) if not self.polygon else any(part is not None for part in circle):
            raise ValueError("give latitude, longitude and radius_m, or polygon alone")
        if self.polygon and not _is_compact(self.polygon):
            raise ValueError(f"a polygon has 3 corners at least, and is {_WIDEST_DEGREES:g} degrees wide at most")
        return self


def _is_compact(corners: tuple[tuple[float, float], ...]) -> bool:
    # Whoever draws a zone over the 180th meridian finds it narrow too.
    east = [(longitude - corners[0][1] + 540.0) % 360.0 - 180.0 for _, longitude in corners]
    north = [latitude for latitude, _ in corners]
    return len(corners) >= 3 and max(max(side) - min(side) for side in (east, north)) <= _WIDEST_DEGREES


class PrivacyPolicy(BaseModel):
    """[privacy] in outrider.toml.

    The defaults are privacy by default (GDPR Art. 25(2); EDPB Guidelines 01/2020 on connected vehicles, 2.4): out of
    the box the vehicle tells only how its own runtime does. Every other purpose waits for its owner's consent, safety
    too: where somebody brakes, and from which speed, describes a driver.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    consents: frozenset[Annotated[Purpose, BeforeValidator(purpose_of)]] = Field(
        default=frozenset({Purpose.OPERATION}),
        description="Purposes the owner agreed to: safety, driving, perception, operation, learning.",
    )
    deny: tuple[Annotated[str, Field(min_length=1, max_length=256)], ...] = Field(
        default=(),
        max_length=256,
        description='Globs over VSS paths, event kinds and names of campaigns, in any case: "Vehicle.CurrentLocation", '
        '"new_*". A branch takes all below it along.',
    )
    position: Position = Field(
        default=Position.COARSE, description="drop, coarse (the middle of a grid cell) or exact."
    )
    cell_m: float = Field(
        default=500.0, ge=10, le=100_000, description="Least height and width of a coarse cell, metres."
    )
    zones: tuple[Zone, ...] = Field(
        default=(),
        max_length=_MOST_ZONES,
        description="Where nothing is told but how the runtime does; nor where it isn't known whether that is there.",
    )
    time_round_ms: int = Field(
        default=0,
        description="Stamps are rounded down to a multiple of it: 0, 1, 10, 100, 1000, 10000, 60000, 600000, 3600000.",
    )
    pseudonym_rotate_h: float = Field(
        default=0.0, ge=0, le=8760,
        description="Numbers of frames, tracks and triggers get new names after so many hours, and at each start; "
        "0: they stay as counted.",
    )  # fmt: skip

    @field_validator("zones")
    @classmethod
    def _keeps_its_cell(cls, zones: tuple[Zone, ...], info: ValidationInfo) -> tuple[Zone, ...]:
        """A zone is as hidden as where it was drawn, whichever policy it is joined with."""
        cell_m = max(LEAST_ZONE_CELL_M, info.data.get("cell_m", LEAST_ZONE_CELL_M))
        return tuple(zone if zone.cell_m else zone.model_copy(update={"cell_m": cell_m}) for zone in zones)

    @field_validator("time_round_ms")
    @classmethod
    def _is_a_rounding(cls, given: int) -> int:
        if given not in ROUNDINGS_MS:
            raise ValueError(f"it is one of {', '.join(map(str, ROUNDINGS_MS))}")
        return given


def strictest(local: PrivacyPolicy, asked: PrivacyPolicy) -> PrivacyPolicy:
    """What both allow. Whatever a campaign asks for, the result is never looser than the vehicle's own floor.

    Raises ValueError when together they deny or exclude more than one policy may name.
    """
    rotations = [policy.pseudonym_rotate_h for policy in (local, asked) if policy.pseudonym_rotate_h]
    return PrivacyPolicy(
        consents=local.consents & asked.consents,
        deny=tuple(sorted({*local.deny, *asked.deny})),
        position=_stricter(local.position, asked.position),
        cell_m=max(local.cell_m, asked.cell_m),
        zones=tuple(sorted({*local.zones, *asked.zones}, key=Zone.model_dump_json)),
        time_round_ms=max(local.time_round_ms, asked.time_round_ms),
        pseudonym_rotate_h=min(rotations, default=0.0),
    )


def _stricter(*positions: Position) -> Position:
    order: Iterable[Position] = Position
    return next(position for position in order if position in positions)
