"""A batch as columns of integers, and back: its times first, then each signal that it tells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from telemetry.columns.decimals import AS_BITS, FLOAT32, MAX_DIGITS, disguise, reveal
from telemetry.columns.errors import BadColumns
from telemetry.columns.flat import Ints
from telemetry.columns.times import MAX_PACE, US, learn_pace, line, nominal_pace, to_us
from telemetry.signals.schema import Columns, Form, Group, Schema, Values

MAX_GROUPS: Final = 1 << 16
"""Of a schema that blocks can speak of: a group is told in two bytes."""
_MAX_US: Final = ((1 << 63) - 1) // US
_NO_DISGUISE: Final = -1
_DTYPES: Final = {form: form.dtype for form in Form}


@dataclass(frozen=True, slots=True)
class Told:
    """A part as it is told. `pace` is 0 where the schema's period is; `disguises` has one of each column but the times:
    how a float is told, -1 for integers."""

    pace: int
    columns: list[Ints]
    disguises: list[int]


@dataclass(frozen=True, slots=True)
class Head:
    """What a block says of a part before its columns: `mask` says which signals of the group are told."""

    group: int
    rows: int
    pace: int
    mask: NDArray[np.bool_]


def check(parts: Sequence[Columns], schema: Schema) -> None:
    """Raises ValueError for what is no batch of the schema."""
    for part in parts:
        if not 0 <= part.group < min(len(schema.groups), MAX_GROUPS):
            raise ValueError(f"there is no group {part.group} in a schema of {len(schema.groups)}")
        group = schema.groups[part.group]
        if len(part.values) != len(group.signals):
            raise ValueError(f"{group.name} has {len(group.signals)} signals, the batch {len(part.values)} columns")
        if part.t_ns.dtype != np.int64 or (part.t_ns[1:] < part.t_ns[:-1]).any():
            raise ValueError(f"the times of {group.name} are no rising int64")
        for spec, values in zip(group.signals, part.values, strict=True):
            if values is not None and (values.dtype != _DTYPES[spec.form] or values.shape != part.t_ns.shape):
                raise ValueError(f"{spec.path}: {values.shape} of {values.dtype}, not {part.t_ns.shape} of {spec.form}")


def told(part: Columns, group: Group) -> Told:
    t_us, nominal = to_us(part.t_ns), nominal_pace(group.period_us)
    pace = learn_pace(t_us, nominal)
    columns, disguises = [t_us - line(pace, len(t_us))], []
    for values in part.values:
        if values is not None:
            kind, column = _as_ints(values)
            columns.append(column)
            disguises.append(kind)
    return Told(0 if pace == nominal else pace, columns, disguises)


def _as_ints(values: Values) -> tuple[int, Ints]:
    if values.dtype == np.float64:
        return disguise(np.ascontiguousarray(values, np.float64))
    return _NO_DISGUISE, values.view(np.int64)


def forms(head: Head, group: Group) -> list[Form]:
    """Of the told signals, in their order."""
    return [spec.form for spec, is_told in zip(group.signals, head.mask.tolist(), strict=True) if is_told]


def batch(head: Head, group: Group, columns: Iterator[Ints], disguises: Iterator[int]) -> Columns:
    """The part again; takes its columns and disguises from the iterators. Raises BadColumns."""
    t_us = next(columns) + line(head.pace or nominal_pace(group.period_us), head.rows)
    if (t_us[1:] < t_us[:-1]).any() or abs(int(t_us[0])) > _MAX_US or abs(int(t_us[-1])) > _MAX_US:
        raise BadColumns(f"the times of {group.name} don't rise, or are none")
    values = tuple(
        _as_values(spec.form, next(columns), disguises) if is_told else None
        for spec, is_told in zip(group.signals, head.mask.tolist(), strict=True)
    )
    return Columns(head.group, t_us * US, values)


def _as_values(form: Form, column: Ints, disguises: Iterator[int]) -> Values:
    match form:
        case Form.INT:
            return column
        case Form.UINT:
            return column.view(np.uint64)
        case Form.FLOAT:
            return reveal(next(disguises), column)


def check_paces(paces: Sequence[int]) -> None:
    if any(pace >= MAX_PACE for pace in paces):
        raise BadColumns(f"a pace of {max(paces)} is beyond {MAX_PACE}")


def check_disguises(kinds: Sequence[int]) -> None:
    for kind in kinds:
        if kind > MAX_DIGITS and kind not in (FLOAT32, AS_BITS):
            raise BadColumns(f"floats told as {kind} are unknown to this version")
