"""Local training: some steps of stochastic gradient descent on this vehicle's own examples, one graph run each.

Between two steps, and within one, it can be told to stop: somebody who gets into the car must not wait for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from inference.admission import LEARNING_OPERATORS, Contract, Surface, admit
from inference.errors import ModelFault, PackageRefused
from inference.runtime import ort, ort_errors
from inference.session import session_options
from inference.training.layout import Layout

LOSS: Final = "loss"
LABELS: Final = "labels"
WEIGHTS: Final = "weights"

_ERRORS: Final = (
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
    MemoryError,
)


class Stopped(Exception):
    """It was told to stop: nothing came of it."""


@dataclass(frozen=True, slots=True)
class Examples:
    """N of them: what the graph sees (N, ...), what it should have said (N, ...)."""

    inputs: NDArray[Any]
    labels: NDArray[Any]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True)
class Recipe:
    """`steps` of SGD at `learning_rate`, each over `batch` examples drawn without repeating one within a step."""

    steps: int
    learning_rate: float
    batch: int


@dataclass(frozen=True, slots=True)
class Learned:
    """`delta` (size,) float32 is the change of the parameters; `losses` has one mean loss a step."""

    delta: NDArray[np.float32]
    losses: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class LearningSurface:
    """What a training graph takes and gives: batches of `input` and `labels`, and the layout's parameters."""

    input: Surface
    labels: Surface
    layout: Layout
    opset: int = 18

    def contract(self) -> Contract:
        parameters = [Surface(one.name, one.shape) for one in self.layout.parameters]
        gradients = [Surface(f"grad.{one.name}", one.shape) for one in self.layout.parameters]
        weights = Surface(WEIGHTS, self.labels.shape)
        return Contract(
            (self.input, *parameters, self.labels, weights), (Surface(LOSS, ()), *gradients), self.opset,
            LEARNING_OPERATORS,
        )  # fmt: skip


class StepGraph:
    """A training step in ONNX Runtime, of one layout; short batches are padded with what weighs nothing."""

    def __init__(self, graph: bytes, surface: LearningSurface) -> None:
        """Raises PackageRefused when the graph isn't plain, or not of that surface."""
        self._surface = surface
        self._layout = surface.layout
        self._run_options = ort.RunOptions()
        contract = surface.contract()
        try:
            admit(graph, contract)
            self._session = ort.InferenceSession(graph, learning_options(), providers=["CPUExecutionProvider"])
        except PackageRefused as refusal:
            raise PackageRefused(f"The training graph is refused: {refusal}. Nothing is learned.") from refusal
        except _ERRORS as error:
            raise PackageRefused(f"ONNX Runtime can't load the training graph: {error}. Nothing is learned.") from error
        self._outputs = [output.name for output in contract.outputs]
        self.batch = surface.labels.shape[0]

    def run(self, parameters: NDArray[np.float32], examples: Examples) -> tuple[float, NDArray[np.float32]]:
        """The mean loss of at most `batch` examples, and its gradient (size,). Raises ModelFault, Stopped."""
        feeds = {**self._layout.split(parameters), **self._padded(examples)}
        try:
            loss, *gradients = self._session.run(self._outputs, feeds, self._run_options)
        except _ERRORS as error:
            if self._run_options.terminate:
                raise Stopped from error
            raise ModelFault(f"The training graph failed: {error}. Nothing is learned of this package.") from error
        gradient = self._layout.flat(gradients)
        if not np.isfinite(loss) or not np.isfinite(gradient).all():
            raise ModelFault("The loss or its gradient isn't finite: the learning rate is too high for this model.")
        return float(loss), gradient

    def stop(self) -> None:
        """From any thread: the run under way ends, and there is no other."""
        self._run_options.terminate = True

    def _padded(self, examples: Examples) -> Mapping[str, NDArray[Any]]:
        count, surface = len(examples), self._surface
        inputs = np.zeros(surface.input.shape, examples.inputs.dtype)
        labels = np.zeros(surface.labels.shape, examples.labels.dtype)
        weights = np.zeros(surface.labels.shape, np.float32)
        inputs[:count], labels[:count], weights[:count] = examples.inputs, examples.labels, 1.0
        return {surface.input.name: inputs, LABELS: labels, WEIGHTS: weights}


def train(
    graph: StepGraph,
    start: NDArray[np.float32],
    examples: Examples,
    recipe: Recipe,
    rng: np.random.Generator,
    between: Callable[[int], None],
) -> Learned:
    """From the parameters `start` (size,). `between` is told how many steps are done, and raises to end it.

    The same start, examples, recipe and random state give the same bits. Raises ModelFault, Stopped.
    """
    parameters, losses = start.astype(np.float32), []
    take = min(recipe.batch, graph.batch, len(examples))
    for done in range(recipe.steps):
        between(done)
        chosen = rng.choice(len(examples), take, replace=False)
        loss, gradient = graph.run(parameters, Examples(examples.inputs[chosen], examples.labels[chosen]))
        losses.append(loss)
        parameters = parameters - np.float32(recipe.learning_rate) * gradient
    return Learned(parameters - start, tuple(losses))


def learning_options() -> ort.SessionOptions:
    """No arena: memory that one step needed once would be kept for ever."""
    options = session_options()
    options.enable_cpu_mem_arena = False
    return options
