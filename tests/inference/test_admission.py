"""Laws of admission: only a plain graph gets in, a refusal names what it is about, and no bytes do anything else."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from inference.admission import OPERATORS, Contract, ElementType, Limits, admit
from inference.errors import PackageRefused
from inference.package import find_package, load_package
from inference.session import contract_of
from tests.inference.tiny import CONTRACT, SIDE, graph

Change = Callable[[onnx.ModelProto], Any]


def refusal(model: bytes, contract: Contract = CONTRACT, limits: Limits | None = None) -> str:
    with pytest.raises(PackageRefused) as refused:
        admit(model, contract, limits)
    return str(refused.value)


def test_a_plain_graph_is_admitted_and_told_apart() -> None:
    parts = admit(graph(), CONTRACT)
    assert dict(parts.operators) == {
        "AveragePool": 3,
        "Cast": 1,
        "Concat": 1,
        "Conv": 3,
        "Reshape": 3,
        "Sigmoid": 1,
        "Split": 1,
        "Transpose": 2,
    }
    assert parts.initializers == 6


@pytest.mark.parametrize("title", ["drive-detect@1.0", "drive-detect@2.0"])
def test_the_shipped_graphs_are_admitted(title: str) -> None:
    package = load_package(find_package(title))
    for variant in package.manifest.variants:
        parts = admit(package.read(variant), contract_of(package.manifest))
        assert dict(parts.operators)["Conv"] == 34


def add_node(operator: str, domain: str = "", **attributes: Any) -> Change:
    def change(model: onnx.ModelProto) -> None:
        node = helper.make_node(operator, ["planar"], ["spare"], name="intruder", domain=domain, **attributes)
        model.graph.node.insert(1, node)

    return change


def add_constant(tensor: onnx.TensorProto) -> Change:
    return lambda model: model.graph.initializer.append(tensor)


def in_node(name: str, change: Callable[[onnx.NodeProto], Any]) -> Change:
    return lambda model: change(next(node for node in model.graph.node if node.name == name))


def in_constant(name: str, change: Callable[[onnx.TensorProto], Any]) -> Change:
    return lambda model: change(next(tensor for tensor in model.graph.initializer if tensor.name == name))


def set_field(name: str, value: Any) -> Callable[[Any], None]:
    return lambda message: setattr(message, name, value)


def sub_graph() -> onnx.GraphProto:
    output = helper.make_tensor_value_info("branch", TensorProto.FLOAT, [1])
    return helper.make_graph([helper.make_node("Identity", ["planar"], ["branch"])], "branch", [], [output])


def outside(tensor: onnx.TensorProto) -> None:
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    tensor.ClearField("raw_data")


def sparse(model: onnx.ModelProto) -> None:
    values = helper.make_tensor("values", TensorProto.FLOAT, [1], [1.0])
    indices = helper.make_tensor("indices", TensorProto.INT64, [1], [0])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [10]))


def function(model: onnx.ModelProto) -> None:
    node = helper.make_node("Identity", ["a"], ["b"])
    model.functions.append(helper.make_function("own", "f", ["a"], ["b"], [node], [helper.make_opsetid("", 17)]))


def huge(name: str, dims: list[int]) -> onnx.TensorProto:
    return TensorProto(name=name, dims=dims, data_type=TensorProto.FLOAT)


FORBIDDEN: list[tuple[Change, str]] = [
    (add_node("Gelu"), "node 'intruder' is the operator Gelu, which isn't on the list"),
    (add_node("FusedConv", domain="com.microsoft"), "node 'intruder' is FusedConv of the domain 'com.microsoft'"),
    (add_node("If", then_branch=sub_graph(), else_branch=sub_graph()), "of node 'intruder' has a sub-graph"),
    (add_node("Loop", body=sub_graph()), "attribute 'body' of node 'intruder' has a sub-graph"),
    (add_node("Scan", bodies=[sub_graph()]), "has sub-graphs"),
    (add_node("Constant", value=numpy_helper.from_array(np.zeros(3, np.float32))), "has a tensor"),
    (add_node("Identity", axis=1 << 20), "attribute 'axis' of node 'intruder' has a number beyond 65536"),
    (add_node("Identity", pads=[0] * 65), "has 65 values; 64 are the most"),
    (add_node("Identity", mode="x" * 600), "has a text of 600 bytes"),
    (in_node("planar", lambda node: node.attribute.extend([_of_kind(2)] * 32)), "node 'planar' has 33 attributes"),
    (in_node("planar", lambda node: node.attribute.append(helper.make_attribute("perm", [0]))), "an attribute twice"),
    (in_node("planar", lambda node: node.input.extend(["frame"] * 70)), "node 'planar' has 71 inputs"),
    (in_node("float", lambda node: node.input.__setitem__(0, "later")), "reads 'later', which nothing before it gives"),
    (in_node("float", lambda node: node.output.__setitem__(0, "planar")), "gives 'planar', which isn't a new name"),
    (in_node("float", set_field("overload", "fast")), "node 'float' has an overload"),
    (in_node("float", set_field("name", "n" * 600)), "a node has a name of 600 bytes"),
    (lambda model: model.graph.node.sort(key=lambda node: node.name), "which nothing before it gives"),
    (add_constant(huge("big", [1 << 13, 1 << 13])), "'big' has 67108864 elements"),
    (add_constant(huge("big", [1 << 40, 1 << 40])), "the constant 'big' has 1208925819614629174706176 elements"),
    (add_constant(huge("hollow", [4])), "the constant 'hollow' claims 4 elements and has 0"),
    (add_constant(huge("odd", [-1])), "the constant 'odd' has a negative dimension"),
    (add_constant(huge("deep", [1] * 9)), "the constant 'deep' has 9 dimensions"),
    (add_constant(helper.make_tensor("text", TensorProto.STRING, [1], [b"x"])), "the constant 'text' has strings"),
    (add_constant(helper.make_tensor("wide", TensorProto.DOUBLE, [1], [1.0])), "has the element type 11"),
    (in_constant("weights", lambda tensor: tensor.dims.__setitem__(0, 1)), "claims 3 elements and has 138"),
    (in_constant("bias", set_field("raw_data", b"\0" * 7)), "the constant 'bias' ends within an element"),
    (in_constant("bias", lambda tensor: tensor.float_data.append(1.0)), "has its numbers in 2 places"),
    (in_constant("parts", lambda tensor: tensor.CopyFrom(_ints_as_floats())), "where its type doesn't lie"),
    (in_constant("bias", outside), "the constant 'bias' lies outside the file"),
    (in_constant("bias", lambda tensor: tensor.external_data.add(key="offset")), "'bias' lies outside the file"),
    (in_constant("bias", set_field("data_location", TensorProto.EXTERNAL)), "'bias' lies outside the file"),
    (in_constant("bias", lambda tensor: tensor.segment.CopyFrom(TensorProto.Segment(begin=0, end=1))), "a segment"),
    (in_constant("bias", set_field("name", "weights")), "gives 'weights', which isn't a new name"),
    (in_constant("bias", set_field("name", "")), "gives '', which isn't a new name"),
    (sparse, "the graph has sparse constants"),
    (function, "the model has functions of its own"),
    (lambda model: model.training_info.add(), "the model has training information"),
    (lambda model: model.graph.quantization_annotation.add(), "the graph has quantization annotations"),
    (lambda model: model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3)), "of the domain 'ai.onnx.ml'"),
    (lambda model: model.opset_import.append(helper.make_opsetid("", 16)), "imports 2 operator sets"),
    (lambda model: model.ClearField("opset_import"), "imports 0 operator sets"),
    (lambda model: setattr(model.opset_import[0], "version", 18), "the model is of opset 18, not 17"),
    (lambda model: setattr(model, "ir_version", 11), "IR version 11 isn't taken"),
    (lambda model: model.ClearField("graph"), "the model has no graph"),
    (lambda model: model.graph.input.append(model.graph.input[0]), "the graph's inputs are"),
    (lambda model: model.graph.ClearField("output"), "the graph's outputs are []"),
    (lambda model: model.graph.node.pop(), "the output 'scores' is computed by no node"),
    (lambda model: model.graph.value_info.add(name="v"), "value 'v' isn't a plain tensor"),
    (lambda model: model.graph.value_info.append(_sequence()), "value 'v' has a sequence"),
    (in_node("planar", lambda node: node.attribute.append(_of_kind(5))), "attribute 'x' of node 'planar' is of kind 5"),
]


PLAIN = {"name", "doc_string", "type", "f", "i", "s", "floats", "ints", "strings"}
HIDDEN: dict[str, Any] = {
    "g": onnx.GraphProto(),
    "graphs": [onnx.GraphProto()],
    "t": TensorProto(),
    "tensors": [TensorProto()],
    "sparse_tensor": onnx.SparseTensorProto(),
    "sparse_tensors": [onnx.SparseTensorProto()],
    "tp": onnx.TypeProto(),
    "type_protos": [onnx.TypeProto()],
    "ref_attr_name": "outer",
}


@pytest.mark.parametrize("field", HIDDEN)
def test_an_attribute_that_says_it_is_a_number_hides_nothing_else(field: str) -> None:
    attribute = onnx.AttributeProto(name="x", type=onnx.AttributeProto.INT, i=1, **{field: HIDDEN[field]})
    said = refusal(graph(in_node("planar", lambda node: node.attribute.append(attribute))))
    assert re.match(r"attribute 'x' of node 'planar' has .*, which isn't taken", said)


def test_whatever_an_attribute_may_hold_is_plain_or_refused() -> None:
    assert PLAIN | HIDDEN.keys() == {field.name for field in onnx.AttributeProto.DESCRIPTOR.fields}


def _sequence() -> onnx.ValueInfoProto:
    return helper.make_tensor_sequence_value_info("v", TensorProto.FLOAT, [1])


def _of_kind(kind: int) -> onnx.AttributeProto:
    return onnx.AttributeProto(name="x", type=kind, i=1)


def _ints_as_floats() -> onnx.TensorProto:
    return TensorProto(name="parts", dims=[2], data_type=TensorProto.INT64, float_data=[2.0, 44.0])


@pytest.mark.parametrize(("change", "sentence"), FORBIDDEN)
def test_what_isnt_plain_is_refused_in_one_sentence(change: Change, sentence: str) -> None:
    said = refusal(graph(change))
    assert sentence in said
    assert "\n" not in said


@pytest.mark.parametrize(
    "contract",
    [
        replace(CONTRACT, inputs=(replace(CONTRACT.inputs[0], name="image"),)),
        replace(CONTRACT, inputs=(replace(CONTRACT.inputs[0], shape=(1, SIDE, SIDE + 1, 3)),)),
        replace(CONTRACT, inputs=(replace(CONTRACT.inputs[0], type=ElementType.FLOAT),)),
        replace(CONTRACT, inputs=()),
        replace(CONTRACT, inputs=CONTRACT.inputs * 2),
        replace(CONTRACT, outputs=CONTRACT.outputs[::-1]),
        replace(CONTRACT, outputs=CONTRACT.outputs[:1]),
        replace(CONTRACT, outputs=(CONTRACT.outputs[0], replace(CONTRACT.outputs[1], type=ElementType.INT64))),
    ],
)
def test_a_graph_with_another_surface_than_promised_is_refused(contract: Contract) -> None:
    assert re.match(r"the graph's (inputs|outputs) are .*, not the promised", refusal(graph(), contract))


@pytest.mark.parametrize(
    ("limits", "sentence"),
    [
        (Limits(model_bytes=100), "100 are the most it may have"),
        (Limits(nodes=5), "parts of the kind node; 5 are the most"),
        (Limits(initializers=5), "parts of the kind initializer; 5 are the most"),
        (Limits(values=0), "1 parts of the kind value_info; 0 are the most"),
        (Limits(steps=50), "more parts than a model needs"),
    ],
)
def test_a_graph_beyond_the_limits_is_refused(limits: Limits, sentence: str) -> None:
    inferred = helper.make_tensor_value_info("planar", TensorProto.UINT8, [1, 3, SIDE, SIDE])
    assert sentence in refusal(graph(lambda model: model.graph.value_info.append(inferred)), limits=limits)


def test_the_limits_are_the_documented_ones() -> None:
    page = (Path(__file__).parents[2] / "docs/formats/model-package.md").read_text()
    table = page.partition("## The most that a graph may have\n")[2].partition("\n## ")[0]
    documented = re.findall(r"^\| `(\w+)` \| ([\d,]+) \|", table, re.MULTILINE)
    assert {name: int(most.replace(",", "")) for name, most in documented} == asdict(Limits())


def field(number: int, content: bytes) -> bytes:
    assert len(content) < 128
    return bytes([number << 3 | 2, len(content)]) + content


@pytest.mark.parametrize(
    ("tail", "sentence"),
    [
        (field(7, b""), "graph comes twice in a ModelProto"),
        (field(9, b"x"), "field 9 isn't known in a ModelProto"),
        (b"\x08\x09", "ir_version comes twice"),
        (b"\x28" + b"\xff" * 10 + b"\x01", "a number is too long"),
        (b"\x28" + b"\xff" * 9 + b"\x7f", "more than 64 bits"),
        (b"\x2b\x2c", "wire type 3"),
        (b"\x2d\0\0\0\0", "wire type 5"),
        (b"\x32\x05abc", "longer than what holds it"),
        (b"\x28", "it ends within a number"),
        (field(14, b"\x08\x01"), "wire type 0"),
        (field(14, field(3, b"k")), "field 3 isn't known in a StringStringEntryProto"),
    ],
)
def test_bytes_that_a_permissive_reader_would_take_otherwise_are_malformed(tail: bytes, sentence: str) -> None:
    assert sentence in refusal(graph() + tail)


def test_well_formed_metadata_changes_nothing() -> None:
    assert admit(graph() + field(14, field(1, b"k") + field(2, b"v")), CONTRACT) == admit(graph(), CONTRACT)


def test_a_name_that_isnt_utf8_is_malformed() -> None:
    model = graph().replace(b"planar", b"pl\xffnar")
    assert "isn't UTF-8" in refusal(model)


def mutants(model: bytes, rng: random.Random) -> Iterator[bytes]:
    """Bits flipped, bytes cut, doubled, moved and made up; sometimes all of it."""
    while True:
        spoiled = bytearray(model)
        for _ in range(rng.choice([1, 1, 1, 2, 8])):
            at, length = rng.randrange(len(spoiled) + 1), rng.choice([1, 1, 2, 4, 16, 64])
            match rng.randrange(6):
                case 0 if at < len(spoiled):
                    spoiled[at] ^= 1 << rng.randrange(8)
                case 1:
                    spoiled[at : at + length] = rng.randbytes(length)
                case 2:
                    del spoiled[at : at + length]
                case 3:
                    spoiled[at:at] = spoiled[at : at + length]
                case 4:
                    spoiled[at:at] = spoiled[rng.randrange(len(spoiled) + 1) :][:length]
                case _:
                    del spoiled[at:]
        yield bytes(spoiled)
        if rng.random() < 0.05:
            yield rng.randbytes(rng.randrange(200))


def seen_by_onnx(model: bytes) -> bool:
    """Whether onnx's own reader finds only what admission promises."""
    proto = onnx.ModelProto.FromString(model)
    graph = proto.graph
    attributes = [attribute for node in graph.node for attribute in node.attribute]
    return (
        not proto.functions
        and not proto.training_info
        and not graph.sparse_initializer
        and [entry.domain for entry in proto.opset_import] in ([""], ["ai.onnx"])
        and all(node.op_type in OPERATORS and node.domain in ("", "ai.onnx") for node in graph.node)
        and not any(a.HasField("g") or a.graphs or a.HasField("t") or a.tensors for a in attributes)
        and not any(t.external_data or t.data_location == TensorProto.EXTERNAL for t in graph.initializer)
        and [value.name for value in graph.input] == ["frame"]
    )


def fuzz(count: int, seed: int) -> tuple[int, float]:
    """(how many got in, the longest one took in seconds). Whatever isn't PackageRefused comes out as it is."""
    base = graph()
    source = mutants(base, random.Random(seed))
    admitted, longest = 0, 0.0
    for _ in range(count):
        model = next(source)
        began = time.process_time()
        try:
            admit(model, CONTRACT)
        except PackageRefused:
            continue
        finally:
            longest = max(longest, time.process_time() - began)
        assert seen_by_onnx(model)
        admitted += 1
    return admitted, longest


def test_no_bytes_do_anything_but_pass_or_be_refused() -> None:
    admitted, longest = fuzz(1_500, seed=20)
    assert 0 < admitted < 750
    assert longest < 1.0


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_no_bytes_of_very_many_do_anything_but_pass_or_be_refused() -> None:
    admitted, longest = fuzz(60_000, seed=21)
    assert 0 < admitted < 30_000
    assert longest < 1.0


def test_the_check_against_onnx_catches_a_graph_that_should_have_been_refused() -> None:
    for change, _ in FORBIDDEN[:6]:
        assert not seen_by_onnx(graph(change))
