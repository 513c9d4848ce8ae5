"""What learning together is worth, on real labels: base, federated and centralized, over several seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from inference.build.light_state import known_at_first
from inference.build.lightnet import (
    INPUT,
    LAYOUT,
    LOGITS,
    initial_parameters,
    learning_surface,
    network,
    training_graph,
)
from inference.build.sgd import Schedule, as_they_are, fit, varied
from inference.crops import Crops, load_crops
from inference.evaluation import EVALUATIONS_FOLDER
from inference.runtime import ort
from inference.session import session_options
from inference.training.trainer import Examples, StepGraph
from simulator.learning.fleet import learn_together, learners_of
from simulator.learning.shares import dealt
from telemetry.federated.aggregation import ServerRule
from telemetry.federated.line import base_digest
from telemetry.federated.plan import LabelSource, Plan

CROPS: Final = Path(__file__).parent.parent / "lights"
HELD_OUT: Final = EVALUATIONS_FOLDER / "lights-1.0"
VEHICLES: Final = 20
TOGETHER: Final = 10
BUFFERS: Final = 40
BATCH: Final = 32
BASE: Final = Schedule(epochs=15)
CENTRAL: Final = Schedule(epochs=30)
RULE: Final = ServerRule(clip=1.0, momentum=0.5, rate=0.5)
KEEP: Final = LAYOUT.size // 20
_RESAMPLES: Final = 4000

Vector = NDArray[np.float32]
Right = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Trial:
    """One seed: which held-out crops each model tells right, and what an update weighs on the wire."""

    seed: int
    base: Right
    federated: Right
    uncompressed: Right
    centralized: Right
    update_bytes: float
    vehicles: int


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float


def trial(seed: int, crops: Crops, held_out: Crops, graph: StepGraph) -> Trial:
    rng = np.random.default_rng(seed)
    known = known_at_first(crops, rng)
    left = np.setdiff1d(np.arange(len(crops.labels)), known)
    base = fit(graph, initial_parameters(rng), _of(crops, known), BASE, as_they_are, rng)
    hands = dealt(crops, left, VEHICLES, rng)
    together, update_bytes, vehicles = _federated(graph, base, crops, hands, KEEP, seed)
    whole, _, _ = _federated(graph, base, crops, hands, LAYOUT.size, seed)
    central = fit(graph, base, _of(crops, np.arange(len(crops.labels))), CENTRAL, varied, rng)
    right = right_with(held_out)
    return Trial(seed, right(base), right(together), right(whole), right(central), update_bytes, vehicles)


def plan_for(base: Vector, keep: int = KEEP) -> Plan:
    return Plan(
        name="lights", model="light-state@1.0", base=base_digest(base), graph="0" * 64, layout=LAYOUT.digest,
        parameters=LAYOUT.size, source=LabelSource.CONFIRMED, steps=8, batch=BATCH, learning_rate=0.05, clip=RULE.clip,
        keep=keep, min_examples=8, updates=1000, max_staleness=3, not_after=1 << 40,
    )  # fmt: skip


def right_with(held_out: Crops) -> Callable[[Vector], Right]:
    """Which of the held-out crops a model tells right."""

    def right(parameters: Vector) -> Right:
        model = network(parameters, len(held_out.labels)).SerializeToString()
        session = ort.InferenceSession(model, session_options(), providers=["CPUExecutionProvider"])
        (logits,) = session.run([LOGITS], {INPUT: held_out.pictures})
        return np.asarray(logits.argmax(1) == held_out.labels)

    return right


def gain(before: Sequence[Right], after: Sequence[Right], seed: int = 0) -> Interval:
    """Of `after` over `before` in accuracy, over all seeds. Crops are drawn anew, each with all of its seeds: they are
    what another collection would differ in (paired bootstrap, percentiles)."""
    return _interval(np.mean([a.astype(float) - b for b, a in zip(before, after, strict=True)], axis=0), seed)


def accuracy(models: Sequence[Right], of: Right, seed: int = 0) -> Interval:
    """Of the crops `of`, over all seeds."""
    return _interval(np.mean([right[of].astype(float) for right in models], axis=0), seed)


def _interval(values: NDArray[np.float64], seed: int) -> Interval:
    draws = np.random.default_rng(seed).integers(0, len(values), (_RESAMPLES, len(values)))
    low, high = np.percentile(values[draws].mean(1), [2.5, 97.5])
    return Interval(float(values.mean()), float(low), float(high))


def _federated(
    graph: StepGraph, base: Vector, crops: Crops, hands: Sequence[NDArray[np.int64]], keep: int, seed: int
) -> tuple[Vector, float, int]:
    plan, rng = plan_for(base, keep), np.random.default_rng(seed + 1)
    learners = learners_of(crops, hands, plan)
    line = learn_together(graph, base, plan, RULE, learners, BUFFERS, TOGETHER, rng)
    sent = sum(learner.sent for learner in learners)
    return line.parameters, sum(learner.sent_bytes for learner in learners) / sent, len(learners)


def _of(crops: Crops, places: NDArray[np.int64]) -> Examples:
    return Examples(crops.pictures[places], crops.labels[places])


def step_graph() -> StepGraph:
    return StepGraph(training_graph(BATCH), learning_surface(BATCH))


def load() -> tuple[Crops, Crops]:
    """(to learn from, held out)."""
    return load_crops(CROPS), load_crops(HELD_OUT)
