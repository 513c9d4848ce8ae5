"""Local training: the same bits each time, what gradient descent says, and over at once when it must be."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.admission import ElementType, Surface
from inference.errors import ModelFault, PackageRefused
from inference.training.autodiff.losses import Loss
from inference.training.autodiff.step import Learning
from inference.training.layout import Layout, Parameter
from inference.training.trainer import Examples, LearningSurface, Recipe, StepGraph, Stopped, train
from tests.inference.training.networks import LIGHTS, Network

LAYOUT = Layout(tuple(Parameter(name, shape) for name, shape in LIGHTS.parameters.items()))
LINEAR = Network("y = Gemm(x, a, b)", (4, 2), (4, 3), {"a": (2, 3), "b": (3,)})
SMALL = Layout((Parameter("a", (2, 3)), Parameter("b", (3,))))


LIGHTS_STEP = LIGHTS.step(Learning(tuple(LIGHTS.parameters), Loss.SOFTMAX, "y"), "float").SerializeToString()
LINEAR_STEP = LINEAR.step(Learning(("a", "b"), Loss.SOFTMAX, "y"), "float").SerializeToString()


LIGHTS_SURFACE = LearningSurface(Surface("x", LIGHTS.x), Surface("labels", (8,), ElementType.INT64), LAYOUT)
LINEAR_SURFACE = LearningSurface(Surface("x", LINEAR.x), Surface("labels", (4,), ElementType.INT64), SMALL)


def start_of(network: Network, layout: Layout) -> NDArray[np.float32]:
    return layout.joined({name: value.astype(np.float32) for name, value in network.parameter_values().items()})


def spots(count: int, seed: int = 0) -> Examples:
    """Pictures whose brighter third is their label."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 3, count)
    pictures = draw.normal(0, 0.3, (count, 3, 32, 32)).astype(np.float32)
    for picture, label in zip(pictures, labels, strict=True):
        picture[:, 10 * label : 10 * label + 10] += 1
    return Examples(pictures, labels)


def unhurried(done: int) -> None: ...


def test_it_learns() -> None:
    graph, start = StepGraph(LIGHTS_STEP, LIGHTS_SURFACE), 0.4 * start_of(LIGHTS, LAYOUT)
    learned = train(graph, start, spots(60), Recipe(150, 0.05, 8), np.random.default_rng(1), unhurried)
    assert np.mean(learned.losses[-20:]) < 0.3 * np.mean(learned.losses[:3])
    assert learned.delta.shape == (LAYOUT.size,)


def test_the_same_start_examples_and_chance_give_the_same_bits() -> None:
    start = start_of(LIGHTS, LAYOUT)
    graphs = [StepGraph(LIGHTS_STEP, LIGHTS_SURFACE) for _ in range(2)]
    recipe = Recipe(6, 0.01, 8)
    runs = [train(graph, start, spots(20), recipe, np.random.default_rng(3), unhurried) for graph in graphs]
    assert runs[0].delta.tobytes() == runs[1].delta.tobytes()
    assert runs[0].losses == runs[1].losses


def test_one_step_is_minus_the_rate_times_the_gradient() -> None:
    graph, start = StepGraph(LINEAR_STEP, LINEAR_SURFACE), start_of(LINEAR, SMALL)
    examples = Examples(np.ones((4, 2), np.float32), np.array([0, 1, 2, 0]))
    _, gradient = graph.run(start, examples)
    learned = train(graph, start, examples, Recipe(1, 0.5, 4), np.random.default_rng(0), unhurried)
    assert learned.delta == pytest.approx(-0.5 * gradient, abs=1e-6)


def test_fewer_examples_than_a_batch_count_as_themselves_alone() -> None:
    graph, start = StepGraph(LINEAR_STEP, LINEAR_SURFACE), start_of(LINEAR, SMALL)
    x, labels = np.arange(8, dtype=np.float32).reshape(4, 2), np.array([0, 1, 2, 0])
    two, gradient = graph.run(start, Examples(x[:2], labels[:2]))
    twice, again = graph.run(start, Examples(np.concatenate([x[:2]] * 2), np.concatenate([labels[:2]] * 2)))
    assert two == pytest.approx(twice)
    assert gradient == pytest.approx(again, abs=1e-6)


def test_between_two_steps_it_can_be_ended() -> None:
    class Away(Exception):
        pass

    def leave_after_three(done: int) -> None:
        if done == 3:
            raise Away

    graph = StepGraph(LINEAR_STEP, LINEAR_SURFACE)
    examples = Examples(np.ones((4, 2), np.float32), np.zeros(4, np.int64))
    with pytest.raises(Away):
        train(graph, start_of(LINEAR, SMALL), examples, Recipe(9, 0.1, 4), np.random.default_rng(0), leave_after_three)


def test_within_a_step_too_and_there_is_no_other() -> None:
    graph, start = StepGraph(LIGHTS_STEP, LIGHTS_SURFACE), start_of(LIGHTS, LAYOUT)
    under_way = threading.Event()

    def stop() -> None:
        under_way.wait()
        graph.stop()

    stopper = threading.Thread(target=stop)
    stopper.start()

    def tell(done: int) -> None:
        under_way.set()

    with pytest.raises(Stopped):
        train(graph, start, spots(20), Recipe(1_000_000, 0.0, 8), np.random.default_rng(0), tell)
    stopper.join()
    with pytest.raises(Stopped):
        graph.run(start, spots(4))


def test_a_rate_that_makes_it_diverge_is_told_in_words() -> None:
    graph, start = StepGraph(LIGHTS_STEP, LIGHTS_SURFACE), start_of(LIGHTS, LAYOUT)
    with pytest.raises(ModelFault, match="the learning rate is too high"):
        train(graph, start, spots(20), Recipe(50, 1e30, 8), np.random.default_rng(0), unhurried)


@pytest.mark.parametrize(
    ("graph", "surface", "words"),
    [
        (b"no graph", LINEAR_SURFACE, "isn't a well-formed ONNX file"),
        (LINEAR_STEP, replace(LINEAR_SURFACE, layout=Layout(SMALL.parameters[:1])), "not the promised"),
        (LINEAR_STEP, replace(LINEAR_SURFACE, layout=Layout(SMALL.parameters[::-1])), "not the promised"),
        (LINEAR_STEP, replace(LINEAR_SURFACE, input=Surface("x", (4, 3))), "not the promised"),
        (LINEAR_STEP, replace(LINEAR_SURFACE, labels=Surface("labels", (4,))), "not the promised"),
        (LINEAR_STEP, LIGHTS_SURFACE, "not the promised"),
        (LINEAR_STEP, replace(LINEAR_SURFACE, opset=17), "of opset 18, not 17"),
        (LINEAR_STEP.replace(b"Softmax", b"Hardmax"), LINEAR_SURFACE, "isn't on the list"),
    ],
)
def test_a_graph_that_isnt_what_the_package_tells_is_refused(
    graph: bytes, surface: LearningSurface, words: str
) -> None:
    with pytest.raises(PackageRefused, match=words):
        StepGraph(graph, surface)


def test_a_layout_is_its_names_sizes_and_their_order() -> None:
    a, b = Parameter("a", (2, 3)), Parameter("b", (3,))
    digests = {Layout(ones).digest for ones in ((a, b), (b, a), (a,), (Parameter("a", (3, 2)), b))}
    assert len(digests) == 4
    assert Layout((a, b)).digest == SMALL.digest


def test_a_vector_falls_into_its_parts_and_together_again() -> None:
    vector = np.arange(SMALL.size, dtype=np.float32)
    parts = SMALL.split(vector)
    assert {name: part.shape for name, part in parts.items()} == {"a": (2, 3), "b": (3,)}
    assert (SMALL.joined(parts) == vector).all()
    assert (SMALL.flat(list(parts.values())) == vector).all()
