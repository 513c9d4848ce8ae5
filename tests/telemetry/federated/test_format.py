"""The golden vectors of docs/formats/federated.md: written once, read for ever."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from telemetry.federated.payload import SparseDelta, decode_delta, encode_delta
from telemetry.federated.plan import encode_plan, parse_plan
from telemetry.federated.update import ModelUpdate, signed_part

VECTOR: dict[str, Any] = json.loads((Path(__file__).parents[2] / "vectors" / "federated" / "format.json").read_text())
CHANGE = VECTOR["change"]


def test_a_change_is_written_as_it_is_documented() -> None:
    """But for how well zlib deflates, which is its own affair."""
    values = np.array(CHANGE["values"], np.float32)
    payload = encode_delta(SparseDelta(CHANGE["parameters"], np.array(CHANGE["indices"]), values))
    assert payload[:16].hex() == CHANGE["head"]
    assert zlib.decompress(payload[16:]).hex() == CHANGE["inflated"]


def test_a_change_is_read_as_it_is_documented() -> None:
    payload = bytes.fromhex(CHANGE["head"]) + zlib.compress(bytes.fromhex(CHANGE["inflated"]), 9)
    delta = decode_delta(payload, CHANGE["parameters"], len(CHANGE["indices"]))
    assert delta.indices.tolist() == CHANGE["indices"]
    assert delta.values.tolist() == pytest.approx(CHANGE["values"])


def test_what_is_signed_is_what_is_documented() -> None:
    fields = {**VECTOR["update"], "payload": bytes.fromhex(VECTOR["update"]["payload"])}
    assert signed_part(ModelUpdate(**fields)).hex() == VECTOR["signed"]
    assert signed_part(ModelUpdate(**fields, signature=b"whatever")).hex() == VECTOR["signed"]
    assert bytes.fromhex(VECTOR["signed"]).startswith(b"outrider model update v1\n")


def test_a_plan_has_the_keys_that_are_documented() -> None:
    plan = parse_plan(json.dumps(VECTOR["plan"]).encode())
    assert json.loads(encode_plan(plan)) == VECTOR["plan"]
