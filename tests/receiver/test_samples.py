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


def nobody(digest: bytes) -> Schema | None:
    return None


def block(naming: Naming) -> Stored:
    return stored(SignalBlock("trip", 3, encode(BATCHES, SCHEMA, naming)))


@pytest.mark.parametrize("naming", Naming)
def test_rows_are_scaled_timed_and_in_order(naming: Naming) -> None:
    assert list(rows_of(block(naming), {SCHEMA.digest: SCHEMA}.get)) == [
        SampleRow("Vehicle.Speed", 1_000_000, 1_000_000 + OFFSET_NS, 0.0, "km/h"),
        SampleRow("Vehicle.Altitude", 2_000_000, 2_000_000 + OFFSET_NS, 12.5, "m"),
        SampleRow("Vehicle.Speed", 3_000_000, 3_000_000 + OFFSET_NS, 1.0, "km/h"),
    ]


def test_an_unknown_schema_is_named() -> None:
    with pytest.raises(UnknownSchema, match=SCHEMA.digest.hex()):
        rows_of(block(Naming.DIGEST), nobody)


def test_other_records_have_no_samples_and_a_damaged_block_says_so() -> None:
    assert list(rows_of(stored(Health("camera", "lost")), nobody)) == []
    with pytest.raises(BadColumns):
        rows_of(stored(SignalBlock("trip", 3, b"\1")), nobody)


def test_rows_of_many_samples_are_all_there_and_in_order() -> None:
    rows = 10_000
    batches = [
        Columns(1, np.arange(rows) * 2000, (np.arange(rows) / 4,)),
        Columns(1, np.arange(rows) * 3000, (-np.ones(rows),)),
    ]
    found = list(rows_of(stored(SignalBlock("trip", 3, encode(batches, SCHEMA, Naming.INLINE))), nobody))
    assert [row.t_ns for row in found] == sorted([*range(0, 2000 * rows, 2000), *range(0, 3000 * rows, 3000)])
    assert sum(row.value for row in found) == sum(range(rows)) / 4 - rows


def test_a_scale_beyond_all_numbers_is_no_fault_of_the_receiver() -> None:
    wild = Schema((Group("wild", (SignalSpec("V.Wild", Form.FLOAT, scale=1e308, offset=float("-inf")),)),))
    data = encode([Columns(0, np.zeros(1, np.int64), (np.array([1e10]),))], wild, Naming.INLINE)
    [row] = rows_of(stored(SignalBlock("trip", 3, data)), nobody)
    assert row.value != row.value
