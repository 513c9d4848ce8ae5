"""What tests of learning share: a package to learn, a plan for it, examples, and a trainer that starts the process."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from agent.children import Child
from agent.trainer import Train
from inference.build.lightnet import initial_parameters, training_graph
from telemetry.federated.examples import Example, Now
from telemetry.federated.plan import LabelSource, Plan
from tests.agent.learnable import BATCH, CLASSES, LAYOUT, SIZE

In = TypeVar("In")
HOUR_NS = 3600 * 1_000_000_000
NOW = Now("boot-1", 5 * HOUR_NS, 1_800_000_000 * 1_000_000_000)


def make_package(folder: Path, seed: int = 1) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "train.onnx").write_bytes(training_graph(BATCH))
    (folder / "parameters.bin").write_bytes(initial_parameters(np.random.default_rng(seed)).astype("<f4").tobytes())
    return folder


def plan_for(package: Path, **changes: Any) -> Plan:
    told = {
        "name": "lights-1", "model": "light-state@1.0", "base": digest(package / "parameters.bin"),
        "graph": digest(package / "train.onnx"), "layout": LAYOUT.digest, "parameters": LAYOUT.size,
        "source": LabelSource.CONFIRMED, "steps": 12, "batch": 16, "learning_rate": 0.01, "clip": 1.0, "keep": 500,
        "min_examples": 8, "updates": 2, "max_staleness": 1, "not_after": 2_000_000_000,
    }  # fmt: skip
    return Plan(**{**told, **changes})


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def example(number: int, size: int = SIZE, now: Now = NOW) -> Example:
    """A dark crop with its lamp lit where its class has it."""
    label = number % len(CLASSES)
    picture = np.random.default_rng(number).integers(0, 60, (size, size, 3), np.uint8)
    picture[size * label // 3 : size * (label + 1) // 3, size // 3 : 2 * size // 3] = 220
    return Example(picture.tobytes(), size, CLASSES[label], "test", now)


async def starts_plain(
    module: str, arguments: Sequence[str], accepts: Any, on_message: Callable[[Child[In], In], None],
    on_closed: Callable[[Child[In]], None], environment: Mapping[str, str],
) -> Child[In]:  # fmt: skip
    """The trainer's process, with the loader of a plain folder."""
    module = "tests.agent.learnable" if module == "agent.trainer.process" else module
    return await Child.start(module, arguments, accepts, on_message, on_closed, environment)


def order_for(plan: Plan, given: Sequence[Example], seed: int = 7, **changes: Any) -> tuple[Train, bytes, bytes]:
    from msgspec.structs import replace

    from agent.learning import order_of

    order, pixels, places = order_of(plan, list(given), seed, 0)
    return replace(order, **changes), pixels, places
