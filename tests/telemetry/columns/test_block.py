"""A signal block comes back to the last bit, and what is none is said to be none (docs/formats/columns.md)."""

from __future__ import annotations

import contextlib
import random
import struct
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetry.columns import block as module
from telemetry.columns.block import MAX_COLUMNS, MAX_SAMPLES, Block, Naming, SchemaOf, decode, encode
from telemetry.columns.errors import BadColumns, UnknownSchema
from telemetry.columns.names import MAX_NAMES_BYTES
from telemetry.signals.schema import Columns, Form, Group, Schema, SignalSpec
from tests.telemetry.columns.batches import alone, assert_same, parts, schemas

SPEED = SignalSpec("Vehicle.Speed", Form.INT, 0.01, 0.0, "km/h")
HEADING = SignalSpec("Vehicle.CurrentLocation.Heading", Form.FLOAT, unit="degrees")
SCHEMA = Schema((Group("wheels", (SPEED, HEADING), 10_000), Group("lamps", (SignalSpec("Vehicle.Lamp", Form.UINT),))))


def wheels(rows: int = 50, seed: int = 1) -> Columns:
    chance = np.random.default_rng(seed)
    t_us = np.sort(5_000_000 + np.arange(rows) * 10_000 + chance.integers(-150, 150, rows))
    speed = np.cumsum(chance.integers(-3, 4, rows)) + 5000
    return Columns(0, t_us * 1000, (speed, np.round(chance.normal(90, 1, rows), 1)))


def lamps(rows: int = 5) -> Columns:
    return Columns(1, np.arange(rows) * 1_000_000, (np.full(rows, 3, np.uint64),))


def known(digest: bytes) -> Schema | None:
    return SCHEMA if digest == SCHEMA.digest else None


@given(st.data(), schemas(), st.sampled_from(Naming))
@settings(max_examples=60, deadline=None)
def test_every_batch_comes_back_to_the_last_bit(data: st.DataObject, schema: Schema, naming: Naming) -> None:
    assert_comes_back(data, schema, naming)


@pytest.mark.soak
@given(st.data(), schemas(), st.sampled_from(Naming))
@settings(max_examples=1500, deadline=None)
def test_fifteen_hundred_batches_come_back_to_the_last_bit(data: st.DataObject, schema: Schema, naming: Naming) -> None:
    assert_comes_back(data, schema, naming)


def assert_comes_back(data: st.DataObject, schema: Schema, naming: Naming) -> None:
    batches = data.draw(st.lists(parts(schema), min_size=1, max_size=4))
    read = decode(encode(batches, schema, naming), {schema.digest: schema}.get)
    assert len(read.parts) == len(batches)
    for found, expected in zip(read.parts, batches, strict=True):
        assert read.schema.groups[found.group].name == schema.groups[expected.group].name
        assert alone(read.schema, found) == alone(schema, expected)
        if naming is Naming.DIGEST:
            assert_same(found, expected)


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 8, 9, 255, 256, 257, 70_000])
def test_batches_of_any_size_come_back(rows: int) -> None:
    for found, expected in zip(
        decode(encode([wheels(rows), lamps(rows)], SCHEMA), known).parts, [wheels(rows), lamps(rows)], strict=True
    ):
        assert_same(found, expected)


def test_times_are_rounded_down_to_the_microsecond_and_never_up() -> None:
    t_ns = np.array([-1, 0, 999, 1000, 1999], np.int64)
    batch = Columns(1, t_ns, (np.arange(5, dtype=np.uint64),))
    [found] = decode(encode([batch], SCHEMA), known).parts
    assert found.t_ns.tolist() == [-1000, 0, 0, 1000, 1000]


def test_the_same_batches_have_the_same_bytes() -> None:
    assert encode([wheels(), lamps()], SCHEMA) == encode([wheels(), lamps()], SCHEMA)


def test_an_inline_block_names_what_it_tells_and_nothing_else() -> None:
    whole, times = wheels(3), wheels(3).t_ns
    heading = Columns(0, times, (None, whole.values[1]))
    nothing = Columns(0, times, (None, None))
    for batches, names in (
        ([lamps(), whole], [["Vehicle.Lamp"], [SPEED.path, HEADING.path]]),
        ([heading, lamps()], [[HEADING.path], ["Vehicle.Lamp"]]),
        ([heading, whole], [[SPEED.path, HEADING.path]]),
        ([nothing], [[]]),
    ):
        read = decode(encode(batches, SCHEMA, Naming.INLINE), lambda digest: None)
        assert [[spec.path for spec in group.signals] for group in read.schema.groups] == names
        for found, expected in zip(read.parts, batches, strict=True):
            assert alone(read.schema, found) == alone(SCHEMA, expected)


def test_a_block_of_an_unknown_schema_says_so_and_is_not_bad() -> None:
    with pytest.raises(UnknownSchema, match=SCHEMA.digest.hex()) as caught:
        decode(encode([wheels()], SCHEMA), lambda digest: None)
    assert caught.value.digest == SCHEMA.digest
    assert not isinstance(caught.value, BadColumns)


def test_a_batch_without_rows_is_left_out() -> None:
    empty = Columns(0, np.zeros(0, np.int64), (None, None))
    assert encode([empty, lamps()], SCHEMA) == encode([lamps()], SCHEMA)
    with pytest.raises(ValueError, match="holds 1 to"):
        encode([empty], SCHEMA)


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        (Columns(2, lamps().t_ns, lamps().values), "no group 2"),
        (Columns(1, lamps().t_ns, ()), "has 1 signals"),
        (Columns(1, lamps().t_ns[::-1], lamps().values), "no rising"),
        (Columns(1, lamps().t_ns, (np.zeros(5, np.int64),)), "of int64"),
        (Columns(1, lamps().t_ns, (np.zeros(4, np.uint64),)), "Vehicle.Lamp"),
    ],
)
def test_what_is_no_batch_of_the_schema_is_not_written(batch: Columns, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        encode([batch], SCHEMA)


def test_more_than_a_block_holds_is_not_written() -> None:
    with pytest.raises(ValueError, match="holds 1 to"):
        encode([lamps(MAX_SAMPLES // 2 + 1)], SCHEMA)
    with pytest.raises(ValueError, match="more than a signal block"):
        encode([lamps(1)] * (MAX_COLUMNS // 2 + 1), SCHEMA)
    wide = Schema((Group("wide", (SignalSpec("V." + "x" * MAX_NAMES_BYTES),)),))
    with pytest.raises(ValueError, match="bytes of names"):
        encode([Columns(0, np.zeros(1, np.int64), (np.zeros(1),))], wide, Naming.INLINE)


def repacked(data: bytes, change: object) -> bytes:
    """The block with its plain section changed, which a checksum of zstd's frame would otherwise hide."""
    version, naming, count, samples, length = module._HEADER.unpack_from(data)
    begin = module._HEADER.size + (16 if naming == Naming.DIGEST else 0)
    plain = bytearray(zstandard.decompress(data[begin : begin + length]))
    assert callable(change)
    frame = zstandard.compress(bytes(change(plain)))
    head = module._HEADER.pack(version, naming, count, samples, len(frame))
    return head + data[module._HEADER.size : begin] + frame + data[begin + length :]


def mutated(data: bytes, chance: random.Random) -> bytes:
    """A few bytes changed, cut or put in; outside the zstd frame or inside what it holds."""

    def change(plain: bytearray) -> bytearray:
        for _ in range(chance.randint(1, 3)):
            at = chance.randrange(len(plain))
            match chance.randrange(4):
                case 0:
                    plain[at] ^= 1 << chance.randrange(8)
                case 1:
                    plain[at] = chance.choice([0, 1, 127, 128, 255])
                case 2:
                    del plain[at : at + chance.randint(1, 8)]
                case _:
                    plain[at:at] = chance.randbytes(chance.randint(1, 8))
            if not plain:
                plain += b"\0"
        return plain

    return repacked(data, change) if chance.random() < 0.7 else bytes(change(bytearray(data)))


def survived(rounds: int, seed: int, read: Callable[[bytes, SchemaOf], Block] = decode) -> int:
    """How many of the mutated blocks were refused; any other error comes out."""
    chance = random.Random(seed)
    originals = [encode(batches, SCHEMA, naming) for batches in ([wheels(), lamps()], [wheels(2)]) for naming in Naming]
    refused = 0
    for _ in range(rounds):
        try:
            block = read(mutated(chance.choice(originals), chance), lambda digest: SCHEMA)
        except BadColumns as error:
            refused += "\n" not in str(error)
        else:
            assert sum(len(part) for part in block.parts) <= MAX_SAMPLES
    return refused


def test_a_changed_block_is_read_or_refused_in_a_sentence_and_nothing_else() -> None:
    assert 300 < survived(1500, 5) < 1500


def test_the_oracle_notices_any_other_error() -> None:
    def careless(data: bytes, schema_of: SchemaOf) -> Block:
        try:
            return decode(data, schema_of)
        except BadColumns as error:
            raise IndexError(str(error)) from error

    with pytest.raises(IndexError):
        survived(50, 5, careless)


@pytest.mark.soak
def test_a_hundred_thousand_changed_blocks_are_read_or_refused() -> None:
    assert survived(100_000, 6) > 20_000


@given(st.binary(max_size=300))
def test_any_bytes_are_refused(data: bytes) -> None:
    for given_bytes in (data, struct.pack("<BBHII", 1, 1, 1, 1, len(data)) + data):
        with pytest.raises(BadColumns):
            decode(given_bytes, lambda digest: SCHEMA)


def claiming(rows: int, columns: int) -> bytes:
    """A small block that says it has so many rows of constants."""
    group = Group("g", tuple(SignalSpec(f"V.S{i}", Form.INT) for i in range(columns)))
    one = Columns(0, np.zeros(1, np.int64), (np.zeros(1, np.int64),) * columns)
    data = encode([one], Schema((group,)), Naming.INLINE)

    def change(plain: bytearray) -> bytearray:
        names = int.from_bytes(plain[:4], "little") + 4
        plain[names + 2 : names + 6] = rows.to_bytes(4, "little")
        return plain

    data = repacked(data, change)
    return data[:4] + struct.pack("<I", min(rows * (columns + 1), 0xFFFFFFFF)) + data[8:]


def test_few_bytes_that_claim_many_rows_are_read_within_the_bound_and_refused_beyond() -> None:
    assert len(claiming(1000, 1)) < 150
    assert len(decode(claiming(MAX_SAMPLES // 2, 1), known).parts[0]) == MAX_SAMPLES // 2
    for rows in (MAX_SAMPLES // 2 + 1, 0xFFFFFFFF):
        with pytest.raises(BadColumns, match="none, or more"):
            decode(claiming(rows, 1), known)


def test_no_block_takes_more_memory_to_read_than_is_told() -> None:
    chance, block = random.Random(9), encode([wheels(), lamps()], SCHEMA)
    hostile = [
        claiming(MAX_SAMPLES // 2, 1),
        claiming(MAX_SAMPLES // 64, 63),
        *(mutated(block, chance) for _ in range(200)),
    ]
    tracemalloc.start()
    for data in hostile:
        with contextlib.suppress(BadColumns):
            decode(data, lambda digest: SCHEMA)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64_000_000


@pytest.mark.parametrize("tells_size", [True, False])
def test_a_bomb_is_not_inflated(tells_size: bool) -> None:
    frame = zstandard.ZstdCompressor(level=19, write_content_size=tells_size).compress(bytes(64 << 20))
    with pytest.raises(BadColumns, match="inflates to"):
        decode(struct.pack("<BBHII", 1, 1, 1, 1, len(frame)) + frame, known)


def test_a_version_that_is_not_known_is_named() -> None:
    with pytest.raises(BadColumns, match="version 2"):
        decode(b"\2" + encode([lamps()], SCHEMA)[1:], known)


def test_the_oracle_notices_one_changed_bit_of_a_value() -> None:
    speed, heading = wheels().values
    assert speed is not None
    other = speed.copy()
    other[17] ^= 1
    [found] = decode(encode([wheels()], SCHEMA), known).parts
    with pytest.raises(AssertionError):
        assert_same(found, Columns(0, wheels().t_ns, (other, heading)))
