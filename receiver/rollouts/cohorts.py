"""Who is next. Within each stratum vehicles stand in the order of a hash of rollout and vehicle: stable, and another
one for each rollout, so that no vehicle is always the first."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from receiver.rollouts.rules import Step


@dataclass(frozen=True, slots=True)
class Place:
    """A vehicle's turn in its stratum, from 0."""

    vehicle: str
    stratum: str
    rank: int


def places(rollout: str, strata: Mapping[str, str]) -> list[Place]:
    """Of every vehicle, by its stratum."""
    taken: Counter[str] = Counter()
    placed = list[Place]()
    for vehicle in sorted(strata, key=lambda name: (hashlib.sha256(f"{rollout}\n{name}".encode()).digest(), name)):
        stratum = strata[vehicle]
        placed.append(Place(vehicle, stratum, taken[stratum]))
        taken[stratum] += 1
    return placed


def shared_out(due: Mapping[str, int], most: int) -> dict[str, int]:
    """Of each stratum's vehicles that are due, those that may have it while it is `most` in all: one of each first, of
    the larger ones before, and then in proportion. More room takes nobody's turn away."""
    if most >= sum(due.values()):
        return dict(due)
    first = sorted((name for name in due if due[name]), key=lambda name: (-due[name], name))[: max(0, most)]
    room, others = max(0, most) - len(first), sum(due.values()) - sum(1 for count in due.values() if count)
    return {name: 1 + (due[name] - 1) * room // max(1, others) if name in first else 0 for name in due}


def wanted(step: Step, size: int) -> int:
    """How many of a stratum's `size` vehicles have the release at this step: one at least, from the first wave on. A
    grown first wave is rounded down, so that all strata together don't pass its share."""
    share = size * step.percent / 100
    return min(size, max(1, math.floor(share) if step.grown else math.ceil(share - 1e-9)))
