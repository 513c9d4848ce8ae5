from __future__ import annotations

import json
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry.records import Lane, Purpose
from telemetry.spool.format import (
    HEADER_PAGES,
    Entry,
    FrameHeader,
    SegmentHeader,
    due_codes,
    end_page,
    frame_pages,
    frames_in,
    index_pages,
    is_contiguous,
    max_wire_bytes,
    pack_entry,
    pack_frame_header,
    pack_index,
    pack_segment_header,
    trimmed_pages,
    unpack_entry,
    unpack_frame_header,
    unpack_index,
    unpack_segment_header,
)
from telemetry.spool.limits import PAGE_BYTES
from telemetry.wire import MAX_BLOCK_BYTES, MAX_RECORDS

VECTORS = Path(__file__).parents[2] / "vectors" / "spool" / "format.json"

U32, U64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
ID = st.binary(min_size=16, max_size=16)
HEADERS = st.builds(
    SegmentHeader,
    lane=st.sampled_from(Lane), pages=U32, serial=U64, spool_id=ID, epoch=ID, salt=ID, base_seq=U64,
    created_spool_ns=st.integers(0, 2**63 - 1), created_wall_ns=st.integers(-(2**63), 2**63 - 1),
)  # fmt: skip
DUE = st.integers(0, 2**24 - 1)
FRAMES = st.builds(
    FrameHeader,
    cipher_bytes=U32, count=U32, base_seq=U64, durable_seq=U64, counter=U64, purpose=st.sampled_from(Purpose), due=DUE,
)  # fmt: skip


@given(HEADERS)
def test_a_segments_header_survives_in_either_copy(header: SegmentHeader) -> None:
    packed = pack_segment_header(header)
    assert len(packed) == HEADER_PAGES * PAGE_BYTES
    assert unpack_segment_header(packed) == header
    assert unpack_segment_header(bytes(PAGE_BYTES) + packed[PAGE_BYTES:]) == header


@given(HEADERS, st.integers(0, 95), st.integers(0, 7))
def test_a_flipped_bit_in_a_header_is_noticed(header: SegmentHeader, at: int, bit: int) -> None:
    page = bytearray(pack_segment_header(header)[:PAGE_BYTES])
    page[at] ^= 1 << bit
    assert unpack_segment_header(bytes(page)) is None


@given(FRAMES, ID, ID)
def test_a_frame_is_only_read_under_its_segments_salt(frame: FrameHeader, salt: bytes, other: bytes) -> None:
    packed = pack_frame_header(frame, salt)
    assert unpack_frame_header(packed, salt) == frame
    assert salt == other or unpack_frame_header(packed, other) is None


@given(FRAMES, ID, st.integers(0, 48 * 8 - 1))
def test_a_flipped_bit_in_a_frames_header_is_noticed(frame: FrameHeader, salt: bytes, bit: int) -> None:
    packed = bytearray(pack_frame_header(frame, salt))
    packed[bit // 8] ^= 1 << bit % 8
    assert unpack_frame_header(bytes(packed), salt) is None


ENTRIES = st.builds(
    Entry, seq_offset=U32, count=st.integers(0, MAX_RECORDS), wire_bytes=U32, page=st.integers(0, 2**16 - 1),
    purpose=st.sampled_from(Purpose), due=DUE,
)  # fmt: skip


@given(st.lists(ENTRIES, max_size=20), ID, ID)
def test_an_index_is_only_read_whole_and_under_its_salt(entries: list[Entry], salt: bytes, other: bytes) -> None:
    packed = pack_index(b"".join(map(pack_entry, entries)), salt)
    read = unpack_index(packed, salt)
    assert read is not None
    assert [unpack_entry(read, i) for i in range(len(entries))] == entries
    assert salt == other or unpack_index(packed, other) is None
    assert unpack_index(packed[:9] + bytes([packed[9] ^ 1]) + packed[10:], salt) is None
    assert unpack_index(bytes(PAGE_BYTES), salt) is None


@given(st.lists(ENTRIES, max_size=20))
def test_when_blocks_are_due_is_read_without_the_rest(entries: list[Entry]) -> None:
    assert list(due_codes(b"".join(map(pack_entry, entries)))) == [entry.due for entry in entries]


@given(st.lists(st.integers(1, 50), min_size=1, max_size=20), st.integers(0, 19), st.integers(1, 9))
def test_a_gap_between_blocks_is_noticed_wherever_it_is(counts: list[int], where: int, gap: int) -> None:
    starts = list(accumulate(counts, initial=0))
    entries = [Entry(start, count, 1, 2, Purpose.SAFETY) for start, count in zip(starts, counts, strict=False)]
    assert is_contiguous(b"".join(map(pack_entry, entries)))
    moved = [replace(e, seq_offset=e.seq_offset + gap * (i > where)) for i, e in enumerate(entries)]
    assert is_contiguous(b"".join(map(pack_entry, moved))) == (where >= len(entries) - 1)


@given(st.integers(4, 70_000))
def test_an_index_has_room_for_a_block_in_each_page(pages: int) -> None:
    blocks = end_page(pages) - HEADER_PAGES
    assert len(pack_index(bytes(16 * blocks), bytes(16))) <= index_pages(pages) * PAGE_BYTES


@given(st.integers(HEADER_PAGES, 2000))
def test_a_trimmed_segment_keeps_its_frames_and_not_a_page_more_than_it_needs(used: int) -> None:
    pages = trimmed_pages(used)
    assert end_page(pages) >= used
    assert end_page(pages - 1) < used


@pytest.mark.parametrize("segment_bytes", [4 * PAGE_BYTES, 64 * PAGE_BYTES, 1024 * PAGE_BYTES])
def test_the_largest_block_fits_a_segment_and_the_wire(segment_bytes: int) -> None:
    largest = max_wire_bytes(segment_bytes)
    assert HEADER_PAGES + frame_pages(largest) <= end_page(segment_bytes // PAGE_BYTES)
    assert largest <= MAX_BLOCK_BYTES


@given(st.lists(st.integers(1, 20_000), min_size=1, max_size=6), st.integers(0, 2**16), ID)
def test_damage_in_one_header_hides_no_other_frame(sizes: list[int], where: int, salt: bytes) -> None:
    segment, starts, page = bytearray(64 * PAGE_BYTES), [], HEADER_PAGES
    for i, size in enumerate(sizes):
        frame = FrameHeader(size + 16, 1, i, i, i, Purpose.SAFETY)
        segment[page * PAGE_BYTES : page * PAGE_BYTES + 48] = pack_frame_header(frame, salt)
        starts.append(page)
        page += frame.pages
    assert [start for start, _ in frames_in(bytes(segment), salt)] == starts
    victim = starts[where % len(starts)]
    segment[victim * PAGE_BYTES + 20] ^= 1
    assert [start for start, _ in frames_in(bytes(segment), salt)] == [s for s in starts if s != victim]


def test_the_bytes_are_those_of_the_golden_vectors() -> None:
    vectors = json.loads(VECTORS.read_text())
    assert pack_segment_header(SEGMENT)[:160].hex() == vectors["segment_header"]
    assert pack_frame_header(FRAME, SEGMENT.salt).hex() == vectors["frame_header"]
    assert pack_index(pack_entry(ENTRY), SEGMENT.salt)[:64].hex() == vectors["index"]
    assert FRAME.nonce.hex() == vectors["nonce"]


SEGMENT = SegmentHeader(
    lane=Lane.P1, pages=1024, serial=12, spool_id=bytes(range(16)), epoch=bytes(range(16, 32)),
    salt=bytes(range(32, 48)), base_seq=1000, created_spool_ns=5_000_000_000, created_wall_ns=1_767_225_600_000_000_000,
)  # fmt: skip
FRAME = FrameHeader(cipher_bytes=316, count=7, base_seq=1003, durable_seq=1003, counter=2, purpose=Purpose.PERCEPTION)
ENTRY = Entry(seq_offset=3, count=7, wire_bytes=300, page=3, purpose=Purpose.PERCEPTION)
