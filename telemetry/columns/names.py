"""What an inline block says of its signals: MessagePack of groups, as a schema's digest is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from telemetry.columns.errors import BadColumns
from telemetry.signals.schema import Columns, Form, Group, Schema, SignalSpec

MAX_NAMES_BYTES: Final = 512 * 1024
"""Of the groups' MessagePack: what bounds the memory that reading it takes."""


class _Signal(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    path: str
    form: Form
    scale: float
    offset: float
    unit: str
    minimum: float | None
    maximum: float | None


class _Group(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    name: str
    period_us: int | None
    signals: list[_Signal]


_decoder: Final = msgspec.msgpack.Decoder(list[_Group])


def told_alone(parts: Sequence[Columns], schema: Schema) -> tuple[list[Columns], Schema]:
    """The parts over a schema of what they tell and nothing else: groups in the order in which they first come, and of
    each only those signals that any of its parts tells."""
    told: dict[int, NDArray[np.bool_]] = {}
    for part in parts:
        mask = np.array([values is not None for values in part.values], np.bool_)
        told[part.group] = told.get(part.group, False) | mask
    places = {group: np.flatnonzero(mask).tolist() for group, mask in told.items()}
    numbers = {group: number for number, group in enumerate(told)}
    groups = tuple(_only(schema.groups[group], kept) for group, kept in places.items())
    alone = [
        Columns(numbers[part.group], part.t_ns, tuple(part.values[place] for place in places[part.group]))
        for part in parts
    ]
    return alone, Schema(groups)


def _only(group: Group, places: Sequence[int]) -> Group:
    return Group(group.name, tuple(group.signals[place] for place in places), group.period_us)


def pack_names(schema: Schema) -> bytes:
    """Raises ValueError when it is more than a block may say."""
    data = msgspec.msgpack.encode([_wire(group) for group in schema.groups])
    if len(data) > MAX_NAMES_BYTES:
        raise ValueError(f"{len(data)} bytes of names are more than a signal block's {MAX_NAMES_BYTES}")
    return data


def unpack_names(data: bytes) -> Schema:
    """Raises BadColumns."""
    if len(data) > MAX_NAMES_BYTES:
        raise BadColumns(f"{len(data)} bytes of names are more than a signal block's {MAX_NAMES_BYTES}")
    try:
        groups = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadColumns(f"the block's names can't be read: {error}") from error
    for group in groups:
        if len({signal.path for signal in group.signals}) != len(group.signals):
            raise BadColumns(f"the block's group {group.name!r} names a signal twice")
    return Schema(tuple(_group(group) for group in groups))


def _wire(group: Group) -> _Group:
    return _Group(group.name, group.period_us, [_Signal(*_fields(signal)) for signal in group.signals])


def _fields(spec: SignalSpec) -> tuple[Any, ...]:
    return spec.path, spec.form, spec.scale, spec.offset, spec.unit, spec.minimum, spec.maximum


def _group(wire: _Group) -> Group:
    signals = tuple(SignalSpec(s.path, s.form, s.scale, s.offset, s.unit, s.minimum, s.maximum) for s in wire.signals)
    return Group(wire.name, signals, wire.period_us)
