"""A candidate package of parameters that were learned: quantized by the scales that its line is pinned to.

It becomes a release when somebody signs it; until then it is a folder.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inference.build.light_package import NAME, Model, package_files
from inference.build.lightnet import LAYOUT
from inference.build.packing import demand_golden, write_package
from inference.crops import load_crops
from inference.errors import PackageRefused
from inference.manifest import FederatedLineage, StateManifest
from inference.package import load_package
from inference.session import read_canvas
from inference.training.package import layout_of


def build_candidate(
    live: Path, parameters: NDArray[np.float32], version: str, crops: Path, learned: FederatedLineage
) -> dict[str, bytes]:
    """Its files by name. What it has beside its parameters is the live package's, its golden canvases too; its accuracy
    is told over the labelled `crops`. Raises PackageRefused, CropsRefused; EnvironmentFault where it leaves its own
    golden vectors."""
    package = load_package(live)
    manifest = package.manifest_of(StateManifest)
    if (manifest.name, layout_of(manifest)) != (NAME, LAYOUT):
        raise PackageRefused(f"{package.title} isn't a network that this version can quantize: only {NAME} is.")
    if parameters.shape != (LAYOUT.size,) or not np.isfinite(parameters).all():
        raise PackageRefused(f"What was learned for {package.title} isn't its {LAYOUT.size} finite numbers.")
    weights = hashlib.sha256(parameters.astype("<f4").tobytes()).hexdigest()
    lineage = manifest.lineage.model_copy(update={"weights_sha256": weights})
    canvases = [read_canvas(package, entry) for entry in manifest.golden.canvases]
    model = Model(version, parameters, manifest.training.activations, lineage, learned)
    files = package_files(model, canvases, load_crops(crops))
    with tempfile.TemporaryDirectory(prefix="outrider-candidate-") as folder:
        write_package(Path(folder), files)
        demand_golden(load_package(Path(folder)))
    return files
