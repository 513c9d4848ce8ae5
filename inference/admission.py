"""Whether ONNX Runtime may see a model at all, decided from its bytes alone.

The graph must be plain: operators of a closed list in the default domain, constants inside the file and exactly as long
as they claim, one straight dataflow from the promised input to the promised outputs. Sub-graphs, functions, foreign
domains, external data, sparse or string tensors and training information are refused, as is every field that
onnx.proto3 (IR version 10, github.com/onnx/onnx/blob/main/onnx/onnx.proto3) doesn't have. Sizes of what the graph
computes in between aren't bounded here: the worker's memory limit does that.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from inference.errors import PackageRefused
from inference.protobuf import Kind, Malformed, Message, Reader, Table

# fmt: off
OPERATORS = frozenset((
    "Add", "AveragePool", "BatchNormalization", "Cast", "Clip", "Concat", "Conv", "DequantizeLinear", "Div",
    "Flatten", "Gemm", "GlobalAveragePool", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "MatMul",
    "MaxPool", "Mul", "PRelu", "QuantizeLinear", "ReduceMean", "Relu", "Reshape", "Resize", "Sigmoid", "Slice",
    "Softmax", "Split", "Squeeze", "Sub", "Tanh", "Transpose", "Unsqueeze",
))
LEARNING_OPERATORS = OPERATORS | frozenset((
    "Abs", "ConvTranspose", "Equal", "Exp", "Expand", "Greater", "Less", "Log", "LogSoftmax", "Max", "Neg", "Pad",
    "Reciprocal", "ReduceSum", "Sqrt", "Where",
))
"""With what the way back is made of (inference/training/autodiff)."""
# fmt: on
DEFAULT_DOMAIN = ("", "ai.onnx")
IR_VERSIONS = range(7, 11)


@dataclass(frozen=True, slots=True)
class Limits:
    """The most of everything. Steps bound the time: one is one number read."""

    model_bytes: int = 64 << 20
    nodes: int = 4096
    initializers: int = 8192
    values: int = 16384
    tensor_elements: int = 32 << 20
    dimensions: int = 8
    node_ends: int = 64
    attributes: int = 32
    attribute_numbers: int = 64
    attribute_size: int = 65536
    name_bytes: int = 512
    steps: int = 500_000


class ElementType(IntEnum):
    """As onnx.proto3 numbers them."""

    FLOAT = 1
    UINT8 = 2
    INT64 = 7


@dataclass(frozen=True, slots=True)
class Surface:
    """One input or output of a graph."""

    name: str
    shape: tuple[int, ...]
    type: ElementType = ElementType.FLOAT


@dataclass(frozen=True, slots=True)
class Contract:
    """What is promised: inputs and outputs in this order, one opset, and operators of these alone."""

    inputs: tuple[Surface, ...]
    outputs: tuple[Surface, ...]
    opset: int
    operators: frozenset[str] = OPERATORS


@dataclass(frozen=True, slots=True)
class Admitted:
    """What the graph is made of: operators with their counts by name, and its constants."""

    operators: tuple[tuple[str, int], ...]
    initializers: int
    constant_bytes: int


def admit(model: bytes, contract: Contract, limits: Limits | None = None) -> Admitted:
    """Walks the whole model. Raises PackageRefused with one sentence that names the node or tensor and why."""
    limits = limits or Limits()
    if len(model) > limits.model_bytes:
        raise PackageRefused(f"the model has {len(model)} bytes; {limits.model_bytes} are the most it may have")
    try:
        return _Walk(limits, contract).model(memoryview(model))
    except Malformed as error:
        raise PackageRefused(f"the model isn't a well-formed ONNX file: {error}") from error


class _Walk:
    """One model's way through the rules. Knows the values defined so far."""

    def __init__(self, limits: Limits, contract: Contract) -> None:
        self._limits = limits
        self._contract = contract
        self._reader = Reader(limits.steps)
        self._defined: set[str] = set()
        self._constant_bytes = 0

    def model(self, data: memoryview) -> Admitted:
        model = self._read(data, _MODEL)
        _refuse_present(
            model, {"training_info": "training information", "functions": "functions of its own"}, "the model"
        )
        _refuse_present(model, {"configuration": "a device configuration"}, "the model")
        _demand(model.int("ir_version") in IR_VERSIONS, f"IR version {model.int('ir_version')} isn't taken")
        self._opset([self._read(run, _OPSET) for run in model.runs("opset_import")])
        _demand(model.has("graph"), "the model has no graph")
        return self._graph(self._read(model.runs("graph")[0], _GRAPH))

    def _read(self, data: memoryview, table: Table) -> Message:
        message = self._reader.read(data, table)
        # Nobody needs the metadata, but no byte goes unread: what two readers may see differently isn't admitted.
        for run in message.runs("metadata_props"):
            self._reader.read(run, _METADATA)
        return message

    def _opset(self, imports: list[Message]) -> None:
        for entry in imports:
            domain = entry.text("domain")
            _demand(domain in DEFAULT_DOMAIN, f"the model asks for operators of the domain {domain!r}")
        _demand(len(imports) == 1, f"the model imports {len(imports)} operator sets instead of one")
        version = imports[0].int("version")
        _demand(version == self._contract.opset, f"the model is of opset {version}, not {self._contract.opset}")

    def _graph(self, graph: Message) -> Admitted:
        _refuse_present(graph, {"sparse_initializer": "sparse constants"}, "the graph")
        _refuse_present(graph, {"quantization_annotation": "quantization annotations"}, "the graph")
        limits = self._limits
        for name, most in (("node", limits.nodes), ("initializer", limits.initializers), ("value_info", limits.values)):
            count = len(graph.runs(name))
            _demand(count <= most, f"the graph has {count} parts of the kind {name}; {most} are the most it may have")
        self._inputs(graph)
        for run in graph.runs("initializer"):
            self._initializer(self._read(run, _TENSOR))
        for run in graph.runs("value_info"):
            self._surface(run)
        operators = Counter(self._node(self._read(run, _NODE)) for run in graph.runs("node"))
        self._outputs(graph)
        return Admitted(tuple(sorted(operators.items())), len(graph.runs("initializer")), self._constant_bytes)

    def _inputs(self, graph: Message) -> None:
        inputs = [self._surface(run) for run in graph.runs("input")]
        wanted = [(one.name, int(one.type), one.shape) for one in self._contract.inputs]
        _demand(inputs == wanted, f"the graph's inputs are {inputs}, not the promised {wanted}")
        for name, _, _ in inputs:
            self._define(name, "a graph's input")

    def _outputs(self, graph: Message) -> None:
        outputs = [self._surface(run) for run in graph.runs("output")]
        wanted = [(one.name, int(one.type), one.shape) for one in self._contract.outputs]
        _demand(outputs == wanted, f"the graph's outputs are {outputs}, not the promised {wanted}")
        for name, _, _ in outputs:
            _demand(name in self._defined, f"the output {name!r} is computed by no node")

    def _surface(self, data: memoryview) -> tuple[str, int, tuple[int, ...]]:
        """(name, element type, shape) of a value; a dimension without a number is -1."""
        value = self._read(data, _VALUE)
        name = self._name(value, "name", "a value")
        kind = self._read(_only(value, "type", f"value {name!r}"), _TYPE)
        _refuse_present(kind, _FORBIDDEN_TYPES, f"value {name!r}")
        tensor = self._read(_only(kind, "tensor_type", f"value {name!r}"), _TENSOR_TYPE)
        if not tensor.has("shape"):
            return name, tensor.int("elem_type"), ()
        dims = [self._read(run, _DIMENSION) for run in self._read(tensor.runs("shape")[0], _SHAPE).runs("dim")]
        for dim in dims:
            _demand(not (dim.has("dim_value") and dim.has("dim_param")), f"value {name!r} has a dimension of two kinds")
        return name, tensor.int("elem_type"), tuple(dim.int("dim_value", -1) for dim in dims)

    def _initializer(self, tensor: Message) -> None:
        name = self._name(tensor, "name", "a constant")
        what = f"the constant {name!r}"
        self._define(name, what)
        _demand(not tensor.has("external_data") and tensor.int("data_location") == 0, f"{what} lies outside the file")
        _refuse_present(tensor, {"segment": "a segment", "string_data": "strings"}, what)
        self._constant_bytes += self._tensor_bytes(tensor, what)

    def _tensor_bytes(self, tensor: Message, what: str) -> int:
        kind = tensor.int("data_type")
        _demand(kind in _ELEMENT_BYTES, f"{what} has the element type {kind}, which isn't taken")
        dims = tensor.ints("dims")
        _demand(len(dims) <= self._limits.dimensions, f"{what} has {len(dims)} dimensions")
        _demand(all(dim >= 0 for dim in dims), f"{what} has a negative dimension")
        elements, most = math.prod(dims), self._limits.tensor_elements
        _demand(elements <= most, f"{what} has {elements} elements; {most} are the most it may have")
        held = [name for name in _HOLDERS if tensor.has(name)]
        _demand(len(held) <= 1, f"{what} has its numbers in {len(held)} places")
        present = self._present_elements(tensor, kind, held[0], what) if held else 0
        _demand(present == elements, f"{what} claims {elements} elements and has {present}")
        return elements * _ELEMENT_BYTES[kind]

    def _present_elements(self, tensor: Message, kind: int, holder: str, what: str) -> int:
        if holder == "raw_data":
            whole, rest = divmod(len(tensor.runs(holder)[0]), _ELEMENT_BYTES[kind])
            _demand(rest == 0, f"{what} ends within an element")
            return whole
        _demand(holder == _HOLDER_OF[kind], f"{what} has its numbers in {holder}, where its type doesn't lie")
        return sum(len(run) for run in tensor.runs(holder)) // 4 if holder == "float_data" else len(tensor.ints(holder))

    def _node(self, node: Message) -> str:
        name, operator = self._name(node, "name", "a node"), self._name(node, "op_type", "a node")
        what = f"node {name!r}"
        domain = node.text("domain")
        _demand(
            domain in DEFAULT_DOMAIN, f"{what} is {operator} of the domain {domain!r}; only the default one is taken"
        )
        _refuse_present(node, {"overload": "an overload", "device_configurations": "a device configuration"}, what)
        self._attributes(node, what)
        _demand(operator in self._contract.operators, f"{what} is the operator {operator}, which isn't on the list")
        for end in self._ends(node, "input", what):
            _demand(end == "" or end in self._defined, f"{what} reads {end!r}, which nothing before it gives")
        for end in filter(None, self._ends(node, "output", what)):
            self._define(end, what)
        return operator

    def _ends(self, node: Message, side: str, what: str) -> list[str]:
        ends = list(node.texts(side))
        most = self._limits.node_ends
        _demand(len(ends) <= most, f"{what} has {len(ends)} {side}s; {most} are the most it may have")
        return ends

    def _attributes(self, node: Message, what: str) -> None:
        runs, most = node.runs("attribute"), self._limits.attributes
        _demand(len(runs) <= most, f"{what} has {len(runs)} attributes; {most} are the most it may have")
        attributes = [self._read(run, _ATTRIBUTE) for run in runs]
        names = [self._name(attribute, "name", f"an attribute of {what}") for attribute in attributes]
        _demand(len(set(names)) == len(names), f"{what} has an attribute twice")
        for name, attribute in zip(names, attributes, strict=True):
            self._attribute(attribute, f"attribute {name!r} of {what}")

    def _attribute(self, attribute: Message, what: str) -> None:
        _refuse_present(attribute, _FORBIDDEN_IN_ATTRIBUTE, what)
        kind = attribute.int("type")
        _demand(kind in _ATTRIBUTE_KINDS, f"{what} is of kind {kind}, which isn't taken")
        numbers = attribute.ints("i") + attribute.ints("ints")
        count = len(numbers) + sum(len(run) // 4 for run in attribute.runs("floats")) + len(attribute.runs("strings"))
        most, size = self._limits.attribute_numbers, self._limits.attribute_size
        _demand(count <= most, f"{what} has {count} values; {most} are the most it may have")
        _demand(all(abs(number) <= size for number in numbers), f"{what} has a number beyond {size}")
        longest = max((len(run) for run in [*attribute.runs("s"), *attribute.runs("strings")]), default=0)
        _demand(longest <= self._limits.name_bytes, f"{what} has a text of {longest} bytes")

    def _name(self, message: Message, field: str, what: str) -> str:
        for run in message.runs(field):
            _demand(len(run) <= self._limits.name_bytes, f"{what} has a {field} of {len(run)} bytes")
        return message.text(field)

    def _define(self, name: str, what: str) -> None:
        _demand(name != "" and name not in self._defined, f"{what} gives {name!r}, which isn't a new name")
        self._defined.add(name)


def _demand(holds: bool, otherwise: str) -> None:
    if not holds:
        raise PackageRefused(otherwise)


def _refuse_present(message: Message, forbidden: Mapping[str, str], what: str) -> None:
    for field, meaning in forbidden.items():
        _demand(not message.has(field), f"{what} has {meaning}, which isn't taken")


def _only(message: Message, field: str, what: str) -> memoryview:
    runs = message.runs(field)
    _demand(len(runs) == 1, f"{what} isn't a plain tensor")
    return runs[0]


def _table(message: str, **fields: tuple[int, Kind]) -> Table:
    return Table(message, {number: (name, kind) for name, (number, kind) in fields.items()})


_FLOAT, _UINT8, _INT8, _INT32, _INT64, _BOOL, _FLOAT16 = 1, 2, 3, 6, 7, 9, 10
_ELEMENT_BYTES = {_FLOAT: 4, _UINT8: 1, _INT8: 1, _INT32: 4, _INT64: 8, _BOOL: 1, _FLOAT16: 2}
_HOLDER_OF = {_FLOAT: "float_data", _INT64: "int64_data"} | dict.fromkeys(
    (_UINT8, _INT8, _INT32, _BOOL, _FLOAT16), "int32_data"
)
_HOLDERS = ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data")
_ATTRIBUTE_KINDS = (1, 2, 3, 6, 7, 8)
"""FLOAT, INT, STRING and the lists of each."""
_FORBIDDEN_TYPES = {
    "sequence_type": "a sequence",
    "map_type": "a map",
    "opaque_type": "an opaque type",
    "sparse_tensor_type": "a sparse tensor",
    "optional_type": "an optional",
}
_FORBIDDEN_IN_ATTRIBUTE = {
    "g": "a sub-graph",
    "graphs": "sub-graphs",
    "t": "a tensor (constants belong to the graph)",
    "tensors": "tensors (constants belong to the graph)",
    "sparse_tensor": "a sparse tensor",
    "sparse_tensors": "sparse tensors",
    "tp": "a type",
    "type_protos": "types",
    "ref_attr_name": "a reference to a function's attribute",
}

# Messages of onnx.proto3, every field of the ones that are read.
_MODEL = _table(
    "ModelProto",
    ir_version=(1, Kind.INT),
    producer_name=(2, Kind.BYTES),
    producer_version=(3, Kind.BYTES),
    domain=(4, Kind.BYTES),
    model_version=(5, Kind.INT),
    doc_string=(6, Kind.BYTES),
    graph=(7, Kind.BYTES),
    opset_import=(8, Kind.MANY_BYTES),
    metadata_props=(14, Kind.MANY_BYTES),
    training_info=(20, Kind.MANY_BYTES),
    functions=(25, Kind.MANY_BYTES),
    configuration=(26, Kind.MANY_BYTES),
)
_METADATA = _table("StringStringEntryProto", key=(1, Kind.BYTES), value=(2, Kind.BYTES))
_OPSET = _table("OperatorSetIdProto", domain=(1, Kind.BYTES), version=(2, Kind.INT))
_GRAPH = _table(
    "GraphProto",
    node=(1, Kind.MANY_BYTES),
    name=(2, Kind.BYTES),
    initializer=(5, Kind.MANY_BYTES),
    doc_string=(10, Kind.BYTES),
    input=(11, Kind.MANY_BYTES),
    output=(12, Kind.MANY_BYTES),
    value_info=(13, Kind.MANY_BYTES),
    quantization_annotation=(14, Kind.MANY_BYTES),
    sparse_initializer=(15, Kind.MANY_BYTES),
    metadata_props=(16, Kind.MANY_BYTES),
)
_NODE = _table(
    "NodeProto",
    input=(1, Kind.MANY_BYTES),
    output=(2, Kind.MANY_BYTES),
    name=(3, Kind.BYTES),
    op_type=(4, Kind.BYTES),
    attribute=(5, Kind.MANY_BYTES),
    doc_string=(6, Kind.BYTES),
    domain=(7, Kind.BYTES),
    overload=(8, Kind.BYTES),
    metadata_props=(9, Kind.MANY_BYTES),
    device_configurations=(10, Kind.MANY_BYTES),
)
_ATTRIBUTE = _table(
    "AttributeProto",
    name=(1, Kind.BYTES),
    f=(2, Kind.FLOAT),
    i=(3, Kind.INT),
    s=(4, Kind.BYTES),
    t=(5, Kind.BYTES),
    g=(6, Kind.BYTES),
    floats=(7, Kind.FLOATS),
    ints=(8, Kind.INTS),
    strings=(9, Kind.MANY_BYTES),
    tensors=(10, Kind.MANY_BYTES),
    graphs=(11, Kind.MANY_BYTES),
    doc_string=(13, Kind.BYTES),
    tp=(14, Kind.BYTES),
    type_protos=(15, Kind.MANY_BYTES),
    type=(20, Kind.INT),
    ref_attr_name=(21, Kind.BYTES),
    sparse_tensor=(22, Kind.BYTES),
    sparse_tensors=(23, Kind.MANY_BYTES),
)
_TENSOR = _table(
    "TensorProto",
    dims=(1, Kind.INTS),
    data_type=(2, Kind.INT),
    segment=(3, Kind.BYTES),
    float_data=(4, Kind.FLOATS),
    int32_data=(5, Kind.INTS),
    string_data=(6, Kind.MANY_BYTES),
    int64_data=(7, Kind.INTS),
    name=(8, Kind.BYTES),
    raw_data=(9, Kind.BYTES),
    double_data=(10, Kind.DOUBLES),
    uint64_data=(11, Kind.INTS),
    doc_string=(12, Kind.BYTES),
    external_data=(13, Kind.MANY_BYTES),
    data_location=(14, Kind.INT),
    metadata_props=(16, Kind.MANY_BYTES),
)
_VALUE = _table(
    "ValueInfoProto",
    name=(1, Kind.BYTES),
    type=(2, Kind.BYTES),
    doc_string=(3, Kind.BYTES),
    metadata_props=(4, Kind.MANY_BYTES),
)
_TYPE = _table(
    "TypeProto",
    tensor_type=(1, Kind.BYTES),
    sequence_type=(4, Kind.BYTES),
    map_type=(5, Kind.BYTES),
    denotation=(6, Kind.BYTES),
    opaque_type=(7, Kind.BYTES),
    sparse_tensor_type=(8, Kind.BYTES),
    optional_type=(9, Kind.BYTES),
)
_TENSOR_TYPE = _table("TypeProto.Tensor", elem_type=(1, Kind.INT), shape=(2, Kind.BYTES))
_SHAPE = _table("TensorShapeProto", dim=(1, Kind.MANY_BYTES))
_DIMENSION = _table("Dimension", dim_value=(1, Kind.INT), dim_param=(2, Kind.BYTES), denotation=(3, Kind.BYTES))
