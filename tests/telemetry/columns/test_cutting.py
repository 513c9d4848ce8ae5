"""Batches of any size become blocks that each fit a record, and nothing is lost or doubled between them."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetry.columns.block import MAX_COLUMNS, decode, encode
from telemetry.columns.cutting import AIMED_SAMPLES, join, pack, room_for
from telemetry.records import SignalBlock, encode_event
from telemetry.signals.schema import Columns, Form, Group, Schema, SignalSpec
from telemetry.spool.packing import max_event_bytes
from tests.telemetry.columns.batches import assert_same, parts, schemas

NOISE = Schema((Group("noise", (SignalSpec("V.A", Form.INT), SignalSpec("V.B", Form.FLOAT)), 1000),))


def noise(rows: int, first_us: int = 0, step_us: int = 1000) -> Columns:
    chance = np.random.default_rng(rows)
    t_ns = (first_us + np.arange(rows) * step_us) * 1000
    return Columns(0, t_ns, (chance.integers(-(1 << 62), 1 << 62, rows), chance.random(rows)))


def read(data: bytes, schema: Schema) -> tuple[Columns, ...]:
    return decode(data, {schema.digest: schema}.get).parts


@given(st.data(), schemas(), st.integers(180, 600))
@settings(max_examples=25, deadline=None)
def test_every_row_is_in_one_block_and_every_block_fits(data: st.DataObject, schema: Schema, max_bytes: int) -> None:
    batch = data.draw(parts(schema, max_rows=90))
    middle = len(batch) // 2
    pieces = [rows(batch, 0, middle), rows(batch, middle, len(batch))]
    cuts = pack(pieces, schema, max_bytes)
    assert all(len(cut.data) <= max_bytes for cut in cuts)
    found = [part for cut in cuts for part in read(cut.data, schema)]
    [whole] = join(found)
    assert_same(whole, batch)
    assert [cut.t_ns for cut in cuts] == [int(read(cut.data, schema)[0].t_ns[0]) for cut in cuts]


def rows(batch: Columns, start: int, end: int) -> Columns:
    values = tuple(None if values is None else values[start:end] for values in batch.values)
    return Columns(batch.group, batch.t_ns[start:end], values)


def test_blocks_follow_each_other_in_time_whatever_groups_they_hold() -> None:
    schema = Schema((*NOISE.groups, Group("slow", (SignalSpec("V.C", Form.INT),), 100_000)))
    slow = Columns(1, np.arange(40) * 100_000_000, (np.arange(40),))
    cuts = pack([slow, noise(4000)], schema, 8000)
    spans = [[(part.t_ns[0], part.t_ns[-1]) for part in read(cut.data, schema)] for cut in cuts]
    ends = [max(end for _, end in span) for span in spans]
    assert len(cuts) > 5
    assert all(end < cut.t_ns for end, cut in zip(ends, cuts[1:], strict=False))


def test_rows_of_one_instant_are_cut_too() -> None:
    cuts = pack([noise(500, step_us=0)], NOISE, 1000)
    assert sum(len(part) for cut in cuts for part in read(cut.data, NOISE)) == 500
    assert all(len(cut.data) <= 1000 for cut in cuts)


def test_no_block_takes_more_memory_to_write_than_is_aimed_at_however_well_it_packs() -> None:
    still = Columns(0, np.arange(200_000) * 1_000_000, (np.zeros(200_000, np.int64), None))
    cuts = pack([still], NOISE, 90_000)
    assert [sum(2 * len(part) for part in read(cut.data, NOISE)) <= AIMED_SAMPLES for cut in cuts] == [True] * 4


def test_more_columns_than_a_block_takes_are_cut() -> None:
    wide = Schema(tuple(Group(f"g{i}", (SignalSpec("V.A", Form.INT),) * 1000) for i in range(80)))
    batches = [Columns(i, np.zeros(1, np.int64), (None,) * 999 + (np.array([i]),)) for i in range(80)]
    assert MAX_COLUMNS < 80 * 1001
    cuts = pack(batches, wide, 90_000)
    assert [part.group for cut in cuts for part in read(cut.data, wide)] == list(range(80))


def test_nothing_becomes_nothing() -> None:
    assert pack([], NOISE, 1000) == []
    assert pack([Columns(0, np.zeros(0, np.int64), (None, None))], NOISE, 1000) == []


def test_a_row_that_fits_no_record_says_so() -> None:
    with pytest.raises(ValueError, match="one row of signals"):
        pack([noise(3)], NOISE, 40)


def test_batches_that_tell_other_signals_stay_apart() -> None:
    whole = noise(3)
    part = Columns(0, whole.t_ns, (whole.values[0], None))
    assert [batch.values[1] is None for batch in join([whole, part, whole])] == [False, True]
    assert len(join([whole, part, noise(3, 5000)])[0]) == 6


def test_a_block_with_all_the_room_there_is_fits_a_record_of_any_campaign() -> None:
    for max_wire_bytes in (4000, 96 * 1024):
        limit = max_event_bytes(max_wire_bytes)
        room = room_for("c" * 48, 1 << 40, limit)
        event = encode_event(SignalBlock("c" * 48, 1 << 40, os.urandom(room)))
        assert limit - 4 <= len(event) <= limit


def test_the_oracle_notices_a_row_that_is_lost_between_two_blocks() -> None:
    batch = noise(40)
    cuts = pack([batch], NOISE, 300)
    found = [part for cut in cuts for part in read(cut.data, NOISE)]
    assert len(found) > 2
    [whole] = join(found)
    assert_same(whole, batch)
    [short] = join([rows(found[0], 1, len(found[0])), *found[1:]])
    with pytest.raises(AssertionError):
        assert_same(short, batch)


def test_joined_batches_take_less_than_many_small_ones() -> None:
    pieces = [noise(10, start * 10_000) for start in range(40)]
    assert len(encode(join(pieces), NOISE)) < 0.9 * len(encode(pieces, NOISE))
