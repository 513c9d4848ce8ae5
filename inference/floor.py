"""What a vehicle demands of whatever judges its models: a labelled set may be stricter, and is never laxer.

Its owner's, and not the set's: who signs sets could otherwise sign one that lets everything pass.
"""

from __future__ import annotations

import math
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

_RULE_OF_THREE: Final = 3.0
_ROUNDING: Final = 1e-9


class GateFloor(BaseModel):
    """[gate]: what must be shown before a model is kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: tuple[Annotated[str, Field(max_length=48)], ...] = Field(
        default=("car",),
        max_length=64,
        description="A model is kept only by a labelled set that judges these, as far as the live model knows them.",
    )
    excused: tuple[Annotated[str, Field(max_length=48)], ...] = Field(
        default=(),
        max_length=64,
        description="Classes that a set may have too few examples of: nobody knows then what becomes of them.",
    )
    objects_at_least: int = Field(default=30, ge=10, description="Labelled examples of a class, or nothing is decided.")
    margin_at_most: float = Field(
        default=0.05, gt=0, le=0.2, description="How much less F1 in a class is still called not worse."
    )
    state_margin_at_most: float = Field(
        default=0.08,
        gt=0,
        le=0.2,
        description="What part of a state's crops may be told wrong more and be called not worse.",
    )
    match_iou_at_least: float = Field(
        default=0.5, ge=0.1, le=0.95, description="How much a detection must overlap an object to have found it."
    )
    cpu_ratio_at_most: float = Field(default=2.5, gt=0, le=10, description="CPU time of the live model's, a frame.")
    memory_ratio_at_most: float = Field(
        default=1.5, ge=1, le=10, description="Memory of the live model's worker at its peak."
    )


def objects_for(margin: float) -> int:
    """So many of a class must be labelled for a margin: of n without a difference 3 / n may still be lost, with 95 %
    confidence (the rule of three: Hanley and Lippman-Hand, JAMA 249, 1983)."""
    return math.ceil(_RULE_OF_THREE / margin - _ROUNDING)
