"""A fleet that learns: each crop dealt once, the product's own steps all the way, and figures that can say no."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.build.light_state import DARK_KNOWN, YELLOW, YELLOW_KNOWN, known_at_first
from inference.build.lightnet import LAYOUT, initial_parameters
from inference.build.sgd import Schedule, as_they_are, fit, varied
from inference.crops import Crops
from inference.training.trainer import Examples, StepGraph
from simulator.learning.fleet import Learner, learn_together, learners_of
from simulator.learning.proof import RULE, accuracy, gain, load, plan_for, step_graph
from simulator.learning.shares import dealt
from telemetry.federated.line import base_digest
from telemetry.federated.update import signed_part


@pytest.fixture(scope="module")
def crops() -> Crops:
    return load()[0]


@pytest.fixture(scope="module")
def graph() -> StepGraph:
    return step_graph()


@given(seed=st.integers(0, 1000))
def test_what_the_base_hasnt_seen_lies_with_one_vehicle_each(crops: Crops, seed: int) -> None:
    rng = np.random.default_rng(seed)
    known = known_at_first(crops, rng)
    left = np.setdiff1d(np.arange(len(crops.labels)), known)
    hands = dealt(crops, left, 20, rng)
    assert sorted(np.concatenate(hands).tolist()) == left.tolist()
    assert (crops.labels[known] == YELLOW).sum() == YELLOW_KNOWN
    brightness = crops.pictures.reshape(len(crops.labels), -1).mean(1)
    assert (brightness[known] < np.median(brightness)).sum() == DARK_KNOWN


def test_shares_are_uneven(crops: Crops) -> None:
    rng = np.random.default_rng(0)
    hands = dealt(crops, np.arange(len(crops.labels)), 20, rng)
    red = [float((crops.labels[hand] == 0).mean()) for hand in hands if len(hand) >= 8]
    assert min(red) < 0.2
    assert max(red) > 0.9


def few(crops: Crops, count: int) -> Examples:
    chosen = np.random.default_rng(3).choice(len(crops.labels), count, replace=False)
    return Examples(crops.pictures[chosen], crops.labels[chosen])


def test_a_base_is_the_same_for_the_same_chance(crops: Crops, graph: StepGraph) -> None:
    bases = [
        fit(
            graph,
            initial_parameters(np.random.default_rng(1)),
            few(crops, 64),
            Schedule(3),
            varied,
            np.random.default_rng(2),
        )
        for _ in range(2)
    ]
    assert bases[0].tobytes() == bases[1].tobytes()


def test_it_is_the_products_own_steps_that_vehicles_take(crops: Crops, graph: StepGraph) -> None:
    base = fit(
        graph, initial_parameters(np.random.default_rng(1)), few(crops, 200), Schedule(4), as_they_are,
        np.random.default_rng(2),
    )  # fmt: skip
    plan = plan_for(base).model_copy(update={"steps": 2})
    hands = dealt(crops, np.arange(len(crops.labels)), 6, np.random.default_rng(4))
    learners = learners_of(crops, hands, plan)
    line = learn_together(graph, base, plan, RULE, learners, buffers=3, together=3, rng=np.random.default_rng(5))
    assert line.newest == 3
    assert sum(learner.sent for learner in learners) == 9
    assert base_digest(line.parameters) != plan.base
    before, after = (graph.run(at, few(crops, 32))[0] for at in (base, line.parameters))
    assert after < before


def test_a_vehicle_with_too_few_examples_says_nothing(crops: Crops) -> None:
    plan = plan_for(np.zeros(LAYOUT.size, np.float32))
    hands = [np.arange(plan.min_examples - 1), np.arange(plan.min_examples)]
    assert [learner.name for learner in learners_of(crops, hands, plan)] == ["car-02"]


def test_what_one_vehicle_owes_stays_its_own(crops: Crops, graph: StepGraph) -> None:
    base = initial_parameters(np.random.default_rng(1))
    plan = plan_for(base).model_copy(update={"steps": 1})
    one, other = learners_of(crops, [np.arange(20), np.arange(30, 50)], plan)
    one.learn(graph, base, plan, np.random.default_rng(1))
    assert one.owed.any()
    assert not other.owed.any()


def test_an_update_is_signed_by_its_own_vehicle_alone(crops: Crops, graph: StepGraph) -> None:
    base = initial_parameters(np.random.default_rng(1))
    plan = plan_for(base).model_copy(update={"steps": 1})
    one = Learner("car-01", few(crops, 20), np.zeros(plan.parameters, np.float32))
    other = replace(one, name="car-02", key=Learner("x", one.examples, one.owed).key)
    update = one.learn(graph, base, plan, np.random.default_rng(1))
    assert one.verify(signed_part(update), update.signature)
    assert not other.verify(signed_part(update), update.signature)


def test_a_gain_that_isnt_there_is_none() -> None:
    draw = np.random.default_rng(1)
    right = [draw.uniform(0, 1, 297) < 0.9 for _ in range(5)]
    none = gain(right, right)
    assert (none.mean, none.low, none.high) == (0.0, 0.0, 0.0)
    better = [one | (draw.uniform(0, 1, 297) < 0.5) for one in right]
    assert gain(right, better).low > 0
    assert gain(better, right).high < 0


def test_an_accuracy_has_an_interval_that_is_wider_over_fewer_crops() -> None:
    draw = np.random.default_rng(1)
    right = [draw.uniform(0, 1, 297) < 0.8 for _ in range(5)]
    many, some = accuracy(right, np.arange(297) < 297), accuracy(right, np.arange(297) < 20)
    assert many.low < many.mean < many.high
    assert some.high - some.low > many.high - many.low
