"""Many vehicles' changes into one, without rounds: as soon as a buffer is full (FedBuff, arXiv:2106.06639).

A change that was computed on an older model counts less. The norm is bounded again here, since no vehicle's word is
taken for it, and the server's own momentum smooths what different buffers say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from telemetry.federated.payload import SparseDelta


@dataclass(frozen=True, slots=True)
class Contribution:
    """One vehicle's change, checked; `staleness` is how many aggregates came between its base and now."""

    vehicle: str
    delta: SparseDelta
    staleness: int


@dataclass(frozen=True, slots=True)
class ServerRule:
    """`clip`: the longest a single change may be; `momentum` and `rate` as in SGD (Polyak's, undamped)."""

    clip: float
    momentum: float
    rate: float


@dataclass(frozen=True, slots=True)
class Aggregate:
    """`step` (parameters,) float32 is added to the newest parameters; `velocity` goes into the next aggregate."""

    step: NDArray[np.float32]
    velocity: NDArray[np.float32]


def aggregate(contributions: Sequence[Contribution], velocity: NDArray[np.float32], rule: ServerRule) -> Aggregate:
    """The weighted mean of at least one contribution, each vehicle once. In whichever order they come, the result is
    the same to the bit."""
    if len({one.vehicle for one in contributions}) != len(contributions) or not contributions:
        raise ValueError("an aggregate takes at least one vehicle, and each of them once")
    total, weights = np.zeros(len(velocity)), 0.0
    for one in sorted(contributions, key=lambda one: one.vehicle):
        weight = (1.0 + one.staleness) ** -0.5
        shrink = min(1.0, rule.clip / one.delta.norm) if one.delta.norm else 1.0
        total[one.delta.indices] += weight * shrink * one.delta.values.astype(np.float64)
        weights += weight
    moved = rule.momentum * velocity.astype(np.float64) + total / weights
    return Aggregate((rule.rate * moved).astype(np.float32), moved.astype(np.float32))
