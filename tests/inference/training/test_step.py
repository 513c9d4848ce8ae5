"""A training step as the vehicle runs it: as PyTorch says, on the runtime's own wheel, and refused where not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from inference.runtime import ort
from inference.session import session_options
from inference.training.autodiff.losses import Loss
from inference.training.autodiff.step import Learning, gradient_name, training_step
from inference.training.autodiff.tape import Unsupported
from tests.inference.training.networks import LIGHTS, MIXER, MOBILE, NETWORKS, Arrays, Network, evaluate
from tests.inference.training.test_rules import demand_slopes

VECTORS = Path(__file__).parents[2] / "vectors" / "training"
WORST = 1e-5


def learning_of(network: Network) -> Learning:
    return Learning(tuple(network.parameters), Loss.SOFTMAX, "y")


def run(step: onnx.ModelProto, feeds: Arrays) -> Arrays:
    session = ort.InferenceSession(step.SerializeToString(), session_options(), providers=["CPUExecutionProvider"])
    names = [output.name for output in step.graph.output]
    return dict(zip(names, session.run(names, feeds), strict=True))


def golden(name: str) -> tuple[Arrays, Arrays]:
    """What goes in, and what PyTorch says comes out."""
    with np.load(VECTORS / f"{name}.npz") as arrays:
        whole = {key: arrays[key] for key in arrays.files}
    told = {key: value for key, value in whole.items() if key == "loss" or key.startswith("grad.")}
    return {key: value for key, value in whole.items() if key not in told}, told


@pytest.mark.parametrize("name", NETWORKS)
def test_the_gradients_are_pytorchs(name: str) -> None:
    feeds, told = golden(name)
    found = run(NETWORKS[name].step(learning_of(NETWORKS[name]), "float"), feeds)
    assert found.keys() == told.keys()
    for key, expected in told.items():
        assert np.abs(found[key] - expected).max() <= WORST * np.abs(expected).max(), key


def test_softmax_has_the_slope_of_its_loss_too() -> None:
    draw = np.random.default_rng(5)
    feeds = {
        "x": draw.normal(0, 1, MIXER.x), "labels": draw.integers(0, 3, 4), "weights": np.array([1.0, 0.0, 0.5, 2.0]),
        **MIXER.parameter_values(),
    }  # fmt: skip
    demand_slopes(MIXER, learning_of(MIXER), feeds)


def test_what_weighs_nothing_says_nothing() -> None:
    step, (feeds, _) = MIXER.step(learning_of(MIXER), "float"), golden("mixer")
    other = {**feeds, "x": feeds["x"].copy(), "labels": feeds["labels"].copy()}
    assert feeds["weights"][-1] == 0
    other["x"][-1] += 3
    other["labels"][-1] = 2 - other["labels"][-1]
    for key, value in run(step, feeds).items():
        assert (run(step, other)[key] == value).all(), key


@pytest.mark.parametrize("kind", Loss)
def test_a_batch_of_padding_alone_moves_nothing(kind: Loss) -> None:
    step, (feeds, _) = MIXER.step(Learning(tuple(MIXER.parameters), kind, "y"), "float"), golden("mixer")
    labels = feeds["labels"] if kind is Loss.SOFTMAX else np.ones(MIXER.y, np.float32)
    zeros = np.zeros_like(labels, np.float32)
    for value in run(step, {**feeds, "labels": labels, "weights": zeros}).values():
        assert (value == 0).all()


@pytest.mark.parametrize("far", [-200.0, 200.0])
def test_a_sigmoids_loss_is_finite_however_sure_the_network_is(far: float) -> None:
    sure = Network("y = Add(x, a)", (2,), (2,), {"a": (2,)})
    step = sure.step(Learning(("a",), Loss.SIGMOID, "y"), "float")
    feeds = {"x": np.full(2, far, np.float32), "a": np.zeros(2, np.float32), "weights": np.ones(2, np.float32)}
    wrong = float(far < 0)
    found = run(step, {**feeds, "labels": np.full(2, wrong, np.float32)})
    assert found["loss"] == pytest.approx(200.0)
    assert found["grad.a"] == pytest.approx(np.full(2, 0.5 if far > 0 else -0.5))


# --- what the graph is ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_it_is_a_plain_graph_of_the_standards_operators(name: str) -> None:
    step = NETWORKS[name].step(learning_of(NETWORKS[name]), "float")
    assert [(entry.domain, entry.version) for entry in step.opset_import] == [("", 18)]
    assert {node.domain for node in step.graph.node} == {""}
    attributes = [attribute for node in step.graph.node for attribute in node.attribute]
    assert onnx.AttributeProto.GRAPH not in {attribute.type for attribute in attributes}
    assert step.ir_version <= 10


def test_only_what_is_trained_becomes_an_input_and_nothing_frozen_has_a_way_back() -> None:
    model = LIGHTS.model("float")
    head = training_step(model, Learning(("w4", "b4"), Loss.SOFTMAX, "y"))
    assert [value.name for value in head.graph.input] == ["x", "w4", "b4", "labels", "weights"]
    assert [value.name for value in head.graph.output] == ["loss", "grad.w4", "grad.b4"]
    assert not {"ConvTranspose", "Slice"} & {node.op_type for node in head.graph.node}
    kept = {tensor.name for tensor in head.graph.initializer}
    assert {"w1", "b1", "w2", "b2", "w3", "b3"} <= kept
    feeds, told = golden("lights")
    found = run(head, {name: feeds[name] for name in ("x", "w4", "b4", "labels", "weights")})
    # The frozen ones have the test's own values, the golden's rounded to single: the same.
    assert np.abs(found["grad.w4"] - told["grad.w4"]).max() <= WORST * np.abs(told["grad.w4"]).max()


def test_a_tensor_that_is_used_twice_has_the_sum_of_both_gradients() -> None:
    twice = Network("u = Mul(x, a) y = Add(u, a)", (3,), (3,), {"a": (3,)})
    step = twice.step(Learning(("a",), Loss.SIGMOID, "y"))
    one = np.ones(3)
    found = evaluate(step, {"x": 2 * one, "a": 0 * one, "labels": 0 * one, "weights": one})
    assert found[gradient_name("a")] == pytest.approx((2 + 1) * 0.5 / 3 * one)


# --- what is refused --------------------------------------------------------------------------------


REFUSED = {
    "there is no gradient for Elu": Network("u = Add(x, a) y = Elu(u)", (2, 2), (2, 2), {"a": (2,)}),
    "turns its first input": Network("y = Gemm<transA=1>(x, a)", (2, 3), (3, 2), {"a": (2, 2)}),
    "has 2 groups for 4 channels": Network("y = Conv<group=2>(x, a)", (1, 4, 3, 3), (1, 2, 3, 3), {"a": (2, 2, 1, 1)}),
    "isn't in two dimensions": Network("y = Conv(x, a)", (1, 2, 5), (1, 2, 5), {"a": (2, 2, 1)}),
    "has auto_pad": Network("y = Conv<auto_pad=\"SAME_UPPER\">(x, a)", (1, 2, 5, 5), (1, 2, 5, 5), {"a": (2, 2, 3, 3)}),
    "divides by fewer pixels": Network("u = Add(x, a) y = AveragePool<kernel_shape=[2, 2], pads=[1, 1, 0, 0]>(u)",
                                       (1, 1, 3, 3), (1, 1, 3, 3), {"a": (3,)}),
    "ReduceMean .* reduces nothing": Network("u = Add(x, a) y = ReduceMean<noop_with_empty_axes=1>(u)", (2, 3), (2, 3),
                                             {"a": (2, 3)}),
    "ReduceSum .* reduces nothing": Network("u = Add(x, a) y = ReduceSum<noop_with_empty_axes=1>(u, s)", (2, 3), (2, 3),
                                            {"a": (2, 3)}, {"s": np.zeros(0, np.int64)}),
    "multiplies a vector": Network("y = MatMul(x, a)", (2, 3), (2,), {"a": (3,)}),
    "y doesn't depend on b": Network("z = Mul(b, b) y = Add(x, a)", (2,), (2,), {"a": (2,), "b": (2,)}),
}  # fmt: skip


@pytest.mark.parametrize("words", REFUSED)
def test_what_has_no_gradient_is_refused_by_its_name(words: str) -> None:
    network = REFUSED[words]
    with pytest.raises(Unsupported, match=words):
        network.step(Learning(tuple(network.parameters), Loss.SIGMOID, "y"))


@pytest.mark.parametrize("trained", [(), ("a", "a"), ("x",), ("nothing",)])
def test_what_isnt_a_parameter_cant_be_trained(trained: tuple[str, ...]) -> None:
    network = Network("y = Add(x, a)", (2,), (2,), {"a": (2,)})
    with pytest.raises(Unsupported, match="must be floating-point initializers, each named once"):
        network.step(Learning(trained, Loss.SIGMOID, "y"))


def test_an_older_opset_or_an_open_batch_is_refused() -> None:
    learning = Learning(("a",), Loss.SIGMOID, "y")
    old = Network("y = Add(x, a)", (2,), (2,), {"a": (2,)}).model()
    del old.opset_import[:]
    old.opset_import.append(helper.make_opsetid("", 17))
    with pytest.raises(Unsupported, match="of opset 17: convert it to 18"):
        training_step(old, learning)
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "a"], ["y"])], "open",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(np.zeros(2, np.float32), "a")],
    )  # fmt: skip
    with pytest.raises(Unsupported, match="the shape of y isn't known"):
        training_step(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), learning)


def test_the_mobile_network_has_frozen_statistics() -> None:
    model = MOBILE.model("float")
    with pytest.raises(Unsupported, match="would change its statistics"):
        training_step(model, Learning((*MOBILE.parameters, "m"), Loss.SOFTMAX, "y"))
