"""What a vehicle is asked to learn, and what it does at most, whoever asks (law 11).

A plan is signed by the `plan` key alone and travels as a bundle of its kind; docs/formats/federated.md has its keys.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from ecu.errors import shown
from telemetry.records import TelemetryError

PLAN_FILE: Final = "plan.json"
MAX_PLAN_BYTES: Final = 64 * 1024
MOST_PARAMETERS: Final = 1 << 24

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
PlanName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,47}$")]
Line = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f-\x9f]*$", max_length=200)]
Above0 = Annotated[float, Field(gt=0.0, le=1e6)]


class PlanRefused(TelemetryError):
    """Nothing is learned by this plan here. The message has every number that is beyond what this vehicle does."""


class LabelSource(StrEnum):
    """Who says what an example should have been called: without that, training teaches a model its own mistakes."""

    CONFIRMED = "confirmed"  # what later behaviour confirmed


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Plan(Part):
    """plan.json. Whatever is learned is `steps` of SGD from the parameters whose SHA-256 is `base`."""

    schema_: Annotated[Literal[1], Field(alias="schema")] = 1
    name: PlanName
    model: Line
    """For people: the package that holds graph, layout and base."""
    base: Sha256
    graph: Sha256
    layout: Sha256
    parameters: Annotated[int, Field(ge=1, le=MOST_PARAMETERS)]
    source: Annotated[LabelSource, Field(strict=False)]
    steps: Annotated[int, Field(ge=1, le=100_000)]
    batch: Annotated[int, Field(ge=1, le=1024)]
    learning_rate: Above0
    clip: Above0
    """The norm of an update is at most this."""
    keep: Annotated[int, Field(ge=1, le=1 << 20)]
    """An update names so many parameters at most."""
    min_examples: Annotated[int, Field(ge=1, le=1_000_000)]
    """With fewer an update would tell of single pictures."""
    updates: Annotated[int, Field(ge=1, le=1000)]
    """So many from one vehicle."""
    max_staleness: Annotated[int, Field(ge=0, le=1000)]
    not_after: Annotated[int, Field(ge=0, le=1 << 40)]
    """Seconds since 1970: by then nobody wants it any more."""


class LearningFloor(BaseModel):
    """[learning] in outrider.toml: the most that this vehicle does. Off unless its owner says otherwise."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = Field(default=False, description="Learn on this vehicle's own examples.")
    steps: int = Field(default=2000, ge=1, description="Most steps of one training.")
    keep: int = Field(default=4096, ge=1, description="Most parameters that one update names.")
    clip: float = Field(default=10.0, gt=0, description="Largest norm of one update.")
    min_examples: int = Field(default=8, ge=1, description="With fewer examples nothing is learned.")
    updates: int = Field(default=50, ge=0, description="Most updates, of all plans together, in 30 days.")


def parse_plan(data: bytes) -> Plan:
    """Raises PlanRefused, naming the key."""
    try:
        json.loads(data, object_pairs_hook=_once)
        return Plan.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"])) or "the whole"
        raise PlanRefused(f"The plan, at {shown(key)}: {shown(first['msg'])}. Sign another.") from error
    except (ValueError, RecursionError) as error:
        raise PlanRefused(f"The plan is no JSON that this version reads: {shown(error)}. Sign another.") from error


def encode_plan(plan: Plan) -> bytes:
    """The one way to write it: JSON with sorted keys and no spaces, UTF-8."""
    content = plan.model_dump(mode="json", by_alias=True)
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def demand_allowed(plan: Plan, floor: LearningFloor, now_s: float) -> None:
    """Raises PlanRefused with all that this vehicle doesn't do."""
    reasons = list(_reasons(plan, floor, now_s))
    if reasons:
        raise PlanRefused(f"Plan {plan.name} is refused here: {'; '.join(reasons)}.")


def _reasons(plan: Plan, floor: LearningFloor, now_s: float) -> Iterator[str]:
    if not floor.enabled:
        yield "this vehicle's owner hasn't allowed learning ([learning] enabled)"
    for name, asked, most in (
        ("steps", plan.steps, floor.steps),
        ("keep", plan.keep, floor.keep),
        ("clip", plan.clip, floor.clip),
    ):
        if asked > most:
            yield f"it asks for {name} {asked:g}, the most here is {most:g}"
    if plan.min_examples < floor.min_examples:
        yield f"it would learn from {plan.min_examples} examples, the fewest here are {floor.min_examples}"
    if now_s > plan.not_after:
        yield f"it ended {now_s - plan.not_after:.0f} s ago"


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a key comes twice")
    return dict(pairs)
