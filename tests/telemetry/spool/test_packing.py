from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry.records import Lane, Purpose, Stored, decode_records
from telemetry.spool.packing import Waiting, max_stored_size, pack, stored_size
from telemetry.wire import (
    CODEC_RECORDS_ZSTD,
    HEADER_BYTES,
    MAX_BLOCK_BYTES,
    BlockHeader,
    pack_body,
    unpack_body,
)

SMALL_WIRE = 4000


def waiting(number: int, size: int, purpose: Purpose = Purpose.SAFETY) -> Waiting:
    event = msgspec.msgpack.encode(random.Random(number).randbytes(size))
    return Waiting(purpose, Stored(number, number, msgspec.Raw(event)), stored_size(event), 0)


@given(st.lists(st.tuples(st.integers(0, 3000), st.sampled_from(Purpose)), min_size=1, max_size=40))
def test_every_record_is_packed_once_in_its_purposes_order_and_no_block_is_too_long(
    made: list[tuple[int, Purpose]],
) -> None:
    records = [waiting(i, size, purpose) for i, (size, purpose) in enumerate(made)]
    blocks = pack(records, SMALL_WIRE)
    for purpose in Purpose:
        packed = [record for block in blocks if block.purpose is purpose for record in block.records]
        assert packed == [record for record in records if record.purpose is purpose]
    for block in blocks:
        assert len(block.body) + HEADER_BYTES <= SMALL_WIRE
        header = BlockHeader(
            Lane.P1,
            block.purpose,
            bytes(16),
            0,
            len(block.records),
            CODEC_RECORDS_ZSTD,
            block.dictionary,
            len(block.body),
        )
        assert unpack_body(header, block.body) == [record.stored for record in block.records]


@pytest.mark.parametrize("max_wire_bytes", [3984, MAX_BLOCK_BYTES])
def test_the_largest_record_fits_a_block_even_if_nothing_compresses_it(max_wire_bytes: int) -> None:
    size = max_stored_size(max_wire_bytes)
    record = waiting(1, size - stored_size(msgspec.msgpack.encode(b"")) - 4)
    assert size - 4 <= record.size <= size
    assert len(pack([record], max_wire_bytes)) == 1


def test_records_that_compress_well_share_a_block() -> None:
    event = msgspec.Raw(msgspec.msgpack.encode("speed " * 100))
    records = [Waiting(Purpose.DRIVING, Stored(n, n, event), stored_size(event), 0) for n in range(300)]
    assert len(pack(records, MAX_BLOCK_BYTES)) == 1


@given(st.binary(max_size=200))
def test_a_records_size_is_never_less_than_its_bytes_in_a_block(noise: bytes) -> None:
    event = msgspec.msgpack.encode(noise)
    record = Stored(2**63 - 1, 2**63 - 1, msgspec.Raw(event))
    assert len(msgspec.msgpack.encode([record])) <= stored_size(event)
    assert decode_records(msgspec.msgpack.encode([record])) == [record]
    assert pack_body([record])
