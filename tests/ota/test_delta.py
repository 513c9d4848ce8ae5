"""A delta gives back the new file to the last byte, whatever the two are, and can't cost more than it may."""

from __future__ import annotations

import bz2
import contextlib
import hashlib
import json
import struct
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from ota.delta import (
    BLOCK,
    HEADER,
    MAX_ESCAPES,
    MAX_INDEX_BYTES,
    MAX_RUNS,
    NOWHERE,
    RUN,
    Codec,
    DeltaBlock,
    DeltaUnfit,
    Ends,
    Run,
    add,
    decode_index,
    encode_head,
    index_bytes,
    made,
)
from ota.manifest import BLOCK_BYTES
from ota.repository.deltamaker import Aligned, aligned, make, runs_of
from tests.ota.weights import fine_tuned, onnx_like, weights

VECTORS = Path(__file__).parent.parent / "vectors/ota/delta.json"


def between(old: bytes, new: bytes) -> Ends:
    return Ends(hashlib.sha256(new).hexdigest(), len(new), hashlib.sha256(old).hexdigest(), len(old))


def delta(old: bytes, new: bytes) -> bytes | None:
    bodies = list[bytes]()
    head = make(reader(old), reader(new), between(old, new), bodies.append, lambda count: None)
    return None if head is None else head + b"".join(bodies)


class reader:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def __call__(self, offset: int, length: int) -> bytes:
        return self.data[offset : offset + length]


def blocks_of(data: bytes, ends: Ends) -> tuple[DeltaBlock, ...]:
    return decode_index(data[HEADER.size : HEADER.size + index_bytes(data, ends)], ends)


def applied(data: bytes, old: bytes, ends: Ends) -> bytes:
    blocks = blocks_of(data, ends)
    return b"".join(made(block, data[block.at : block.at + block.body_bytes], reader(old)) for block in blocks)


# --- what is made comes back ------------------------------------------------------------------------


@given(seed=st.integers(0, 1 << 32), size=st.integers(0, 3000), edits=st.integers(0, 40), grows=st.integers(-50, 50))
@settings(max_examples=60)
def test_what_was_made_gives_back_every_byte(seed: int, size: int, edits: int, grows: int) -> None:
    rng = Random(seed)
    old = rng.randbytes(size)
    new = bytearray(old[: max(0, size + grows)] + rng.randbytes(max(0, grows)))
    for _ in range(edits if new else 0):
        at = rng.randrange(len(new))
        new[at] = (new[at] + rng.choice((1, 255, 2, rng.randrange(256)))) % 256
    data = delta(old, bytes(new))
    assert data is None or applied(data, old, between(old, bytes(new))) == new


@pytest.mark.parametrize(
    ("sigma", "codec", "share"),
    [(0.0, Codec.SAME, 0.001), (0.005, Codec.PAIRS_ZSTD, 0.12), (0.05, Codec.NIBBLES_ZSTD, 0.4)],
)  # fmt: skip
def test_the_further_weights_moved_the_more_a_delta_takes(sigma: float, codec: Codec, share: float) -> None:
    old, new = weights(2 * BLOCK_BYTES + 999, seed=1), fine_tuned(2 * BLOCK_BYTES + 999, seed=1, sigma=sigma)
    data = delta(old, new)
    assert data is not None
    assert len(data) <= share * len(new)
    assert applied(data, old, between(old, new)) == new
    assert blocks_of(data, between(old, new))[0].codec is codec


def test_what_has_nothing_to_do_with_the_old_one_isnt_worth_a_delta() -> None:
    assert delta(Random(1).randbytes(200_000), Random(2).randbytes(200_000)) is None


def test_text_that_is_new_comes_packed_by_itself() -> None:
    old, new = Random(1).randbytes(100_000), b"a line of some text\n" * 6_000
    data = delta(old, new)
    assert data is not None
    assert applied(data, old, between(old, new)) == new
    assert len(data) < 1_000


def test_weights_that_moved_are_found_by_their_names() -> None:
    tensors = {f"w{number}": weights(120_000, seed=number) for number in range(4)}
    tuned = {f"w{number}": fine_tuned(120_000, seed=number, sigma=0.005) for number in range(4)}
    old = onnx_like(tensors)
    new = onnx_like({"new": Random(9).randbytes(5_000), **tuned}, doc=b"another graph" * 20)
    data = delta(old, new)
    assert data is not None
    assert applied(data, old, between(old, new)) == new
    by_place = [Aligned(0, len(new), 0)]
    assert aligned(reader(old), reader(new), len(old), len(new)) != by_place
    assert len(data) < 0.2 * len(new), "weights by their place would have nothing in common"


@pytest.mark.parametrize("cut", [0, 1, 5, 100, 119_999])
def test_what_only_looks_like_a_network_goes_by_place(cut: int) -> None:
    whole = onnx_like({"w": weights(120_000, seed=1)})
    old = whole[:cut]
    assert aligned(reader(old), reader(whole), cut, len(whole)) == [
        part for part in (Aligned(0, cut, 0), Aligned(cut, len(whole), None)) if part.begin < part.end
    ]


@given(st.lists(st.tuples(st.integers(1, 50), st.booleans()), min_size=1, max_size=300), st.data())
def test_runs_cover_a_block_and_nothing_else(parts: list[tuple[int, bool]], data: st.DataObject) -> None:
    stretches, at = list[Aligned](), 0
    for length, has_old in parts:
        stretches.append(Aligned(at, at + length, 7 * at if has_old else None))
        at += length
    begin = data.draw(st.integers(0, at - 1))
    end = data.draw(st.integers(begin + 1, at))
    runs = runs_of(stretches, begin, end)
    assert sum(run.length for run in runs) == end - begin
    assert len(runs) <= MAX_RUNS


@given(st.binary(max_size=300), st.integers(0, 1 << 32))
def test_bytes_are_added_each_for_itself(one: bytes, seed: int) -> None:
    other = Random(seed).randbytes(len(one))
    assert add(one, other) == bytes((a + b) % 256 for a, b in zip(one, other, strict=True))


def test_the_golden_vector_holds() -> None:
    vector = json.loads(VECTORS.read_text())
    old, new, data = (bytes.fromhex(vector[key]) for key in ("old", "new", "delta"))
    ends = between(old, new)
    assert applied(data, old, ends) == new
    assert [block.codec.name for block in blocks_of(data, ends)] == [vector["codec"]]
    assert (
        encode_head(ends, [(block.codec, block.runs, block.body_bytes) for block in blocks_of(data, ends)])
        == (data[: blocks_of(data, ends)[0].at])
    )


# --- what a hostile one can't ----------------------------------------------------------------------

SIZE = 5_000
ENDS = Ends("0" * 64, SIZE, "1" * 64, SIZE)
PLACE = (Run(0, SIZE),)


def zipped(data: bytes, write_content_size: bool = True) -> bytes:
    return zstandard.ZstdCompressor(level=19, write_content_size=write_content_size).compress(data)


def opened(codec: Codec, body: bytes, runs: Sequence[Run] = PLACE) -> bytes:
    its = DeltaBlock(SIZE, codec, tuple(runs), 0, len(body))
    return made(its, body, reader(bytes(SIZE)))


@pytest.mark.parametrize("codec", [Codec.BYTES_ZSTD, Codec.BYTES_BZ2, Codec.PAIRS_ZSTD, Codec.NIBBLES_ZSTD, Codec.ZSTD])
@pytest.mark.parametrize("size", [0, 1, SIZE - 1, SIZE + 2, 9 * BLOCK_BYTES])
def test_a_body_that_holds_another_size_is_refused_before_it_is_unpacked(codec: Codec, size: int) -> None:
    packed = bz2.compress(bytes(size)) if codec is Codec.BYTES_BZ2 else zipped(bytes(size))
    if codec in (Codec.PAIRS_ZSTD, Codec.NIBBLES_ZSTD) and size == SIZE - 1:
        size, packed = SIZE, zipped(bytes(16 + SIZE // 2 + MAX_ESCAPES * 5 + 5))
    with pytest.raises(DeltaUnfit):
        opened(codec, packed)


@pytest.mark.parametrize(
    "body",
    [b"", b"no zstd at all", zipped(bytes(SIZE))[:-3], zipped(bytes(SIZE)) + b"x",
     zipped(bytes(SIZE), write_content_size=False), zipped(bytes(SIZE))[:-9] + bytes(9)],
)  # fmt: skip
def test_a_frame_that_isnt_one_whole_frame_of_that_size_is_refused(body: bytes) -> None:
    with pytest.raises(DeltaUnfit):
        opened(Codec.ZSTD, body)


@pytest.mark.parametrize(
    "body", [b"", b"no bzip2", bz2.compress(bytes(SIZE))[:-3], bz2.compress(bytes(SIZE)) + b"x", bz2.compress(b"a") * 2]
)
def test_a_bzip2_body_that_isnt_one_whole_stream_is_refused(body: bytes) -> None:
    with pytest.raises(DeltaUnfit):
        opened(Codec.BYTES_BZ2, body)


def test_a_window_larger_than_the_block_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27, write_content_size=True, enable_ldm=True)
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj(size=SIZE)
    body = stream.compress(Random(1).randbytes(SIZE)) + stream.flush()
    wide = bytes([body[4] & ~0x20]) + bytes([(27 - 10) << 3])
    changed = body[:4] + wide + body[5:]
    with pytest.raises(DeltaUnfit):
        opened(Codec.ZSTD, changed)


@pytest.mark.parametrize("escapes", [struct.pack("<I", SIZE) + b"\1", b"\0" * 7, struct.pack("<I", 0xFFFFFFFF) + b"\1"])
def test_an_escape_outside_the_block_is_refused(escapes: bytes) -> None:
    with pytest.raises(DeltaUnfit):
        opened(Codec.PAIRS_ZSTD, zipped(b"\0\1\xff\2" + bytes(SIZE // 4) + escapes))


def test_an_old_file_that_became_shorter_is_told() -> None:
    with pytest.raises(DeltaUnfit, match="ends before"):
        made(DeltaBlock(SIZE, Codec.SAME, PLACE, 0, 0), b"", reader(b"short"))


def head(*blocks: tuple[int, Sequence[Run], int], more: bytes = b"") -> bytes:
    parts = [BLOCK.pack(code, len(runs), body) + b"".join(RUN.pack(r.offset, r.length) for r in runs)
             for code, runs, body in blocks]  # fmt: skip
    return b"".join(parts) + more


@pytest.mark.parametrize(
    ("index", "words"),
    [
        (b"", "ends within block 0"),
        (head((0, PLACE, 0))[:-1], "ends within block 0"),
        (head((0, PLACE, 0), more=b"x"), "goes on for 1 bytes"),
        (head((7, PLACE, 0)), "codec 7"),
        (head((0, PLACE, 1)), "a body of 1 bytes"),
        (head((1, PLACE, SIZE + 1)), "a body of 5001"),
        (head((6, (), SIZE - 1)), "a body of 4999"),
        (head((1, (), 10)), "don't make"),
        (head((1, (Run(0, SIZE - 1),), 10)), "don't make"),
        (head((5, PLACE, 10)), "don't make"),
        (head((1, (Run(1, SIZE),), 10)), "goes beyond"),
        (head((1, (Run(NOWHERE - 1, SIZE),), 10)), "goes beyond"),
        (head((1, (Run(0, 0),) * (MAX_RUNS + 1), 10)), "257 runs"),
    ],
)
def test_an_index_beyond_its_caps_is_refused(index: bytes, words: str) -> None:
    with pytest.raises(DeltaUnfit, match=words):
        decode_index(index, ENDS)


@pytest.mark.parametrize("other", [
    Ends("2" * 64, SIZE, "1" * 64, SIZE), Ends("0" * 64, SIZE, "2" * 64, SIZE),
    Ends("0" * 64, SIZE + 1, "1" * 64, SIZE), Ends("0" * 64, SIZE, "1" * 64, SIZE - 1),
])  # fmt: skip
def test_a_delta_between_other_files_is_refused(other: Ends) -> None:
    data = encode_head(ENDS, [(Codec.SAME, PLACE, 0)])
    assert index_bytes(data, ENDS) == len(data) - HEADER.size
    with pytest.raises(DeltaUnfit, match="other files"):
        index_bytes(data, other)


def test_an_index_that_is_too_long_isnt_even_read() -> None:
    long = HEADER.pack(b"ODL1", SIZE, SIZE, bytes(32), b"\x11" * 32, MAX_INDEX_BYTES + 1)
    with pytest.raises(DeltaUnfit, match="more than"):
        index_bytes(long, ENDS)


@given(st.binary(max_size=200))
def test_whatever_is_read_as_a_head_is_read_or_refused(data: bytes) -> None:
    for ends in (ENDS, Ends("0" * 64, 0, "1" * 64, 0)):
        with contextlib.suppress(DeltaUnfit):
            index_bytes(data, ends)
        with contextlib.suppress(DeltaUnfit):
            assert len(decode_index(data, ends)) == ends.count


@given(seed=st.integers(0, 1 << 32), codec=st.sampled_from(list(Codec)))
@settings(max_examples=60)
def test_a_body_with_flipped_bits_gives_a_block_of_that_size_or_is_refused(seed: int, codec: Codec) -> None:
    rng = Random(seed)
    right = {
        Codec.BYTES_BZ2: bz2.compress(bytes(SIZE)), Codec.RAW: bytes(SIZE), Codec.SAME: b"",
        Codec.PAIRS_ZSTD: zipped(b"\0\1\xff\2" + rng.randbytes(SIZE // 4)),
        Codec.NIBBLES_ZSTD: zipped(bytes(range(16)) + rng.randbytes(SIZE // 2)),
    }.get(codec, zipped(rng.randbytes(SIZE)))  # fmt: skip
    body = bytearray(right)
    for _ in range(3 if body else 0):
        body[rng.randrange(len(body))] ^= 1 << rng.randrange(8)
    runs = () if codec in (Codec.RAW, Codec.ZSTD) else PLACE
    with contextlib.suppress(DeltaUnfit):
        assert len(opened(codec, bytes(body), runs)) == SIZE
