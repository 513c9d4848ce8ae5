"""Why something that was learned isn't taken.

TelemetryError
└── UpdateRefused    never retry these bytes; `refusal` names what is wrong, and is what is counted
"""

from __future__ import annotations

from enum import StrEnum

from telemetry.records import TelemetryError


class Refusal(StrEnum):
    """What is wrong with an update. The words are on the wire, in receipts and in counters."""

    FOREIGN = "foreign"  # not signed by the vehicle that sent it
    MALFORMED = "malformed"  # not what docs/formats/federated.md says
    TOO_LARGE = "too_large"  # more bytes, more values or more inflated than a plan can ask for
    INDICES = "indices"  # not rising, or beyond the last parameter
    NOT_FINITE = "not_finite"  # a scale that is infinite, not a number, or not above zero
    UNKNOWN_PLAN = "unknown_plan"  # nobody asked for it
    WRONG_BASE = "wrong_base"  # computed on another model
    WRONG_LAYOUT = "wrong_layout"  # by another graph, or of other parameters
    STALE = "stale"  # computed on a model too many aggregates ago
    REPLAYED = "replayed"  # this vehicle has sent it before
    EXCESSIVE = "excessive"  # this vehicle has sent as many as the plan allows


class UpdateRefused(TelemetryError):
    """`refusal` is its name; the words say with which numbers."""

    def __init__(self, refusal: Refusal, detail: str) -> None:
        super().__init__(f"{refusal}: {detail}")
        self.refusal = refusal
