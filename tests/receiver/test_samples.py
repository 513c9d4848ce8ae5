"""What a receiver shows of a stored signal block."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from receiver.samples import SampleRow, rows_of
from telemetry.columns.block import Naming, encode
from telemetry.columns.errors import BadColumns, UnknownSchema
from telemetry.records import AnyEvent, Health, SignalBlock, Stored, encode_event
from telemetry.signals.schema import Columns, Form, Group, Schema, SignalSpec

SPEED = SignalSpec("Vehicle.Speed", Form.INT, 0.01, -5.0, "km/h")
LAMP = SignalSpec("Vehicle.Lamp", Form.UINT)
GPS = SignalSpec("Vehicle.Altitude", Form.FLOAT, unit="m")
SCHEMA = Schema((Group("a", (SPEED, LAMP)), Group("b", (GPS,))))
BATCHES = [
    Columns(0, np.array([1_000_000, 3_000_000]), (np.array([500, 600]), None)),
    Columns(1, np.array([2_000_000]), (np.array([12.5]),)),
]
OFFSET_NS = 1_767_225_600_000_000_000


def stored(event: AnyEvent) -> Stored:
    return Stored(1_000_000, 1_000_000 + OFFSET_NS, msgspec.Raw(encode_event(event)))


def block(naming: Naming) -> Stored:
    return stored(SignalBlock("trip", 3, encode(BATCHES, SCHEMA, naming)))


@pytest.mark.parametrize("naming", Naming)
def test_rows_are_scaled_timed_and_in_order(naming: Naming) -> None:
    assert rows_of(block(naming), {SCHEMA.digest: SCHEMA}.get) == [
        SampleRow("Vehicle.Speed", 1_000_000, 1_000_000 + OFFSET_NS, 0.0, "km/h"),
        SampleRow("Vehicle.Altitude", 2_000_000, 2_000_000 + OFFSET_NS, 12.5, "m"),
        SampleRow("Vehicle.Speed", 3_000_000, 3_000_000 + OFFSET_NS, 1.0, "km/h"),
    ]


def test_an_unknown_schema_is_named() -> None:
    with pytest.raises(UnknownSchema, match=SCHEMA.digest.hex()):
        rows_of(block(Naming.DIGEST), {}.get)


def test_other_records_have_no_samples_and_a_damaged_block_says_so() -> None:
    assert rows_of(stored(Health("camera", "lost")), {}.get) == []
    with pytest.raises(BadColumns):
        rows_of(stored(SignalBlock("trip", 3, b"\1")), {}.get)
