from __future__ import annotations

import random
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry.records import (
    Lane,
    Purpose,
    RecordBatch,
    SignalBlock,
    Stored,
    count_records,
    decode_records,
    digests_of_run,
    encode_one,
    encode_records,
    encode_run,
    first_of_run,
    list_head,
    record_digest,
)
from telemetry.spool.packing import Packed, Waiting, max_stored_size, pack, runs_of
from telemetry.wire import (
    CODEC_RECORDS_ZSTD,
    HEADER_BYTES,
    MAX_BLOCK_BYTES,
    BlockHeader,
    unpack_body,
)

SMALL_WIRE = 4000


def waiting(number: int, size: int, purpose: Purpose = Purpose.SAFETY) -> Waiting:
    return Waiting(purpose, msgspec.msgpack.encode(stored(number, size)), 1, 0)


def stored(number: int, size: int) -> Stored:
    event = msgspec.msgpack.encode(random.Random(number).randbytes(size))
    return Stored(number, number, msgspec.Raw(event))


def packed_runs(blocks: list[Packed]) -> list[Waiting]:
    return [run for block in blocks for run in block.runs]


@given(st.lists(st.tuples(st.integers(0, 3000), st.sampled_from(Purpose)), min_size=1, max_size=40))
def test_every_record_is_packed_once_in_its_purposes_order_and_no_block_is_too_long(
    made: list[tuple[int, Purpose]],
) -> None:
    records = [waiting(i, size, purpose) for i, (size, purpose) in enumerate(made)]
    blocks = pack(records, SMALL_WIRE)
    for purpose in Purpose:
        packed = packed_runs([block for block in blocks if block.purpose is purpose])
        assert packed == [record for record in records if record.purpose is purpose]
    for block in blocks:
        assert len(block.body) + HEADER_BYTES <= SMALL_WIRE
        header = BlockHeader(
            Lane.P1, block.purpose, bytes(16), 0, block.count, CODEC_RECORDS_ZSTD, block.dictionary, len(block.body)
        )
        assert encode_records(unpack_body(header, block.body)) == (
            list_head(block.count) + b"".join(run.plain for run in block.runs)
        )


@pytest.mark.parametrize("max_wire_bytes", [3984, MAX_BLOCK_BYTES])
def test_the_largest_record_fits_a_block_even_if_nothing_compresses_it(max_wire_bytes: int) -> None:
    size = max_stored_size(max_wire_bytes)
    record = waiting(1, size - 8)
    assert size - 4 <= record.size <= size
    assert len(pack([record], max_wire_bytes)) == 1


def test_records_that_compress_well_share_a_block() -> None:
    event = msgspec.Raw(msgspec.msgpack.encode("speed " * 100))
    records = [Waiting(Purpose.DRIVING, msgspec.msgpack.encode(Stored(n, n, event)), 1, 0) for n in range(300)]
    assert len(pack(records, MAX_BLOCK_BYTES)) == 1


def test_records_that_do_not_compress_fill_their_blocks() -> None:
    blocks = pack([waiting(n, 1000) for n in range(1000)], MAX_BLOCK_BYTES)
    assert len(blocks) <= 12


def test_records_that_are_wanted_for_different_times_share_no_block() -> None:
    records = [replace(waiting(n, 10), keep_s=keep_s) for n, keep_s in enumerate([None, 60, None, 3600, 60])]
    blocks = pack(records, MAX_BLOCK_BYTES)
    assert [(block.keep_s, block.count) for block in blocks] == [(None, 2), (60, 2), (3600, 1)]


EVENTS = st.lists(st.binary(max_size=3000).map(lambda noise: SignalBlock("c", 1, noise)), max_size=40)


@given(EVENTS, st.integers(100, 4000))
def test_a_batch_is_encoded_as_its_records_one_by_one_and_no_run_is_too_long(
    events: list[SignalBlock], most: int
) -> None:
    batch = RecordBatch(Lane.P2, Purpose.DRIVING, range(len(events)), events)
    runs = list(runs_of(batch, 77, most))
    assert b"".join(run for _, run in runs) == b"".join(encode_one(n, 77, e) for n, e in enumerate(events))
    assert sum(count for count, _ in runs) == len(events)
    assert all(len(run) <= most or count == 1 for count, run in runs)


@given(EVENTS.filter(bool), st.integers(0, 40))
def test_a_runs_digests_and_beginning_are_those_of_its_records(events: list[SignalBlock], wanted: int) -> None:
    run = encode_run(range(len(events)), 5, events)
    records = decode_records(list_head(len(events)) + run)
    assert digests_of_run(len(events), run) == [record_digest(record) for record in records]
    assert first_of_run(wanted, len(events), run) == encode_run(range(len(events))[:wanted], 5, events[:wanted])


@given(st.integers(0, 70_000))
def test_a_lists_head_is_that_of_a_list(count: int) -> None:
    assert msgspec.msgpack.encode([0] * count)[: len(list_head(count))] == list_head(count)
    assert count_records(list_head(count)) == count


def test_a_batch_needs_a_stamp_for_each_event() -> None:
    with pytest.raises(ValueError, match="2 events have 1 stamps"):
        RecordBatch(Lane.P2, Purpose.DRIVING, [1], [SignalBlock("c", 1, b""), SignalBlock("c", 1, b"")])
