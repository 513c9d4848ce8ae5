"""What the vehicle's owner allows, and how a policy from elsewhere may only ever tighten it (law 11)."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from telemetry.records import Purpose


class Position(StrEnum):
    """How exactly a position may be told, the strictest first."""

    DROP = "drop"
    COARSE = "coarse"
    EXACT = "exact"


def purpose_of(given: Any) -> Any:
    """The purpose of that name, in any case; whatever else was given, as it is."""
    return Purpose.__members__.get(given.upper(), given) if isinstance(given, str) else given


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
        description='Globs over VSS paths and event kinds, in any case: "Vehicle.CurrentLocation", "new_*". '
        "A branch takes all below it along.",
    )
    position: Position = Field(
        default=Position.COARSE, description="drop, coarse (the middle of a grid cell) or exact."
    )
    cell_m: float = Field(
        default=500.0, ge=10, le=100_000, description="Least height and width of a coarse cell, metres."
    )


def strictest(local: PrivacyPolicy, asked: PrivacyPolicy) -> PrivacyPolicy:
    """What both allow. Whatever a campaign asks for, the result is never looser than the vehicle's own floor."""
    return PrivacyPolicy(
        consents=local.consents & asked.consents,
        deny=tuple(sorted({*local.deny, *asked.deny})),
        position=_stricter(local.position, asked.position),
        cell_m=max(local.cell_m, asked.cell_m),
    )


def _stricter(*positions: Position) -> Position:
    order: Iterable[Position] = Position
    return next(position for position in order if position in positions)
