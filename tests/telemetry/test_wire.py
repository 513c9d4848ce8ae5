"""The wire, version 1, held to its golden vectors and laws (docs/formats/wire.md)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from telemetry.dictionaries import read_dictionary
from telemetry.records import Health, Lane, Purpose, Stored, decode_event, encode_event, encode_records
from telemetry.spool.packing import Waiting, pack
from telemetry.wire import (
    CODEC_RECORDS_ZSTD,
    HEADER_BYTES,
    MAX_BLOCK_BYTES,
    MAX_BODY_INFLATED,
    MAX_RECORDS,
    NO_DICTIONARY,
    BadBlock,
    BlockHeader,
    Decision,
    Receipt,
    Refusal,
    block_name,
    down_topic,
    inflated_size,
    pack_block,
    pack_body,
    pack_receipt,
    pack_refusal,
    status_topic,
    unpack_block,
    unpack_body,
    unpack_receipt,
    unpack_refusal,
    up_topic,
)

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "vectors" / "wire" / "vectors.json").read_text())

headers = st.builds(
    BlockHeader,
    lane=st.sampled_from(Lane),
    purpose=st.sampled_from(Purpose),
    epoch=st.binary(min_size=16, max_size=16),
    base_seq=st.integers(0, (1 << 63) - (1 << 32)),
    count=st.integers(1, MAX_RECORDS),
    codec=st.integers(0, 65_535),
    dictionary=st.integers(0, 65_535),
    body_length=st.just(0),
)


def named(kind: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("vector", VECTORS[kind], ids=lambda vector: vector["name"])


def header_of(vector: dict[str, Any]) -> BlockHeader:
    return BlockHeader(
        Lane(vector["lane"]),
        Purpose(vector["purpose"]),
        bytes.fromhex(vector["epoch"]),
        vector["base_seq"],
        vector["count"],
        CODEC_RECORDS_ZSTD,
        vector["dictionary"],
        len(bytes.fromhex(vector["body"])),
    )


def a_header(body: bytes, count: int = 1) -> BlockHeader:
    return BlockHeader(Lane.P1, Purpose.OPERATION, bytes(16), 0, count, CODEC_RECORDS_ZSTD, NO_DICTIONARY, len(body))


@named("blocks")
def test_a_golden_block_is_written_and_read_as_it_stands(vector: dict[str, Any]) -> None:
    header, body, block = header_of(vector), bytes.fromhex(vector["body"]), bytes.fromhex(vector["block"])
    assert pack_block(header, body) == block
    assert unpack_block(block) == (header, body)
    records = unpack_body(header, body)
    assert len(records) == vector["count"]
    assert decode_event(bytes(records[0].event)) == Health("camera", "lost")
    known = zstandard.ZstdCompressionDict(read_dictionary(header.dictionary)) if header.dictionary else None
    assert zstandard.ZstdDecompressor(dict_data=known).decompress(body) == bytes.fromhex(vector["plain"])


@named("bad_blocks")
def test_a_golden_bad_block_is_refused_in_words(vector: dict[str, Any]) -> None:
    with pytest.raises(BadBlock, match=vector["says"]):
        unpack_block(bytes.fromhex(vector["block"]))


@named("bad_bodies")
def test_a_golden_bad_body_has_a_right_header_and_is_refused_in_words(vector: dict[str, Any]) -> None:
    header, body = unpack_block(bytes.fromhex(vector["block"]))
    with pytest.raises(BadBlock, match=vector["says"]):
        unpack_body(header, body)


@named("receipts")
def test_a_golden_receipt_is_written_and_read_as_it_stands(vector: dict[str, Any]) -> None:
    ranges = tuple((start, end) for start, end in vector["ranges"])
    receipt = Receipt(Lane(vector["lane"]), bytes.fromhex(vector["epoch"]), ranges)
    assert pack_receipt(receipt) == bytes.fromhex(vector["receipt"])
    assert unpack_receipt(bytes.fromhex(vector["receipt"])) == receipt


@named("bad_receipts")
def test_a_golden_bad_receipt_is_refused_in_words(vector: dict[str, Any]) -> None:
    with pytest.raises(BadBlock, match=vector["says"]):
        unpack_receipt(bytes.fromhex(vector["receipt"]))


@named("refusals")
def test_a_golden_refusal_is_written_and_read_as_it_stands(vector: dict[str, Any]) -> None:
    name = block_name(bytes.fromhex(vector["block"]))
    refusal = Refusal(name, Decision(vector["decision"]), vector["words"])
    assert pack_refusal(refusal) == bytes.fromhex(vector["refusal"])
    assert unpack_refusal(bytes.fromhex(vector["refusal"])) == refusal


@named("bad_refusals")
def test_a_golden_bad_refusal_is_refused_in_words(vector: dict[str, Any]) -> None:
    with pytest.raises(BadBlock, match=vector["says"]):
        unpack_refusal(bytes.fromhex(vector["refusal"]))


def test_topics_are_as_they_were_fixed() -> None:
    found = {
        "up": up_topic("veh-001", Lane.P0),
        "status": status_topic("veh-001"),
        "down": down_topic("veh-001", "receipt"),
    }
    assert found == VECTORS["topics"]


@given(headers, st.binary(max_size=64))
def test_any_block_comes_back_as_it_was(header: BlockHeader, body: bytes) -> None:
    header = replace(header, body_length=len(body))
    assert unpack_block(pack_block(header, body)) == (header, body)


@given(headers, st.binary(max_size=64), st.data())
def test_one_flipped_bit_anywhere_is_noticed(header: BlockHeader, body: bytes, data: st.DataObject) -> None:
    block = bytearray(pack_block(replace(header, body_length=len(body)), body))
    bit = data.draw(st.integers(0, len(block) * 8 - 1))
    block[bit // 8] ^= 1 << bit % 8
    with pytest.raises(BadBlock):
        unpack_block(bytes(block))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_block_or_a_bad_block_and_nothing_else(data: bytes) -> None:
    with pytest.raises(BadBlock):
        unpack_block(data)
    body = zstandard.compress(data)
    try:
        unpack_body(a_header(body), body)
    except BadBlock:
        return
    assert msgspec.msgpack.decode(data)


@given(st.lists(st.tuples(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1)), min_size=1, max_size=20))
def test_records_come_back_as_they_were(stamps: list[tuple[int, int]]) -> None:
    event = msgspec.Raw(encode_event(Health("what", "detail")))
    records = [Stored(captured_ns, wall_ns, event) for captured_ns, wall_ns in stamps]
    body = pack_body(records)
    found = unpack_body(a_header(body, len(records)), body)
    assert [(r.captured_ns, r.wall_ns, bytes(r.event)) for r in found] == [(c, w, bytes(event)) for c, w in stamps]


def test_a_block_larger_than_any_is_refused() -> None:
    body = bytes(MAX_BLOCK_BYTES - HEADER_BYTES)
    assert unpack_block(pack_block(a_header(body), body))
    with pytest.raises(BadBlock, match="are more than"):
        unpack_block(pack_block(a_header(body + b"x"), body + b"x"))


@pytest.mark.parametrize(("told", "words"), [(True, "inflates beyond"), (False, "did not decompress full frame")])
def test_a_bomb_is_not_inflated_whether_it_tells_its_size_or_not(told: bool, words: str) -> None:
    compressor = zstandard.ZstdCompressor(level=19, write_content_size=told)
    bomb = compressor.compress(bytes(8 * MAX_BODY_INFLATED))
    assert len(bomb) < MAX_BLOCK_BYTES
    with pytest.raises(BadBlock, match=words):
        unpack_body(a_header(bomb), bomb)


def test_a_block_names_no_more_records_than_are_allowed() -> None:
    assert unpack_block(pack_block(a_header(b"", MAX_RECORDS), b""))
    with pytest.raises(BadBlock, match="are more than"):
        unpack_block(pack_block(a_header(b"", MAX_RECORDS + 1), b""))


def test_no_record_is_made_of_a_body_that_holds_other_than_named() -> None:
    """A few bytes on the wire were a million records in memory before anybody counted them."""
    for begins in (b"\x92", b"\xdc\x00\x02", b"\xdd\x00\x00\x00\x02"):
        # What follows is no record: whoever made them first would say so.
        body = zstandard.compress(begins + b"\xc1")
        with pytest.raises(BadBlock, match="names 1 records, the body holds 2"):
            unpack_body(a_header(body), body)


def test_the_vehicle_packs_no_more_records_than_a_block_may_name() -> None:
    small = b"\x80"
    waiting = Waiting(Purpose.OPERATION, encode_records([Stored(0, 0, msgspec.Raw(small))])[1:], 1, 0)
    blocks = pack([waiting] * (2 * MAX_RECORDS), MAX_BLOCK_BYTES)
    assert max(len(block.runs) for block in blocks) <= MAX_RECORDS


@given(st.binary(max_size=200))
def test_no_body_takes_more_to_read_than_it_is_charged_for(plain: bytes) -> None:
    for told in (True, False):
        body = zstandard.ZstdCompressor(write_content_size=told).compress(plain)
        assert len(plain) <= inflated_size(body) <= MAX_BODY_INFLATED
    assert inflated_size(plain[:3]) == 0


def test_nesting_without_end_is_a_bad_body_and_not_a_crash() -> None:
    """Found by a hostile vehicle: the decoder's recursion limit is no DecodeError."""
    body = zstandard.compress(b"\x91\x93\x00\x00" + b"\x91" * 1_000_000)
    with pytest.raises(BadBlock, match="can't be read"):
        unpack_body(a_header(body), body)


def test_an_answer_nested_without_end_is_no_answer_and_not_a_crash() -> None:
    deep = b"\x91" * 100_000
    with pytest.raises(BadBlock, match="not a receipt"):
        unpack_receipt(b"\x94\x00\xc4\x10" + bytes(16) + b"\x90" + deep)
    with pytest.raises(BadBlock, match="not a refusal"):
        unpack_refusal(b"\x94\xc4\x10" + bytes(16) + b"\xa7refused\xa1a" + deep)


def test_the_records_are_encoded_by_the_body_alone() -> None:
    records = [Stored(1, 2, msgspec.Raw(encode_event(Health("a", "b"))))]
    assert zstandard.decompress(pack_body(records)) == encode_records(records)
