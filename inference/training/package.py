"""What of a package can be learned: its training step, and the parameters that it starts from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inference.admission import ElementType, Surface
from inference.errors import PackageRefused
from inference.manifest import StateManifest
from inference.package import ModelPackage, load_package
from inference.training.layout import Layout, Parameter
from inference.training.trainer import LABELS, LearningSurface, StepGraph


@dataclass(frozen=True, slots=True)
class Learnable:
    """`size`: pixels of a crop's side; `parameters` (N,) float32, whose SHA-256 is `base`."""

    title: str
    classes: tuple[str, ...]
    size: int
    graph: StepGraph
    graph_sha256: str
    layout: Layout
    parameters: NDArray[np.float32]
    base: str


def load_learnable(folder: Path) -> Learnable:
    """Every byte of the package checked, its graph admitted. Raises PackageRefused."""
    package = load_package(folder)
    manifest = package.manifest_of(StateManifest)
    layout, parameters = layout_of(manifest), parameters_of(package)
    graph = package.read(manifest.training.graph)
    return Learnable(
        package.title,
        manifest.classes,
        manifest.input.height,
        StepGraph(graph, _surface(manifest, layout)),
        hashlib.sha256(graph).hexdigest(),
        layout,
        parameters,
        hashlib.sha256(parameters.astype("<f4").tobytes()).hexdigest(),
    )


def layout_of(manifest: StateManifest) -> Layout:
    return Layout(tuple(Parameter(one.name, one.shape) for one in manifest.training.layout))


def parameters_of(package: ModelPackage) -> NDArray[np.float32]:
    """(N,) float32. Raises PackageRefused where one isn't finite."""
    manifest = package.manifest_of(StateManifest)
    values = np.frombuffer(package.read(manifest.training.parameters), "<f4").astype(np.float32)
    if not np.isfinite(values).all():
        raise PackageRefused(f"A parameter of {package.title} isn't finite. Nothing can be learned from it.")
    return values


def _surface(manifest: StateManifest, layout: Layout) -> LearningSurface:
    batch, crop = manifest.training.batch, manifest.input
    pictures = Surface(crop.name, (batch, crop.height, crop.width, 3), ElementType.UINT8)
    labels = Surface(LABELS, (batch,), ElementType.INT64)
    return LearningSurface(pictures, labels, layout, manifest.runtime.opset)
