"""The golden vectors of signal blocks (docs/formats/columns.md)."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard

from telemetry.columns.block import Naming, decode, encode
from telemetry.columns.errors import BadColumns
from telemetry.signals.schema import Columns, Form, Group, Schema, SignalSpec, Values
from tests.telemetry.columns.batches import alone, assert_same

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "vectors" / "columns" / "vectors.json").read_text(encoding="utf-8")
)
DIGEST = bytes.fromhex(VECTORS["digest"])


def schema_of(rows: list[Any]) -> Schema:
    return Schema(
        tuple(
            Group(name, tuple(SignalSpec(path, Form(form), *rest) for path, form, *rest in signals), period_us)
            for name, period_us, signals in rows
        )
    )


SCHEMA = schema_of(VECTORS["schema"])


def batch_of(part: dict[str, Any]) -> Columns:
    specs = SCHEMA.groups[part["group"]].signals
    values = tuple(values_of(spec.form, told) for spec, told in zip(specs, part["values"], strict=True))
    return Columns(part["group"], np.array(part["t_ns"], np.int64), values)


def values_of(form: Form, told: list[Any] | None) -> Values | None:
    if told is None:
        return None
    plain = [struct.unpack(">d", bytes.fromhex(one))[0] for one in told] if form is Form.FLOAT else told
    result: Values = np.array(plain, form.dtype)
    return result


def known(digest: bytes) -> Schema | None:
    return SCHEMA if digest == DIGEST else None


def sections(block: bytes) -> tuple[bytes, bytes, bytes]:
    """Everything before the frame but its length, the plain section, the loose bits."""
    begin = 12 + (16 if block[1] == Naming.DIGEST else 0)
    end = begin + int.from_bytes(block[8:12], "little")
    return block[:8] + block[12:begin], zstandard.decompress(block[begin:end]), block[end:]


def test_the_schema_has_its_digest() -> None:
    assert SCHEMA.digest == DIGEST


@pytest.mark.parametrize("vector", VECTORS["blocks"], ids=lambda vector: vector["name"])
def test_a_golden_block_is_read_as_it_stands_and_written_the_same_before_compression(vector: dict[str, Any]) -> None:
    data, batches = bytes.fromhex(vector["block"]), [batch_of(part) for part in vector["parts"]]
    read = decode(data, known)
    for found, expected in zip(read.parts, batches, strict=True):
        assert alone(read.schema, found) == alone(SCHEMA, expected)
        if vector["naming"] == Naming.DIGEST:
            assert_same(found, expected)
    assert sections(data)[1:] == (bytes.fromhex(vector["plain"]), bytes.fromhex(vector["loose"]))
    assert sections(encode(batches, SCHEMA, Naming(vector["naming"]))) == sections(data)


@pytest.mark.parametrize("vector", VECTORS["bad_blocks"], ids=lambda vector: vector["name"])
def test_a_golden_bad_block_is_refused_in_words(vector: dict[str, Any]) -> None:
    with pytest.raises(BadColumns, match=vector["says"]):
        decode(bytes.fromhex(vector["block"]), known)


def test_the_golden_blocks_use_every_way_and_packing() -> None:
    used: set[int] = set()
    for vector in VECTORS["blocks"]:
        names = int.from_bytes(bytes.fromhex(vector["plain"])[:4], "little") + 4 if vector["naming"] else 0
        told = [[values is not None for values in part["values"]] for part in vector["parts"]]
        widths = [sum(part) if names else len(part) for part in told]
        columns = sum(1 + sum(part) for part in told)
        at = names + 14 * len(widths) + -(-sum(widths) // 8)
        used.update(bytes.fromhex(vector["plain"])[at : at + columns])
    assert {kind & 15 for kind in used} == {0, 1, 2, 3, 4}
    assert {kind >> 4 for kind in used} == {0, 1, 2}
