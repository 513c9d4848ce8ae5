"""What a fleet's owner asks a vehicle to tell: campaigns.json, which travels as a signed release of kind `campaign`.

The set is the unit: taken whole, or refused whole and the one before stays. docs/formats/campaign.md has its keys. A
campaign can ask for anything; what it gets is bounded by the vehicle's own floors (law 11).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, StringConstraints

from telemetry.privacy.policy import purpose_of
from telemetry.records import Lane, Purpose, TelemetryError

CAMPAIGNS_FILE: Final = "campaigns.json"
MAX_CAMPAIGNS_BYTES: Final = 96 * 1024
MAX_EXPRESSION_CHARACTERS: Final = 1024

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,47}$")]
Path = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z0-9_]+)*$", max_length=200)]
Expression = Annotated[str, StringConstraints(min_length=1, max_length=MAX_EXPRESSION_CHARACTERS)]
Milliseconds = Annotated[int, Field(ge=0, le=24 * 3600 * 1000)]
Above0Ms = Annotated[int, Field(ge=1, le=24 * 3600 * 1000)]


class CampaignsRefused(TelemetryError):
    """No campaign of the set runs here; the set before stays. The message has every reason, each with its place or its
    numbers; `reasons` has them one by one."""

    def __init__(self, what: str, reasons: tuple[str, ...], remedy: str) -> None:
        super().__init__(f"{what}: {'; '.join(reasons)}. {remedy}")
        self.reasons = reasons


def lane_of(given: object) -> object:
    return Lane.__members__.get(given.upper(), given) if isinstance(given, str) else given


def _named(member: Lane | Purpose) -> str:
    return member.name.lower()


_AsName = PlainSerializer(_named, when_used="json")


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Wish(Part):
    """One signal that is wanted. `min_period_ms`: no two samples told are closer; 0 tells every one."""

    path: Path
    min_period_ms: Milliseconds = 0


class Edge(StrEnum):
    """When a condition tells: as it becomes true, or as long as it is (no more often than the cooldown allows)."""

    RISING = "rising"
    LEVEL = "level"


class Windows(Part):
    """What is told around the instant of a trigger: all samples from `pre_ms` before it to `post_ms` after it."""

    pre_ms: Annotated[int, Field(ge=0, le=120_000)] = 0
    post_ms: Annotated[int, Field(ge=0, le=600_000)] = 0
    cooldown_ms: Milliseconds = 1000
    """From one trigger to the next, at least."""
    max_per_day: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    """In any 24 hours of powered time."""


class Periodic(Part):
    """Everything that was wanted, in blocks of `period_ms`."""

    kind: Literal["periodic"]
    period_ms: Annotated[int, Field(ge=100, le=3_600_000)]


class LastKnown(Part):
    """The last known state: of each signal its last value and how old that is, once each `period_ms`."""

    kind: Literal["last_known"]
    period_ms: Annotated[int, Field(ge=100, le=24 * 3600 * 1000)]


class OnChange(Part):
    """A signal's value whenever it has moved by more than `beyond` since it was told last."""

    kind: Literal["on_change"]
    beyond: Annotated[float, Field(ge=0)] = 0.0
    min_interval_ms: Milliseconds = 0
    """Of each signal."""


class OnCondition(Windows):
    """When `when` (docs/formats/expressions.md) is true."""

    kind: Literal["on_condition"]
    when: Expression
    edge: Annotated[Edge, Field(strict=False)] = Edge.RISING


class Stuck(Part):
    """The value hasn't changed for so long although it kept coming."""

    test: Literal["stuck"]
    for_ms: Above0Ms


class OutOfRange(Part):
    """Outside these; by default what the signal's own definition allows."""

    test: Literal["out_of_range"]
    minimum: float | None = None
    maximum: float | None = None


class ImplausibleRate(Part):
    """It moved faster than this between two samples, in its unit a second."""

    test: Literal["implausible_rate"]
    max_per_s: Annotated[float, Field(gt=0)]


class Residual(Part):
    """It differs from what other signals say it should be, `expected`, by more than `limit` for so long."""

    test: Literal["residual"]
    expected: Expression
    limit: Annotated[float, Field(gt=0)]
    for_ms: Milliseconds = 0


AnomalyTest = Annotated[Stuck | OutOfRange | ImplausibleRate | Residual, Field(discriminator="test")]


class OnAnomaly(Windows):
    """When `signal` behaves as it shouldn't."""

    kind: Literal["on_anomaly"]
    signal: Path
    anomaly: AnomalyTest


class Once(Windows):
    """A fetch on demand: what rings hold now and what comes in `post_ms`; once for each `id`, which is remembered. A
    campaign's ids rise: one that isn't above the last one fetched counts as fetched."""

    kind: Literal["once"]
    id: Annotated[int, Field(ge=1, le=1 << 40)]


Trigger = Annotated[Periodic | LastKnown | OnChange | OnCondition | OnAnomaly | Once, Field(discriminator="kind")]


class Clip(Part):
    """Pictures of what the camera saw around a trigger, every one of them redacted before anything is kept."""

    before: Annotated[int, Field(ge=0, le=8)] = 1
    after: Annotated[int, Field(ge=1, le=16)] = 1


class Budget(Part):
    """The most a campaign costs, whatever happens: beyond it what it would tell is dropped and counted."""

    bytes_per_day: Annotated[int, Field(ge=1024, le=1 << 40)]
    """On flash and on the network alike: a block travels as it lies."""
    keep_s: Annotated[int, Field(ge=60, le=366 * 86_400)] = 30 * 86_400
    """What couldn't be sent for so long isn't wanted any more, seconds of boot time."""


class Campaign(Part):
    """One thing that somebody wants to know. `revision` rises with each change; what an older one spooled stays."""

    name: Name
    revision: Annotated[int, Field(ge=1, le=1 << 40)]
    purpose: Annotated[Purpose, BeforeValidator(purpose_of), _AsName]
    lane: Annotated[Lane, BeforeValidator(lane_of), _AsName]
    not_after: Annotated[int, Field(ge=0, le=1 << 40)]
    """Seconds since 1970: from then on nothing is captured for it."""
    trigger: Trigger
    signals: Annotated[tuple[Wish, ...], Field(strict=False, max_length=1000)] = ()
    clip: Clip | None = None
    budget: Budget


class CampaignSet(Part):
    """campaigns.json. `schema_digest` names the signals (telemetry/signals/schema.py) that its paths are of, in hex;
    empty: whatever the vehicle has."""

    schema_: Annotated[Literal[1], Field(alias="schema")] = 1
    revision: Annotated[int, Field(ge=1, le=1 << 40)]
    schema_digest: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{32})?$")] = ""
    campaigns: Annotated[tuple[Campaign, ...], Field(strict=False, max_length=64)] = ()
