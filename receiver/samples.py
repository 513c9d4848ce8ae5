"""The samples that a stored record tells: rows of path, time and value out of its signal block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from telemetry.columns.block import Block, SchemaOf, decode
from telemetry.records import SignalBlock, Stored, decode_event
from telemetry.signals.schema import SignalSpec, physical

_Column = tuple[SignalSpec, NDArray[np.int64], NDArray[np.float64]]
_AT_ONCE: Final = 4096


@dataclass(frozen=True, slots=True)
class SampleRow:
    """One value of one signal, in `unit`. `t_ns` is the vehicle's boot time, in whole microseconds; `wall_ns` what its
    computer's wall clock would have said then, by what it said of the record."""

    path: str
    t_ns: int
    wall_ns: int
    value: float
    unit: str


def rows_of(record: Stored, schema_of: SchemaOf) -> Iterator[SampleRow]:
    """By rising time, then by path; none of a record that is no signal block. They are made as they are taken: a block
    of 96 KiB can hold a million.

    Raises, before any is taken, BadColumns for a block that can't be read, UnknownSchema, which names it, where
    `schema_of` doesn't know it, and msgspec.DecodeError for what is no event of this version. A float64 holds integers
    to 2^53: whoever needs longer ones to the last bit takes the raw values of `telemetry.columns.block.decode`.
    """
    event = decode_event(bytes(record.event))
    if not isinstance(event, SignalBlock):
        return iter(())
    return _rows(_columns(decode(event.columns, schema_of)), record.wall_ns - record.captured_ns)


def _columns(block: Block) -> list[_Column]:
    """Of the signals that are told, by path."""
    with np.errstate(all="ignore"):  # an inline block's scales are the vehicle's word
        told = [
            (spec, part.t_ns, physical(spec, raw))
            for part in block.parts
            for spec, raw in zip(block.schema.groups[part.group].signals, part.values, strict=True)
            if raw is not None
        ]
    return sorted(told, key=lambda column: column[0].path)


def _rows(columns: list[_Column], to_wall_ns: int) -> Iterator[SampleRow]:
    if not columns:
        return
    t_ns = np.concatenate([column[1] for column in columns])
    values = np.concatenate([column[2] for column in columns])
    of = np.repeat(np.arange(len(columns)), [len(column[1]) for column in columns])
    order = np.argsort(t_ns, kind="stable")
    for start in range(0, len(order), _AT_ONCE):
        some = order[start : start + _AT_ONCE]
        for at, value, number in zip(t_ns[some].tolist(), values[some].tolist(), of[some].tolist(), strict=True):
            spec = columns[number][0]
            yield SampleRow(spec.path, at, at + to_wall_ns, value, spec.unit)
