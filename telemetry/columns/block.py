"""A signal block, version 1: batches of columns as bytes and back. Byte layout: docs/formats/columns.md.

What repeats goes through zstd; what is noise is packed to the bit and lies beside it, since one entropy code for both
serves neither.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
import zstandard

from telemetry.columns import numbers, parts
from telemetry.columns.choice import Choice, Packing, choose
from telemetry.columns.decimals import AS_BITS
from telemetry.columns.errors import BadColumns, UnknownSchema
from telemetry.columns.flat import HEADS, Ints, Spans, Way, restore, unzigzag, zigzag
from telemetry.columns.names import pack_names, told_alone, unpack_names
from telemetry.columns.numbers import MAX_SIZES, Layout
from telemetry.columns.parts import Head, Told
from telemetry.columns.sections import Section, planes_of
from telemetry.signals.schema import DIGEST_BYTES, Columns, Form, Schema

VERSION: Final = 1
MAX_SAMPLES: Final = 1 << 20
"""Times and values of a block together: they bound the memory that reading one takes."""
MAX_COLUMNS: Final = 1 << 16
"""Columns of a block, those that aren't told too."""
MAX_PARTS: Final = 1 << 14
MAX_PLAIN_BYTES: Final = 12 << 20

# version, naming, parts, samples, bytes of the zstd frame
_HEADER = struct.Struct("<BBHII")
_LEVEL: Final = 3
_PACKING_SHIFT: Final = 4


class Naming(IntEnum):
    """How a block names its signals."""

    DIGEST = 0  # by the schema's digest: whoever reads it has the schema from its release
    INLINE = 1  # by itself: the signals it tells, with their groups, scales and units


@dataclass(frozen=True, slots=True)
class Block:
    """What a signal block holds. `schema` is what the parts' groups are numbers of; of an inline block its own."""

    schema: Schema
    parts: tuple[Columns, ...]


SchemaOf = Callable[[bytes], Schema | None]
"""The schema with this digest, None where it isn't known."""


class _Zstd(threading.local):
    """One of each a thread: making one takes longer than a small block."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=_LEVEL)
        self.decompressor = zstandard.ZstdDecompressor()


_zstd = _Zstd()


def encode(batches: Sequence[Columns], schema: Schema, naming: Naming = Naming.DIGEST) -> bytes:
    """One block of all batches that have rows. Times are told in microseconds, rounded down; values to the last bit.

    An inline block has a schema of its own: of the groups in the order in which they first come, those signals that any
    batch tells. Raises ValueError for what is no batch of the schema, and for more than a block holds.
    """
    batches = [batch for batch in batches if len(batch)]
    parts.check(batches, schema)
    names, name = b"", schema.digest
    if naming is Naming.INLINE:
        batches, schema = told_alone(batches, schema)
        packed = pack_names(schema)
        names, name = len(packed).to_bytes(4, "little") + packed, b""
    told = [parts.told(batch, schema.groups[batch.group]) for batch in batches]
    spans = _spans(batches, told)
    plain, loose = _written(batches, told, spans)
    frame = _zstd.compressor.compress(names + plain)
    return _HEADER.pack(VERSION, naming, len(batches), spans.total, len(frame)) + name + frame + loose


def _spans(batches: Sequence[Columns], told: Sequence[Told]) -> Spans:
    spans = Spans(np.repeat([len(batch) for batch in batches], [len(part.columns) for part in told]).astype(np.int64))
    if not 0 < spans.total <= MAX_SAMPLES:
        raise ValueError(f"a signal block holds 1 to {MAX_SAMPLES} times and values, not {spans.total}")
    columns = len(batches) + sum(len(batch.values) for batch in batches)
    if len(batches) > MAX_PARTS or columns > MAX_COLUMNS:
        raise ValueError(f"{len(batches)} batches of {columns} columns are more than a signal block's {MAX_COLUMNS}")
    return spans


def _written(batches: Sequence[Columns], told: Sequence[Told], spans: Spans) -> tuple[bytes, bytes]:
    kinds = [kind for part in told for kind in (-1, *part.disguises)]
    row = np.concatenate([column for part in told for column in part.columns])
    choice = choose(row, spans, np.array(kinds) == AS_BITS)
    layout = Layout(choice.packings, choice.sizes, spans.counts(choice.ways))
    plain, loose = numbers.write(choice.kept, layout)
    mask = np.array([values is not None for batch in batches for values in batch.values], np.bool_)
    head = [
        planes_of(np.array([batch.group for batch in batches]), 2),
        planes_of(np.array([len(batch) for batch in batches]), 4),
        planes_of(np.array([part.pace for part in told]), 8),
        np.packbits(mask).tobytes(),
        *_choices(choice),
        bytes(kind for kind in kinds if kind >= 0),
        planes_of(zigzag(choice.heads), 8),
    ]
    return b"".join([*head, plain]), loose


def _choices(choice: Choice) -> tuple[bytes, bytes]:
    return planes_of(choice.ways | choice.packings << _PACKING_SHIFT, 1), planes_of(choice.sizes, 1)


def decode(data: bytes, schema_of: SchemaOf) -> Block:
    """Raises BadColumns for what is no block of this version, UnknownSchema where `schema_of` knows no such digest."""
    if len(data) < _HEADER.size:
        raise BadColumns(f"{len(data)} bytes are less than a signal block's header of {_HEADER.size}")
    version, naming, count, samples, frame_bytes = _HEADER.unpack_from(data)
    if version != VERSION or naming not in tuple(Naming):
        raise BadColumns(f"version {version} with naming {naming} is unknown to this version")
    if not 0 < samples <= MAX_SAMPLES or not 0 < count <= MAX_PARTS:
        raise BadColumns(f"{count} batches of {samples} times and values are none, or more than a signal block's")
    rest = Section(data[_HEADER.size :])
    digest = rest.take(DIGEST_BYTES) if naming == Naming.DIGEST else b""
    plain, loose = Section(_inflated(rest.take(frame_bytes))), Section(rest.rest())
    schema = _schema(plain, digest, schema_of)
    return Block(schema, _batches(plain, loose, schema, count, samples))


def _inflated(frame: bytes) -> bytes:
    try:
        # A frame that declares its size is inflated to it whatever the limit says, so look before.
        if not 0 <= zstandard.frame_content_size(frame) <= MAX_PLAIN_BYTES:
            raise BadColumns(f"the block doesn't say that it inflates to {MAX_PLAIN_BYTES} bytes or less")
        return _zstd.decompressor.decompress(frame, max_output_size=MAX_PLAIN_BYTES, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise BadColumns(f"the block can't be inflated: {error}") from error


def _schema(plain: Section, digest: bytes, schema_of: SchemaOf) -> Schema:
    if not digest:
        return unpack_names(plain.take(plain.one()))
    if (schema := schema_of(digest)) is None:
        raise UnknownSchema(digest)
    return schema


def _batches(plain: Section, loose: Section, schema: Schema, count: int, samples: int) -> tuple[Columns, ...]:
    heads = _heads(plain, schema, count)
    of_columns = [(head.rows, form) for head in heads for form in _forms(head, schema)]
    if sum(rows for rows, _ in of_columns) != samples:
        raise BadColumns(f"the block's batches don't have the {samples} times and values that its header says")
    spans = Spans(np.array([rows for rows, _ in of_columns], np.int64))
    kinds = [form for _, form in of_columns]
    row, disguises = _row(plain, loose, spans, kinds.count(Form.FLOAT))
    columns = iter(np.split(row, spans.starts[1:]))
    revealed = iter(disguises)
    return tuple(parts.batch(head, schema.groups[head.group], columns, revealed) for head in heads)


def _forms(head: Head, schema: Schema) -> list[Form]:
    """Of the part's columns, its times first."""
    return [Form.INT, *parts.forms(head, schema.groups[head.group])]


def _heads(plain: Section, schema: Schema, count: int) -> list[Head]:
    groups, rows, paces = (plain.numbers(count, width).tolist() for width in (2, 4, 8))
    if max(groups) >= len(schema.groups) or min(rows) < 1:
        raise BadColumns("a batch has no rows, or is of a group that its schema doesn't have")
    parts.check_paces(paces)
    widths = [len(schema.groups[group].signals) for group in groups]
    if count + sum(widths) > MAX_COLUMNS:
        raise BadColumns(f"{count + sum(widths)} columns are more than a signal block's {MAX_COLUMNS}")
    told = np.unpackbits(np.frombuffer(plain.take(-(-sum(widths) // 8)), np.uint8), count=sum(widths)).astype(np.bool_)
    masks = np.split(told, np.cumsum(widths)[:-1])
    return [Head(*fields) for fields in zip(groups, rows, paces, masks, strict=True)]


def _row(plain: Section, loose: Section, spans: Spans, floats: int) -> tuple[Ints, list[int]]:
    columns = len(spans.lengths)
    packed, sizes = plain.small(columns), plain.small(columns)
    packings, ways = np.divmod(packed, 1 << _PACKING_SHIFT)
    _check_choices(ways, packings, sizes, spans)
    disguises = plain.small(floats).tolist()
    parts.check_disguises(disguises)
    heads = unzigzag(plain.numbers(int(HEADS[ways].sum()), 8))
    kept = numbers.read(plain, loose, Layout(packings, sizes, spans.counts(ways)))
    plain.end()
    loose.end()
    return restore(kept, ways, heads, spans), disguises


def _check_choices(ways: Ints, packings: Ints, sizes: Ints, spans: Spans) -> None:
    if ways.max() > max(Way) or packings.max() > max(Packing):
        raise BadColumns("a column is told in a way that is unknown to this version")
    if (sizes > MAX_SIZES[packings]).any() or (spans.lengths[ways == Way.DELTA2] < 2).any():
        raise BadColumns("a column's numbers are wider than any, or fewer than its heads")
