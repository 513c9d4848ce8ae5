"""Whether the cloud takes an update into its buffer: every reason by its name, the cheapest question first.

A signature says which vehicle it comes from, and so an update isn't anonymous: it can be counted, bounded and left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from telemetry.federated.aggregation import Contribution
from telemetry.federated.errors import Refusal, UpdateRefused
from telemetry.federated.payload import decode_delta
from telemetry.federated.plan import Plan
from telemetry.federated.update import MAX_PAYLOAD_BYTES, ModelUpdate, signed_part


@dataclass(frozen=True, slots=True)
class Known:
    """What the server knows when an update comes. `bases` numbers every model of the plan's line by the aggregate that
    made it; `newest` is the last; `sent` are the seqs that this vehicle's updates had."""

    plans: Mapping[str, Plan]
    bases: Mapping[str, int]
    newest: int
    sent: frozenset[int]


Verify = Callable[[bytes, bytes], bool]
"""(message, signature) -> whether the vehicle's own certificate says so."""


def admit_update(vehicle: str, update: ModelUpdate, verify: Verify, known: Known) -> Contribution:
    """The contribution that it is. Raises UpdateRefused."""
    if len(update.payload) > MAX_PAYLOAD_BYTES:
        raise UpdateRefused(Refusal.TOO_LARGE, f"{len(update.payload)} bytes, {MAX_PAYLOAD_BYTES} are the most")
    if not verify(signed_part(update), update.signature):
        raise UpdateRefused(Refusal.FOREIGN, f"its signature isn't that of {vehicle}")
    plan = known.plans.get(update.plan)
    if plan is None:
        raise UpdateRefused(Refusal.UNKNOWN_PLAN, f"there is no plan {update.plan}")
    if (update.graph, update.layout) != (plan.graph, plan.layout):
        raise UpdateRefused(Refusal.WRONG_LAYOUT, f"its graph or layout isn't that of plan {plan.name}")
    staleness = _staleness(update, plan, known)
    if update.seq in known.sent:
        raise UpdateRefused(Refusal.REPLAYED, f"{vehicle} has sent update {update.seq} of plan {plan.name} before")
    if not 1 <= update.seq <= plan.updates:
        raise UpdateRefused(Refusal.EXCESSIVE, f"update {update.seq} of {plan.updates} that plan {plan.name} allows")
    return Contribution(vehicle, decode_delta(update.payload, plan.parameters, plan.keep), staleness)


def _staleness(update: ModelUpdate, plan: Plan, known: Known) -> int:
    if update.base not in known.bases:
        raise UpdateRefused(Refusal.WRONG_BASE, f"nobody here made the model {update.base[:12]}")
    staleness = known.newest - known.bases[update.base]
    if staleness > plan.max_staleness:
        raise UpdateRefused(
            Refusal.STALE, f"its base is {staleness} aggregates old, plan {plan.name} takes {plan.max_staleness}"
        )
    return staleness
