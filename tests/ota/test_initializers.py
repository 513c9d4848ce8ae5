"""Where the weights of a real network lie is where they are."""

from __future__ import annotations

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.package import find_package
from ota.repository.initializers import NotOnnx, initializers
from tests.ota.weights import onnx_like

FILES = [find_package("light-state@1.0") / "u8s8.onnx", find_package("drive-detect@2.0") / "u8s7.onnx"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.parent.name))
def test_each_weight_is_found_by_its_name(path: object) -> None:
    with open(str(path), "rb") as file:
        data = file.read()
    found = initializers(lambda at, size: data[at : at + size], len(data))
    theirs = {one.name: one.raw_data for one in onnx.load_from_string(data).graph.initializer if one.raw_data}
    assert {name: data[span.offset : span.end] for name, span in found.items()} == theirs
    assert theirs


@given(data=st.binary(max_size=200), cut=st.integers(0, 400))
def test_whatever_the_bytes_are_it_finds_weights_within_them_or_says_that_there_are_none(data: bytes, cut: int) -> None:
    for its in (data, onnx_like({"w": bytes(300), "v": data})[:cut], onnx_like({"w": data}) + data):
        try:
            found = initializers(lambda at, size, its=its: its[at : at + size], len(its))  # type: ignore[misc]
        except NotOnnx:
            continue
        assert all(0 <= span.offset <= span.end <= len(its) for span in found.values())
