"""What tests of learning share: the package that is learned, a plan for it, and examples."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace

from agent.learning.side import order_of
from agent.trainer import Train
from inference.package import find_package
from inference.training.package import Learnable, load_learnable
from telemetry.federated.examples import Example, Now
from telemetry.federated.plan import LabelSource, Plan

PACKAGE = find_package("light-state@1.0")
CLASSES = ("red", "yellow", "green")
SIZE = 32
HOUR_NS = 3600 * 1_000_000_000
NOW = Now("boot-1", 5 * HOUR_NS, 1_800_000_000 * 1_000_000_000)


@cache
def learnable(package: Path) -> Learnable:
    return load_learnable(package)


def plan_for(package: Path = PACKAGE, **changes: Any) -> Plan:
    model = learnable(package)
    told = {
        "name": "lights-1", "model": model.title, "base": model.base, "graph": model.graph_sha256,
        "layout": model.layout.digest, "parameters": model.layout.size, "source": LabelSource.CONFIRMED,
        "steps": 12, "batch": 16, "learning_rate": 0.01, "clip": 1.0, "keep": 500, "min_examples": 8, "updates": 2,
        "max_staleness": 1, "not_after": 2_000_000_000,
    }  # fmt: skip
    return Plan(**{**told, **changes})


def example(number: int, size: int = SIZE, now: Now = NOW) -> Example:
    """A dark crop with its lamp lit where its class has it."""
    label = number % len(CLASSES)
    picture = np.random.default_rng(number).integers(0, 60, (size, size, 3), np.uint8)
    picture[size * label // 3 : size * (label + 1) // 3, size // 3 : 2 * size // 3] = 220
    return Example(picture.tobytes(), size, CLASSES[label], "test", now)


def order_for(plan: Plan, given: Sequence[Example], seed: int = 7, **changes: Any) -> tuple[Train, bytes, bytes]:
    order, pixels, places = order_of(plan, list(given), seed, 0)
    return replace(order, **changes), pixels, places
