"""A trainer's process whose package is a folder of three plain files: the real network, without the rest of a package.

python -m tests.agent.learnable --package DIR --channel FD
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agent.trainer.process import run
from inference.admission import ElementType, Surface
from inference.errors import PackageRefused
from inference.training.layout import Layout, Parameter
from inference.training.trainer import LABELS, LearningSurface, StepGraph

CLASSES = ("red", "yellow", "green")
SIZE = 32
BATCH = 16
LAYOUT = Layout(
    (
        Parameter("conv1.weight", (12, 3, 3, 3)), Parameter("conv1.bias", (12,)),
        Parameter("conv2.weight", (24, 12, 3, 3)), Parameter("conv2.bias", (24,)),
        Parameter("conv3.weight", (32, 24, 3, 3)), Parameter("conv3.bias", (32,)),
        Parameter("lamp.weight", (3, 128)), Parameter("lamp.bias", (3,)),
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Package:
    """As inference.training.package.Learnable."""

    title: str
    classes: tuple[str, ...]
    size: int
    graph: StepGraph
    graph_sha256: str
    layout: Layout
    parameters: NDArray[np.float32]
    base: str


def load(folder: Path) -> Package:
    try:
        graph, parameters = (folder / "train.onnx").read_bytes(), (folder / "parameters.bin").read_bytes()
    except OSError as error:
        raise PackageRefused(f"The package in {folder} is refused: {error.strerror}.") from error
    frames = Surface("frame", (BATCH, SIZE, SIZE, 3), ElementType.UINT8)
    surface = LearningSurface(frames, Surface(LABELS, (BATCH,), ElementType.INT64), LAYOUT)
    return Package(
        "light-state@1.0", CLASSES, SIZE, StepGraph(graph, surface), hashlib.sha256(graph).hexdigest(), LAYOUT,
        np.frombuffer(parameters, "<f4").astype(np.float32), hashlib.sha256(parameters).hexdigest(),
    )  # fmt: skip


if __name__ == "__main__":
    run(load)
