"""What the codec's benchmark measures is what it says: the same samples on both sides, all of them, all the time."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
import pytest

from simulator.bench import codec
from simulator.bench.fifty import fifty_signals, samples_in, windows
from simulator.bench.fleetwise import snappy, vehicle_data
from simulator.bench.minute import real_minute
from telemetry.columns.block import encode
from telemetry.signals.schema import Columns, Schema, physical

SCHEMA, BATCHES = fifty_signals(20)
BLOCK = windows(BATCHES, 10)[0]


def varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 128:
            return value, at


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """As protobuf's own documentation reads a message, for the types that are here."""
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        if key & 7 == 0:
            value, at = varint(data, at)
            yield key >> 3, value
        else:
            length, at = (8, at) if key & 7 == 1 else varint(data, at)
            yield key >> 3, data[at : at + length]
            at += length


def captured(schema: Schema, batches: list[Columns]) -> list[tuple[int, int, float]]:
    rows = []
    for number, inner in fields(vehicle_data(schema, batches)):
        if number == 5:
            assert isinstance(inner, bytes)
            told = dict(fields(inner))
            value, zigzag = told[3], told.get(1, 0)
            assert isinstance(value, bytes)
            assert isinstance(zigzag, int)
            rows.append((zigzag >> 1, int(told[2]), struct.unpack("<d", value)[0]))
    return rows


def test_the_peer_tells_every_sample_with_its_time_and_value() -> None:
    told = captured(SCHEMA, BLOCK)
    assert len(told) == samples_in(BLOCK)
    start_ms = min(int(batch.t_ns[0]) // 1000 for batch in BLOCK) // 1000
    expected, first = [], 1
    for group, batch in zip(SCHEMA.groups, BLOCK, strict=True):
        for place, (spec, raw) in enumerate(zip(group.signals, batch.values, strict=True)):
            assert raw is not None
            ms = (batch.t_ns // 1_000_000 - start_ms).tolist()
            values = np.round(physical(spec, raw), 4).tolist()
            expected += [(t, first + place, value) for t, value in zip(ms, values, strict=True)]
        first += len(group.signals)
    assert sorted(told) == sorted(expected)


def test_the_generated_bus_has_fifty_signals_in_twelve_messages_and_is_the_same_every_time() -> None:
    assert len(SCHEMA.groups) == 12
    assert sum(len(group.signals) for group in SCHEMA.groups) == 50
    again, same = fifty_signals(20)
    assert again.digest == SCHEMA.digest
    assert encode(same, SCHEMA) == encode(BATCHES, SCHEMA)
    assert encode(fifty_signals(20, seed=8)[1], SCHEMA) != encode(BATCHES, SCHEMA)


def test_its_noise_is_one_step_and_its_jitter_150_us() -> None:
    _, batches = fifty_signals()
    for batch in batches[:3]:
        steps_us = np.diff(batch.t_ns) / 1000 - 10_000
        assert 190 < steps_us.std() < 235  # of two independent jitters
        for values in batch.values[:-1]:
            assert values is not None
            assert 2.4 < np.diff(values, 2).std() < 3.5  # sqrt(6) of one step, and the walk
        assert batch.values[-1] is not None
        assert len(np.unique(batch.values[-1])) <= 4


def test_cutting_into_blocks_loses_no_sample() -> None:
    for seconds in (1, 10, 60):
        cut = windows(BATCHES, seconds)
        assert sum(samples_in(block) for block in cut) == samples_in(BATCHES)
        assert len(cut) == -(-20 // seconds)


def test_a_sample_of_a_real_bus_takes_less_than_a_byte_as_sent() -> None:
    """The bar of the benchmark, on a part of its ten minutes."""
    assert codec._bytes_a_sample(SCHEMA, windows(BATCHES, 10)) <= codec.MAX_BYTES_A_SAMPLE


def test_a_block_that_does_not_come_back_would_be_noticed() -> None:
    changed = [Columns(BLOCK[0].group, BLOCK[0].t_ns + 1000, BLOCK[0].values), *BLOCK[1:]]
    assert not all(codec._is_same(*pair) for pair in zip(changed, BLOCK, strict=True))


def test_it_takes_eight_times_less_than_the_peer() -> None:
    compress = snappy()
    if compress is None:
        pytest.skip("no snappy here (pip install cramjam)")
    theirs = len(compress(vehicle_data(SCHEMA, BLOCK))) / samples_in(BLOCK)
    assert theirs / codec._bytes_a_sample(SCHEMA, [BLOCK]) >= codec.MIN_TIMES_BELOW


def test_the_real_minute_is_a_minute_of_many_signals() -> None:
    schema, batches = real_minute()
    times = np.concatenate([batch.t_ns for batch in batches])
    assert 58e9 < times.max() - times.min() < 62e9
    assert samples_in(batches) > 300_000
    assert max(batch.group for batch in batches) < len(schema.groups)
