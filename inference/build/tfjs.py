"""A TensorFlow.js graph model (its JSON and its weights), read without TensorFlow."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecu.errors import UsageFault


@dataclass(frozen=True, slots=True)
class Node:
    """One operation. `inputs` are names of nodes, without their output numbers."""

    op: str
    name: str
    inputs: tuple[str, ...]
    attributes: dict[str, Any]

    def ints(self, name: str) -> list[int]:
        return [int(text) for text in self.attributes[name]["list"]["i"]]


@dataclass(frozen=True, slots=True)
class GraphModel:
    """Nodes in an order in which they can be computed, and the constants by node name."""

    nodes: tuple[Node, ...]
    weights: dict[str, NDArray[Any]]


def read_graph_model(topology: bytes, weights: bytes) -> GraphModel:
    """Raises UsageFault when the weights aren't as many bytes as the topology claims."""
    model = json.loads(topology)
    return GraphModel(
        tuple(_node(node) for node in model["modelTopology"]["node"]),
        _weights(model["weightsManifest"][0]["weights"], weights),
    )


def _node(node: dict[str, Any]) -> Node:
    inputs = tuple(name.split(":")[0] for name in node.get("input", []))
    return Node(node["op"], node["name"], inputs, node.get("attr", {}))


def _weights(entries: list[dict[str, Any]], data: bytes) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}
    at = 0
    for entry in entries:
        stored = np.dtype(entry.get("quantization", entry)["dtype"])
        count = int(np.prod(entry["shape"], dtype=np.int64))
        array = np.frombuffer(data, stored, count, at).reshape(entry["shape"])
        arrays[entry["name"]] = array.astype(np.dtype(entry["dtype"]))
        at += array.nbytes
    if at != len(data):
        raise UsageFault(f"The weights are {len(data)} bytes where the topology names {at}. Fetch the package again.")
    return arrays
