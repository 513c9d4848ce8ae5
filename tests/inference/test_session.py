"""Laws of the session: it runs what was proven on this computer, says why, and stops a model that misbehaves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper

from inference.build.kernels import Kernels, options_for
from inference.errors import ModelFault, PackageRefused
from inference.package import ModelPackage, find_package, load_package
from inference.session import Engine, Session, contract_of, golden_fault, open_engine, session_options
from tests.inference.tiny import CANVASES, CONTRACT, SIDE, canvas, entry, graph, write_package

WEAKER = graph(gain=0.5)


def package(folder: Path, **models: bytes) -> ModelPackage:
    return load_package(write_package(folder, models=models))


def meant_otherwise(folder: Path, **models: bytes) -> ModelPackage:
    """Each variant is promised to be the plain graph, whatever it is."""
    return load_package(write_package(folder, models=models, meant=dict.fromkeys(models, graph())))


def test_the_first_variant_that_holds_is_chosen_and_the_reason_said(tmp_path: Path) -> None:
    session = Session(package(tmp_path, first=graph(), second=WEAKER))
    assert session.chosen.variant == "first"
    assert session.chosen.reason == "first holds its golden vectors"


def test_a_variant_that_runs_wrong_here_is_passed_over_and_the_reason_said(tmp_path: Path) -> None:
    session = Session(meant_otherwise(tmp_path, wrong=WEAKER, right=graph()))
    assert session.chosen.variant == "right"
    assert session.chosen.reason.startswith("wrong doesn't hold: golden-0.png: the object at score")
    expected = Engine(graph(), CONTRACT, session_options()).run(CANVASES[0])
    np.testing.assert_array_equal(session.run(CANVASES[0])[0], expected[0])


def test_a_package_of_which_nothing_holds_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        PackageRefused, match=r"No variant of tiny@1\.0 runs right on this computer: wrong doesn.t hold"
    ):
        Session(meant_otherwise(tmp_path, wrong=WEAKER))


def test_the_outputs_have_their_shapes_and_dont_change_with_repetition(tmp_path: Path) -> None:
    session = Session(package(tmp_path, plain=graph()))
    scores, distances = session.run(CANVASES[0])
    assert (scores.shape, distances.shape) == ((84, 2), (84, 44))
    assert scores.dtype == distances.dtype == np.float32
    session.run(CANVASES[1])
    again = session.run(CANVASES[0])
    assert again[0].tobytes() == scores.tobytes()
    assert again[1].tobytes() == distances.tobytes()


def divide_by_brightness(model: onnx.ModelProto) -> None:
    """Finite over the golden canvases' pooled cells, infinite over a black one."""
    rows = next(node for node in model.graph.node if node.name == "split")
    rows.input[0] = "ratio"
    nodes = [
        helper.make_node("ReduceMean", ["float"], ["mean"], name="mean", axes=[1, 2, 3], keepdims=0),
        helper.make_node("Div", ["rows", "mean"], ["ratio"], name="ratio"),
    ]
    at = list(model.graph.node).index(rows)
    for offset, node in enumerate(nodes):
        model.graph.node.insert(at + offset, node)


def test_numbers_that_arent_finite_stop_the_model(tmp_path: Path) -> None:
    session = Session(package(tmp_path, plain=graph(divide_by_brightness)))
    session.run(CANVASES[0])
    with pytest.raises(ModelFault, match="aren't finite"):
        session.run(canvas())


def promise_more_cells(model: onnx.ModelProto) -> None:
    reshape = next(tensor for tensor in model.graph.initializer if tensor.name == "shape8")
    reshape.CopyFrom(onnx.numpy_helper.from_array(np.array([1, 46, 63], np.int64), "shape8"))


def test_a_graph_that_cant_keep_its_promise_is_refused_or_stopped() -> None:
    with pytest.raises((PackageRefused, ModelFault)):
        Engine(graph(promise_more_cells), CONTRACT, session_options()).run(CANVASES[0])


def test_a_graph_that_onnx_runtime_cant_load_is_refused_by_name(tmp_path: Path) -> None:
    def no_such_attribute(model: onnx.ModelProto) -> None:
        next(node for node in model.graph.node if node.name == "head8").attribute.append(
            helper.make_attribute("kernel_shape", "square")
        )

    spoiled = meant_otherwise(tmp_path, plain=graph(no_such_attribute))
    with pytest.raises(PackageRefused, match=r"tiny@1\.0, plain\.onnx: ONNX Runtime can't load the model"):
        Session(spoiled)


def test_a_graph_that_isnt_admitted_never_reaches_onnx_runtime(tmp_path: Path) -> None:
    def intrude(model: onnx.ModelProto) -> None:
        model.graph.node.insert(1, helper.make_node("Gelu", ["frame"], ["spare"], name="intruder"))

    with pytest.raises(PackageRefused, match=r"plain\.onnx: node 'intruder' is the operator Gelu"):
        Session(meant_otherwise(tmp_path, plain=graph(intrude)))


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((SIDE, SIDE + 1, 3), np.uint8),
        np.zeros((SIDE, SIDE), np.uint8),
        np.zeros((SIDE, SIDE, 3), np.float32),
    ],
)
def test_a_canvas_of_another_shape_or_type_is_the_callers_fault(tmp_path: Path, wrong: NDArray[np.uint8]) -> None:
    session = Session(package(tmp_path, plain=graph()))
    with pytest.raises(ValueError, match="the model takes"):
        session.run(wrong)


@pytest.mark.parametrize(("ort_from", "ort_below"), [("99.0", "100.0"), ("0.1", "0.2")])
def test_another_onnx_runtime_than_the_package_was_made_for_is_refused(
    tmp_path: Path, ort_from: str, ort_below: str
) -> None:
    folder = write_package(
        tmp_path, change=lambda manifest: manifest["runtime"].update(ort_from=ort_from, ort_below=ort_below)
    )
    with pytest.raises(PackageRefused, match=f"made for ONNX Runtime from {ort_from} and below {ort_below}"):
        Session(load_package(folder))


@pytest.mark.parametrize("data", [b"not a picture", CANVASES[0].tobytes()])
def test_a_golden_canvas_that_is_no_picture_is_refused(tmp_path: Path, data: bytes) -> None:
    folder = write_package(
        tmp_path, change=lambda manifest: manifest["golden"]["canvases"].__setitem__(0, entry("golden-0.png", data))
    )
    (folder / "golden-0.png").write_bytes(data)
    with pytest.raises(PackageRefused, match=r"golden-0\.png isn't a PNG of the model's input size"):
        Session(load_package(folder))


def test_a_session_starts_no_threads_of_its_own(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/task"))
    session = Session(package(tmp_path, plain=graph()))
    session.run(CANVASES[0])
    assert len(os.listdir("/proc/self/task")) == before


def test_a_session_needs_no_onnx_package() -> None:
    code = (
        "import sys; sys.modules['onnx'] = None\n"
        "from inference.package import find_package, load_package\n"
        "from inference.session import Session\n"
        "print(Session(load_package(find_package('drive-detect@1.0'))).chosen.variant)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() in ("u8s8", "u8s7"), done.stderr


@pytest.mark.parametrize("title", ["drive-detect@1.0", "drive-detect@2.0"])
def test_the_shipped_packages_run_on_this_computer_whichever_it_is(title: str) -> None:
    chosen = Session(load_package(find_package(title))).chosen
    assert chosen.variant in ("u8s8", "u8s7")
    assert chosen.reason.endswith(f"{chosen.variant} holds its golden vectors")


@pytest.mark.parametrize("title", ["drive-detect@1.0", "drive-detect@2.0", "face-blur@1.0"])
def test_every_shipped_variant_holds_where_sums_cant_saturate(title: str) -> None:
    package = load_package(find_package(title))
    for variant in package.manifest.variants:
        exact = Engine(package.read(variant), contract_of(package.manifest), options_for(Kernels.EXACT))
        assert golden_fault(package, variant, exact) is None


class Saturating:
    """Sums that saturate show as scores too low: the surest suffer most."""

    def __init__(self, engine: Engine, ceiling: float) -> None:
        self._engine = engine
        self._ceiling = np.float32(ceiling)

    def run(self, canvas: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        scores, distances = self._engine.run(canvas)
        return np.minimum(scores, self._ceiling), distances


def test_the_golden_vectors_catch_a_processor_that_computes_something_else() -> None:
    package = load_package(find_package("drive-detect@2.0"))
    variant = next(variant for variant in package.manifest.variants if variant.id == "u8s7")
    engine = open_engine(package, variant)
    assert golden_fault(package, variant, engine) is None
    assert golden_fault(package, variant, Saturating(engine, 0.99)) is None
    assert golden_fault(package, variant, Saturating(engine, 0.5)) is not None


@pytest.mark.parametrize("title", ["drive-detect@1.0", "drive-detect@2.0", "face-blur@1.0"])
def test_the_number_of_threads_changes_no_bit_of_the_shipped_models_outputs(title: str) -> None:
    shipped = load_package(find_package(title))
    sessions = [Session(shipped, threads) for threads in (1, 2, 3)]
    height, width = shipped.manifest.input_hw
    noise = np.random.default_rng(3).integers(0, 256, (height, width, 3), np.uint8)
    first, *others = [session.run(noise) for session in sessions]
    for outputs in others:
        np.testing.assert_array_equal(outputs[0], first[0])
        np.testing.assert_array_equal(outputs[1], first[1])
