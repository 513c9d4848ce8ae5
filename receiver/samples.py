"""The samples that a stored record tells: rows of path, time and value out of its signal block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from telemetry.columns.block import Block, SchemaOf, decode
from telemetry.records import SignalBlock, Stored, decode_event
from telemetry.signals.schema import Columns, physical


@dataclass(frozen=True, slots=True)
class SampleRow:
    """One value of one signal, in `unit`. `t_ns` is the vehicle's boot time, in whole microseconds; `wall_ns` what its
    computer's wall clock would have said then, by what it said of the record."""

    path: str
    t_ns: int
    wall_ns: int
    value: float
    unit: str


def rows_of(record: Stored, schema_of: SchemaOf) -> list[SampleRow]:
    """By rising time, then by path; none of a record that is no signal block.

    Raises BadColumns for a block that can't be read, UnknownSchema, which names it, where `schema_of` doesn't know it,
    and msgspec.DecodeError for what is no event of this version. A float64 holds integers to 2^53: whoever needs longer
    ones to the last bit takes the raw values of `telemetry.columns.block.decode`.
    """
    event = decode_event(bytes(record.event))
    if not isinstance(event, SignalBlock):
        return []
    block = decode(event.columns, schema_of)
    rows = [row for part in block.parts for row in _rows(block, part, record.wall_ns - record.captured_ns)]
    return sorted(rows, key=lambda row: (row.t_ns, row.path))


def _rows(block: Block, part: Columns, to_wall_ns: int) -> Iterator[SampleRow]:
    for spec, raw in zip(block.schema.groups[part.group].signals, part.values, strict=True):
        if raw is not None:
            for t_ns, value in zip(part.t_ns.tolist(), physical(spec, raw).tolist(), strict=True):
                yield SampleRow(spec.path, t_ns, t_ns + to_wall_ns, value, spec.unit)
