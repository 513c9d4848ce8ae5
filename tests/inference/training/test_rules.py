"""Each gradient rule against finite differences of the very graph that it is the gradient of, in double precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.admission import LEARNING_OPERATORS
from inference.training.autodiff.losses import Loss
from inference.training.autodiff.rules import RULES
from inference.training.autodiff.step import Learning, gradient_name
from tests.inference.training.networks import Arrays, Network, evaluate

WORST = 1e-5
STEP = 1e-6

V, PIC = (2, 5), (2, 4, 6, 6)


def after_shift(operator: str, shape: tuple[int, ...] = V, y: tuple[int, ...] | None = None) -> Network:
    """The operator over x + a: a's gradient goes back through it."""
    return Network(f"u = Add(x, a) y = {operator}", shape, y or shape, {"a": shape})


NETWORKS = {
    "Relu": after_shift("Relu(u)"),
    "LeakyRelu": after_shift("LeakyRelu<alpha=0.1>(u)"),
    "Clip": Network("u = Add(x, a) y = Clip(u, low, high)", V, V, {"a": V},
        {"low": np.array(-0.4), "high": np.array(0.5)}),
    "Clip from below": Network("u = Add(x, a) y = Clip(u, low)", V, V, {"a": V}, {"low": np.array(-0.4)}),
    "HardSigmoid": after_shift("HardSigmoid<alpha=0.3, beta=0.45>(u)"),
    "HardSwish": after_shift("HardSwish(u)"),
    "Sigmoid": after_shift("Sigmoid(u)"),
    "Tanh": after_shift("Tanh(u)"),
    "Identity": after_shift("Identity(u)"),
    "Add broadcast": Network("y = Add(x, a)", (3, 2, 5), (3, 2, 5), {"a": (2, 1)}),
    "Sub": Network("u = Sub(x, a) y = Sub(b, u)", V, V, {"a": (5,), "b": (2, 1)}),
    "Mul": Network("u = Mul(x, a) y = Mul(u, b)", V, V, {"a": (5,), "b": V}),
    "Mul by itself": Network("u = Mul(x, a) y = Mul(u, u)", V, V, {"a": V}),
    "Div": Network("e = Add(b, b) s = Mul(e, e) d = Add(s, c) u = Mul(x, a) y = Div(u, d)", V, V,
                   {"a": V, "b": (5,)}, {"c": np.array([0.7])}),
    "Reshape": Network("u = Add(x, a) y = Reshape(u, s)", V, (5, 2), {"a": V},
        {"s": np.array([5, 2])}),
    "Flatten": after_shift("Flatten(u)", (2, 3, 2), (2, 6)),
    "Squeeze": Network("u = Add(x, a) y = Squeeze(u, s)", (2, 1, 3), (2, 3), {"a": (2, 1, 3)},
        {"s": np.array([1])}),
    "Unsqueeze": Network("u = Add(x, a) y = Unsqueeze(u, s)", (2, 3), (2, 1, 3), {"a": (2, 3)},
        {"s": np.array([1])}),
    "Transpose": after_shift("Transpose<perm=[2, 0, 1]>(u)", (2, 3, 4), (4, 2, 3)),
    "Transpose of all": after_shift("Transpose(u)", (2, 3, 4), (4, 3, 2)),
    "Concat": Network("u = Mul(x, b) y = Concat<axis=1>(u, a, u)", V, (2, 13), {"a": (2, 3), "b": V}),
    "Split, a part unused": Network("u = Add(x, a) y, z = Split<axis=1, num_outputs=2>(u)", (2, 6), (2, 3),
                                    {"a": (2, 6)}),
    "Split, both used": Network("u = Add(x, a) v, z = Split<axis=1, num_outputs=2>(u) y = Mul(v, z)", (2, 6), (2, 3),
                                {"a": (2, 6)}),
    "ReduceMean": Network("u = Add(x, a) y = ReduceMean<keepdims=0>(u, s)", (2, 3, 4),
                          (2, 3), {"a": (2, 3, 4)},
        {"s": np.array([-1])}),
    "ReduceSum": Network("u = Add(x, a) y = ReduceSum(u, s)", (2, 3, 4), (1, 3, 1), {"a": (2, 3, 4)},
        {"s": np.array([0, 2])}),
    "ReduceMean of all": after_shift("ReduceMean(u)", (2, 3), (1, 1)),
    "ReduceMean of no axis, which is all": Network("u = Add(x, a) m = ReduceMean(u, s) y = Mul(u, m)", (2, 3), (2, 3),
        {"a": (2, 3)}, {"s": np.zeros(0, np.int64)}),
    "ReduceSum of no axis, which is all": Network("u = Add(x, a) m = ReduceSum<keepdims=0>(u, s) y = Mul(u, m)", (2, 3),
        (2, 3), {"a": (2, 3)}, {"s": np.zeros(0, np.int64)}),
    "ReduceMean that would be nothing without its axis": Network(
        "u = Add(x, a) y = ReduceMean<noop_with_empty_axes=1>(u, s)", (2, 3), (2, 1), {"a": (2, 3)},
        {"s": np.array([1])}),
    "Gemm": Network("u = Gemm<alpha=0.7, beta=0.4>(x, a, b) y = Gemm<transB=1>(u, c, d)", (3, 4), (3, 2),
                    {"a": (4, 5), "b": (5,), "c": (2, 5), "d": (3, 2)}),
    "Gemm without bias": Network("u = Add(x, b) y = Gemm(u, a)", (3, 4), (3, 2), {"a": (4, 2), "b": (4,)}),
    "MatMul": Network("u = Add(x, b) y = MatMul(u, a)", (3, 4), (3, 2), {"a": (4, 2), "b": (4,)}),
    "MatMul, weights for all": Network("u = Add(x, b) y = MatMul(u, a)", (2, 3, 4), (2, 3, 2),
                                       {"a": (4, 2), "b": (4,)}),
    "MatMul, batched": Network("u = Add(x, b) y = MatMul(a, u)", (2, 3, 4, 2), (2, 3, 5, 2),
                               {"a": (1, 3, 5, 4), "b": (4, 2)}),
    "Conv": Network("u = Conv<pads=[1, 1, 1, 1]>(x, a, b) y = Conv(u, c)", PIC, (2, 2, 4, 4),
                    {"a": (3, 4, 3, 3), "b": (3,), "c": (2, 3, 3, 3)}),
    "Conv, strided": Network("u = Add(x, d) y = Conv<strides=[2, 2], pads=[1, 1, 1, 1]>(u, a, b)", (2, 4, 6, 7),
                             (2, 3, 3, 4), {"a": (3, 4, 3, 3), "b": (3,), "d": (4, 6, 7)}),
    "Conv, strided and dilated, uneven": Network(
        "u = Add(x, d) y = Conv<strides=[3, 2], dilations=[2, 1], pads=[1, 0, 2, 1]>(u, a)", (2, 2, 9, 8), (2, 3, 3, 4),
        {"a": (3, 2, 3, 2), "d": (2, 9, 8)}),
    "Conv, points": Network("u = Add(x, d) y = Conv(u, a, b)", PIC, (2, 3, 6, 6),
                            {"a": (3, 4, 1, 1), "b": (3,), "d": (4, 6, 6)}),
    "Conv, strided points": Network("u = Add(x, d) y = Conv<strides=[2, 2]>(u, a)", PIC, (2, 3, 3, 3),
                                    {"a": (3, 4, 1, 1), "d": (4, 6, 6)}),
    "Conv, depthwise": Network("u = Add(x, d) y = Conv<group=4, strides=[2, 1], pads=[1, 1, 1, 1]>(u, a, b)", PIC,
                               (2, 4, 3, 6), {"a": (4, 1, 3, 3), "b": (4,), "d": (4, 6, 6)}),
    "BatchNormalization": Network("u = Add(x, d) y = BatchNormalization<epsilon=0.001>(u, a, b, m, v)", (2, 3, 4, 4),
                                  (2, 3, 4, 4), {"a": (3,), "b": (3,), "d": (3, 4, 4)},
                                  {"m": np.array([0.1, -0.4, 0.3]), "v": np.array([0.6, 1.2, 0.9])}),
    "GlobalAveragePool": after_shift("GlobalAveragePool(u)", PIC, (2, 4, 1, 1)),
    "AveragePool": after_shift("AveragePool<kernel_shape=[1, 3], strides=[1, 3]>(u)", PIC, (2, 4, 6, 2)),
    "AveragePool, overlapping": after_shift(
        "AveragePool<kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 0], count_include_pad=1>(u)", PIC,
        (2, 4, 3, 5)),
}  # fmt: skip


def feeds_of(network: Network, seed: int) -> Arrays:
    draw = np.random.default_rng(seed)
    return {
        "x": draw.normal(0, 1, network.x),
        "labels": draw.uniform(0, 1, network.y),
        "weights": draw.uniform(0, 2, network.y) * (draw.uniform(0, 1, network.y) > 0.2),
        **network.parameter_values(),
    }


def demand_slopes(network: Network, learning: Learning, feeds: Arrays) -> None:
    """Along a random direction of each parameter, and along each of a few of its elements."""
    step, draw = network.step(learning), np.random.default_rng(3)
    found = evaluate(step, feeds)
    for name, shape in network.parameters.items():
        gradient = found[gradient_name(name)]
        assert gradient.shape == shape
        for direction in (draw.normal(0, 1, shape), *one_hot(shape, draw)):
            above, below = (
                float(evaluate(step, {**feeds, name: feeds[name] + sign * STEP * direction})["loss"])
                for sign in (1, -1)
            )
            slope, expected = (above - below) / (2 * STEP), float((gradient * direction).sum())
            assert abs(slope - expected) <= WORST * max(abs(expected), float(np.abs(gradient).max()), 1e-9), name


def one_hot(shape: tuple[int, ...], draw: np.random.Generator) -> list[NDArray[Any]]:
    picked = draw.choice(int(np.prod(shape)), size=min(4, int(np.prod(shape))), replace=False)
    return [np.eye(1, int(np.prod(shape)), int(at)).reshape(shape) for at in picked]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_gradient_is_the_slope_of_the_loss(name: str) -> None:
    network = NETWORKS[name]
    demand_slopes(network, Learning(tuple(network.parameters), Loss.SIGMOID, "y"), feeds_of(network, 7))


def test_every_rule_has_a_network_that_it_is_tried_on() -> None:
    tried = {node.op_type for network in NETWORKS.values() for node in network.model().graph.node}
    assert set(RULES) <= tried


@pytest.mark.parametrize("name", NETWORKS)
def test_a_vehicle_admits_all_that_a_rule_writes(name: str) -> None:
    network = NETWORKS[name]
    step = network.step(Learning(tuple(network.parameters), Loss.SIGMOID, "y"), "float")
    written = {node.op_type for node in step.graph.node}
    assert written <= LEARNING_OPERATORS
