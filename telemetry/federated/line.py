"""One plan's line of models: the updates that wait, the aggregates that came of them, and which bases are still known.

Pure: whoever keeps it makes each state durable before it says so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from telemetry.federated.admission import Known, Verify, admit_update
from telemetry.federated.aggregation import Contribution, ServerRule, aggregate
from telemetry.federated.plan import Plan
from telemetry.federated.update import ModelUpdate

Vector = NDArray[np.float32]


def base_digest(parameters: Vector) -> str:
    """SHA-256 (hex) of the parameters as float32, little-endian, in the layout's order: a base's name everywhere."""
    return hashlib.sha256(parameters.astype("<f4").tobytes()).hexdigest()


@dataclass(frozen=True, slots=True)
class Waiting:
    """A contribution in the buffer, and the digest of the update that it came by."""

    contribution: Contribution
    update: str


@dataclass(frozen=True, slots=True)
class Aggregated:
    """What an aggregate was made of: digests of its updates, each by its vehicle."""

    number: int
    base: str
    made: str
    updates: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Line:
    """`bases` numbers every model of the line by the aggregate that made it, the first 0; `sent` has each vehicle's
    seqs; `waiting` one contribution a vehicle, the newest."""

    plan: Plan
    parameters: Vector
    velocity: Vector
    bases: Mapping[str, int]
    sent: Mapping[str, frozenset[int]] = field(default_factory=dict)
    waiting: Mapping[str, Waiting] = field(default_factory=dict)

    @property
    def newest(self) -> int:
        return max(self.bases.values())


def begin_line(plan: Plan, parameters: Vector) -> Line:
    """Raises ValueError when the parameters aren't the plan's base."""
    if base_digest(parameters) != plan.base or len(parameters) != plan.parameters:
        raise ValueError(f"the parameters aren't the base of plan {plan.name}")
    return Line(plan, parameters, np.zeros_like(parameters), {plan.base: 0})


def offer(line: Line, vehicle: str, update: ModelUpdate, verify: Verify) -> Line:
    """The line with the update waiting, instead of an older one of that vehicle's. Raises UpdateRefused."""
    sent = line.sent.get(vehicle, frozenset())
    known = Known({line.plan.name: line.plan}, line.bases, line.newest, sent)
    taken = admit_update(vehicle, update, verify, known)
    digest = hashlib.sha256(update.payload).hexdigest()
    return replace(
        line,
        sent={**line.sent, vehicle: sent | {update.seq}},
        waiting={**line.waiting, vehicle: Waiting(taken, digest)},
    )


def close_buffer(line: Line, rule: ServerRule) -> tuple[Line, Aggregated]:
    """The line with an aggregate of all that waits as its newest model, and nothing waiting."""
    made = aggregate([one.contribution for one in line.waiting.values()], line.velocity, rule)
    parameters = line.parameters + made.step
    number, digest = line.newest + 1, base_digest(parameters)
    told = Aggregated(
        number, base_digest(line.parameters), digest, {name: one.update for name, one in sorted(line.waiting.items())}
    )
    after = replace(
        line, parameters=parameters, velocity=made.velocity, bases={**line.bases, digest: number}, waiting={}
    )
    return after, told
