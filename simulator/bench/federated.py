"""Learning on the vehicle, and together: what a step costs, what an update weighs, and what it is worth."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import onnx

from inference.admission import ElementType, Surface
from inference.build.heads import with_float_heads
from inference.build.lightnet import CLASSES, LAYOUT
from inference.package import find_package, load_package
from inference.runtime import ort
from inference.session import session_options
from inference.training.autodiff.losses import LABELS, Loss
from inference.training.autodiff.step import Learning, training_step
from inference.training.layout import Layout, Parameter
from inference.training.trainer import Examples, LearningSurface, StepGraph
from simulator.bench.metric import Metric
from simulator.bench.resident import resident_mib
from simulator.learning.proof import Right, Trial, accuracy, gain, load, step_graph, trial

MODEL: Final = "drive-detect@2.0"
VARIANT: Final = "u8s8"
HEADS: Final = ("conv_77", "conv_80", "conv_82")
STEP_BAR: Final = 1.2
MEMORY_BAR_MIB: Final = 16.0
SMALLER_BAR: Final = 20.0
LOSS_BAR_POINTS: Final = 0.5
SEEDS: Final = 5
ROUNDS: Final = 60


def run() -> list[Metric]:
    return [*_step(), *_proof()]


# --- a step over an inference -------------------------------------------------------------------------


def _step() -> list[Metric]:
    """CPU time interleaved in one process; memory each in a process of its own."""
    graph, step = _graph(), _training_step()
    infer, learn = _inference(graph), _learning(step)
    raw, taken = [], []
    for _ in range(ROUNDS):
        raw.append(_cpu_ms(infer))
        taken.append(_cpu_ms(learn))
    ratio = float(np.percentile(taken, 20) / np.percentile(raw, 20))
    with tempfile.TemporaryDirectory(prefix="outrider-bench-") as folder:
        files = Path(folder, "infer.onnx"), Path(folder, "train.onnx")
        files[0].write_bytes(graph)
        files[1].write_bytes(step.SerializeToString())
        more = resident_mib(files[1], learns=True) - resident_mib(files[0], learns=False)
    how = f"{MODEL} {VARIANT}, its three last convolutions (21,672 parameters), one thread"
    return [
        Metric("training step of a head over an inference", ratio, "x", f"{how}, CPU time", STEP_BAR),
        Metric("memory of a training step over an inference", more, "MiB", f"{how}, resident", MEMORY_BAR_MIB),
    ]


def _graph() -> bytes:
    package = load_package(find_package(MODEL))
    (variant,) = (variant for variant in package.manifest.variants if variant.id == VARIANT)
    return package.read(variant)


def _training_step() -> onnx.ModelProto:
    heads = with_float_heads(onnx.load_from_string(_graph()), HEADS)
    return training_step(heads.model, Learning(heads.trained, Loss.SIGMOID, "logits"))


def _inference(graph: bytes) -> Callable[[], object]:
    session = ort.InferenceSession(graph, session_options(), providers=["CPUExecutionProvider"])
    frame = np.random.default_rng(0).integers(0, 256, session.get_inputs()[0].shape, dtype=np.uint8)
    return _warm(lambda: session.run(None, {"frame": frame}))


def _learning(step: onnx.ModelProto) -> Callable[[], object]:
    sizes = {value.name: tuple(d.dim_value for d in value.type.tensor_type.shape.dim) for value in step.graph.input}
    layout = Layout(tuple(Parameter(name, size) for name, size in sizes.items() if name.startswith("head")))
    surface = LearningSurface(
        Surface("frame", sizes["frame"], ElementType.UINT8), Surface(LABELS, sizes[LABELS]), layout
    )
    graph, rng = StepGraph(step.SerializeToString(), surface), np.random.default_rng(0)
    shown = Examples(
        rng.integers(0, 256, sizes["frame"], dtype=np.uint8), rng.uniform(0, 1, sizes[LABELS]).astype(np.float32)
    )
    parameters = rng.normal(0, 0.05, layout.size).astype(np.float32)
    return _warm(lambda: graph.run(parameters, shown))


def _warm(act: Callable[[], object]) -> Callable[[], object]:
    for _ in range(5):
        act()
    return act


def _cpu_ms(act: Callable[[], object]) -> float:
    began = time.process_time_ns()
    act()
    return (time.process_time_ns() - began) / 1e6


# --- what it is worth ---------------------------------------------------------------------------------


def _proof() -> list[Metric]:
    crops, held_out = load()
    graph = step_graph()
    trials = [trial(seed, crops, held_out, graph) for seed in range(SEEDS)]
    base, together = [one.base for one in trials], [one.federated for one in trials]
    won, lost = gain(base, together), gain(together, [one.uncompressed for one in trials])
    smaller = 4 * LAYOUT.size / float(np.mean([one.update_bytes for one in trials]))
    how = f"{SEEDS} seeds, 20 vehicles with uneven shares of 1,187 real crops, 297 held out"
    return [
        Metric("accuracy gained by learning together, lower bound", 100 * won.low, "points", how, 0.0, "above"),
        Metric("accuracy gained by learning together", 100 * won.mean, "points", f"{how}; to {100 * won.high:.1f}"),
        Metric("update smaller than fp32", smaller, "x", "5 % kept, eight bits, deflated", SMALLER_BAR, "at least"),
        Metric("accuracy that compression costs", 100 * lost.mean, "points", how, LOSS_BAR_POINTS),
        *(_class_metric(label, held_out.labels == at, trials) for at, label in enumerate(CLASSES)),
    ]


def _class_metric(label: str, of: Right, trials: list[Trial]) -> Metric:
    figures = [accuracy([getattr(one, which) for one in trials], of) for which in ("base", "federated", "centralized")]
    words = "; ".join(
        f"{which} {100 * figure.mean:.1f} ({100 * figure.low:.1f} to {100 * figure.high:.1f})"
        for which, figure in zip(("base", "federated", "centralized"), figures, strict=True)
    )
    return Metric(f"{label} told right, federated", 100 * figures[1].mean, "%", words)
