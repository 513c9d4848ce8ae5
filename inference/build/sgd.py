"""Training in one place, by the same graph that vehicles run: the base, and the centralized model to compare with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.training.trainer import Examples, StepGraph

Vector = NDArray[np.float32]
Augment = Callable[[NDArray[np.uint8], np.random.Generator], NDArray[np.uint8]]


@dataclass(frozen=True, slots=True)
class Schedule:
    """AdamW (Loshchilov and Hutter, arXiv:1711.05101); the rate rises over the first fifth, then falls as a cosine."""

    epochs: int
    rate: float = 5e-3
    decay: float = 1e-3


def fit(
    graph: StepGraph, start: Vector, examples: Examples, schedule: Schedule, augment: Augment, rng: np.random.Generator
) -> Vector:
    """The parameters after all epochs."""
    parameters, mean, square = start.astype(np.float64), np.zeros(len(start)), np.zeros(len(start))
    batches = -(-len(examples) // graph.batch)
    total = schedule.epochs * batches
    for step in range(1, total + 1):
        if step % batches == 1 or batches == 1:
            order = rng.permutation(len(examples))
        chosen = order[(step - 1) % batches * graph.batch :][: graph.batch]
        shown = Examples(augment(examples.inputs[chosen], rng), examples.labels[chosen])
        _, gradient = graph.run(parameters.astype(np.float32), shown)
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient.astype(np.float64) ** 2
        direction = (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
        parameters -= _rate(schedule, step / total) * (direction + schedule.decay * parameters)
    return parameters.astype(np.float32)


def _rate(schedule: Schedule, done: float) -> float:
    falling = 0.5 * (1 + np.cos(np.pi * max(0.0, (done - 0.2) / 0.8)))
    return float(schedule.rate * min(1.0, done / 0.2) * falling)


def as_they_are(pictures: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    return pictures


def varied(pictures: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """(N, H, W, 3) darker or brighter, of another tint, mirrored, moved by up to two pixels."""
    shown = pictures * rng.uniform(0.6, 1.4, (len(pictures), 1, 1, 1)) + rng.normal(0, 10, (len(pictures), 1, 1, 3))
    if rng.random() < 0.5:
        shown = shown[:, :, ::-1]
    return np.clip(np.roll(shown, rng.integers(-2, 3, 2), (1, 2)), 0, 255).astype(np.uint8)
