"""What signals look like in number: groups of signals that always come together, and batches of their values.

A group is a CAN message, one branch of a multiplexed one, or what another source always tells at once; one column of
times serves all its signals. Values stay as raw as the bus has them, `physical = raw * scale + offset`: nothing is lost
on the way, and whoever reads them scales.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

DIGEST_BYTES: Final = 16

Values = NDArray[np.int64] | NDArray[np.uint64] | NDArray[np.float64]


class Form(StrEnum):
    """What a raw value is."""

    INT = "int"  # int64
    UINT = "uint"  # uint64: 64 bits that have no sign
    FLOAT = "float"  # float64; holds every float32

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype({Form.INT: np.int64, Form.UINT: np.uint64, Form.FLOAT: np.float64}[self])


@dataclass(frozen=True, slots=True)
class SignalSpec:
    """One signal. `path` is its VSS path, by which everything inside knows it; `unit` is what scaling gives."""

    path: str
    form: Form = Form.FLOAT
    scale: float = 1.0
    offset: float = 0.0
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """Signals that always come together. `period_us` is how far apart, about; None where it isn't known."""

    name: str
    signals: tuple[SignalSpec, ...]
    period_us: int | None = None


@dataclass(frozen=True)
class Schema:
    """All groups of a vehicle; a group's index in it is its number on the wire. No path comes twice in a group."""

    groups: tuple[Group, ...]

    @cached_property
    def digest(self) -> bytes:
        """Names it: the first 16 bytes of the SHA-256 of its canonical MessagePack."""
        fields = [[group.name, group.period_us, [_fields(signal) for signal in group.signals]] for group in self.groups]
        return hashlib.sha256(msgspec.msgpack.encode(fields)).digest()[:DIGEST_BYTES]


@dataclass(frozen=True, slots=True)
class Columns:
    """A batch of one group: `t_ns` (n,) int64, boot time, not descending; `values` has one array (n,) of the form's
    type for each signal of the group, None for those that aren't told."""

    group: int
    t_ns: NDArray[np.int64]
    values: tuple[Values | None, ...]

    def __len__(self) -> int:
        return len(self.t_ns)


def _fields(spec: SignalSpec) -> list[Any]:
    return [spec.path, spec.form.value, spec.scale, spec.offset, spec.unit, spec.minimum, spec.maximum]


def physical(spec: SignalSpec, raw: Values) -> NDArray[np.float64]:
    """(n,) float64 in the signal's unit."""
    return raw.astype(np.float64) * spec.scale + spec.offset
