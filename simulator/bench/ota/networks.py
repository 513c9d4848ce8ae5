"""Networks to update: a synthetic one of 23 MB and what a fine-tune makes of it, and those that are in the house."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from inference.build.candidate import build_candidate
from inference.evaluation import EVALUATIONS_FOLDER
from inference.manifest import FederatedLineage
from inference.package import find_package
from inference.training.package import load_learnable
from simulator.learning.fleet import learn_together, learners_of
from simulator.learning.proof import BUFFERS, RULE, TOGETHER, VEHICLES, load, plan_for, step_graph
from simulator.learning.shares import dealt

CHANNELS: Final = (3, 64, 128, 256, 512, *[512] * 9)
SIGMA: Final = 0.005
_SEED: Final = 7
LIGHTS: Final = "light-state@1.0"

Files = dict[str, bytes]


def fine_tuned(sigma: float) -> bytes:
    """Thirteen convolutions with normal weights in eight bits a channel, each moved by `sigma` of its layer's deviation
    before they were quantized; 23 MB of ONNX."""
    rng = np.random.default_rng(_SEED)
    return _network([layer + rng.standard_normal(layer.shape) * layer.std() * sigma for layer in _layers()])


@cache
def _layers() -> tuple[NDArray[np.float64], ...]:
    rng = np.random.default_rng(0)
    return tuple(
        rng.standard_normal((after, before, 3, 3)) * np.sqrt(2 / (before * 9))
        for before, after in itertools.pairwise(CHANNELS)
    )


def _network(layers: Sequence[NDArray[np.float64]]) -> bytes:
    nodes, initializers, before = [], list[Any](), "x"
    for number, layer in enumerate(layers):
        scale = np.abs(layer).reshape(len(layer), -1).max(1) / 127
        whole = np.clip(np.rint(layer / scale[:, None, None, None]), -127, 127).astype(np.int8)
        names = [f"w{number}.{part}" for part in ("q", "scale", "zero")]
        values = whole, scale.astype(np.float32), np.zeros(len(layer), np.int8)
        initializers += [numpy_helper.from_array(value, name) for name, value in zip(names, values, strict=True)]
        nodes.append(helper.make_node("DequantizeLinear", names, [f"w{number}"], axis=0))
        nodes.append(helper.make_node("Conv", [before, f"w{number}"], [f"c{number}"], pads=[1] * 4))
        nodes.append(helper.make_node("Relu", [f"c{number}"], [before := f"r{number}"]))
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in ("x", before)]
    graph = helper.make_graph(nodes, "bench", ends[:1], ends[1:], initializers)
    model: bytes = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]).SerializeToString()
    return model


def detectors() -> tuple[Files, Files]:
    """drive-detect 1.0 and 2.0: two networks, trained apart and quantized apart."""
    one, other = (_files(find_package(f"drive-detect@{version}")) for version in ("1.0", "2.0"))
    return one, other


def lights() -> tuple[Files, Files]:
    """light-state 1.0, and the candidate of what twenty vehicles learned together from it, on real crops."""
    live = find_package(LIGHTS)
    base = load_learnable(live).parameters
    crops, _ = load()
    rng = np.random.default_rng(_SEED)
    plan = plan_for(base)
    learners = learners_of(crops, dealt(crops, np.arange(len(crops.labels)), VEHICLES, rng), plan)
    line = learn_together(step_graph(), base, plan, RULE, learners, BUFFERS, TOGETHER, rng)
    learned = FederatedLineage(
        plan=plan.name, base=plan.base, number=BUFFERS, vehicles=len(learners), updates_sha256="0" * 64
    )
    return _files(live), build_candidate(live, line.parameters, "1.1", EVALUATIONS_FOLDER / "lights-1.0", learned)


def _files(folder: Path) -> Files:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
