"""How signals are cut out of CAN frames: what a DBC file and its map say, compiled off the car.

The file (docs/formats/signal-plan.md) is signed as part of a release; its own bytes are still believed nothing: every
number is checked before any of it is used. The same plan always has the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from ecu.errors import shown
from telemetry.records import TelemetryError
from telemetry.signals.frames import EXTENDED, EXTENDED_IDS, FD_BYTES, STANDARD_IDS
from telemetry.signals.schema import Form, Group, Schema, SignalSpec

PLAN_FILE: Final = "signals.plan"
MAX_PLAN_BYTES: Final = 8 * 1024 * 1024
MAX_GROUPS: Final = 4096
MAX_SIGNALS: Final = 32_768
MAX_GROUP_SIGNALS: Final = 512
MAX_DEPTH: Final = 4
MAX_RANGES: Final = 1024
MAX_PERIOD_US: Final = 3_600_000_000
FLOAT_BITS: Final = (16, 32, 64)

_MAGIC: Final = b"ORP1"


class PlanFileRefused(TelemetryError):
    """The file is no signal plan that this version takes. The one before stays in use.

    `fault` is what is wrong with it, and where.
    """

    def __init__(self, name: str, fault: str, advice: str = "Compile it again from its DBC files.") -> None:
        super().__init__(f"{shown(name)}: {fault}. {advice}")
        self.fault = fault


@dataclass(frozen=True, slots=True)
class Cut:
    """Where in a frame's data a number lies. `start` is the bit before which it begins, counted as its byte order
    counts: from the lowest bit of the first byte (little-endian), or from the highest (big-endian)."""

    start: int
    bits: int
    big_endian: bool = False
    signed: bool = False
    real: bool = False
    """IEEE 754, of 16, 32 or 64 bits."""

    @property
    def needs_bytes(self) -> int:
        """A frame has to have so many for it."""
        return -(-(self.start + self.bits) // 8)

    @property
    def form(self) -> Form:
        if self.real:
            return Form.FLOAT
        return Form.UINT if self.bits == 64 and not self.signed else Form.INT


@dataclass(frozen=True, slots=True)
class Branch:
    """Only frames whose selector is in one of the ranges, both ends included."""

    selector: Cut
    ranges: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class GroupCut:
    """The frames of one group, and where each of its signals lies in them. All branches have to be met."""

    bus: int
    can_id: int
    branches: tuple[Branch, ...]
    cuts: tuple[Cut, ...]

    @property
    def needs_bytes(self) -> int:
        selectors = (branch.selector.needs_bytes for branch in self.branches)
        return max([*selectors, *(cut.needs_bytes for cut in self.cuts)])


@dataclass(frozen=True, slots=True)
class SignalPlan:
    """`sources` has one line for each group of `schema`, in its order."""

    schema: Schema
    sources: tuple[GroupCut, ...]


_Text = Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f-\x9f]{0,200}\Z", max_length=200)]
_Path = Annotated[str, Meta(pattern=r"^[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z0-9_]+)*\Z", max_length=200)]
_Bit = Annotated[int, Meta(ge=0, lt=FD_BYTES * 8)]
_Bits = Annotated[int, Meta(ge=1, le=64)]
_Raw = Annotated[int, Meta(ge=-(1 << 62), le=1 << 62)]


class _CutRow(Struct, forbid_unknown_fields=True):
    start: _Bit
    bits: _Bits
    big_endian: bool
    signed: bool
    real: bool


class _BranchRow(Struct, forbid_unknown_fields=True):
    selector: _CutRow
    ranges: Annotated[list[tuple[_Raw, _Raw]], Meta(min_length=1, max_length=MAX_RANGES)]


class _SignalRow(Struct, forbid_unknown_fields=True):
    path: _Path
    cut: _CutRow
    scale: float
    offset: float
    unit: _Text
    minimum: float | None
    maximum: float | None


class _GroupRow(Struct, forbid_unknown_fields=True):
    name: _Text
    bus: Annotated[int, Meta(ge=0, le=255)]
    can_id: Annotated[int, Meta(ge=0, lt=EXTENDED + EXTENDED_IDS)]
    signals: Annotated[list[_SignalRow], Meta(min_length=1, max_length=MAX_GROUP_SIGNALS)]
    period_us: Annotated[int, Meta(ge=1, le=MAX_PERIOD_US)] | None
    branches: Annotated[list[_BranchRow], Meta(max_length=MAX_DEPTH)]


class _File(Struct, forbid_unknown_fields=True):
    version: Literal[1]
    groups: Annotated[list[_GroupRow], Meta(max_length=MAX_GROUPS)]


_decoder = msgspec.msgpack.Decoder(_File)
_encoder = msgspec.msgpack.Encoder()


def encode_plan(plan: SignalPlan) -> bytes:
    """The plan's canonical bytes: every field is there, in its order, as the shortest MessagePack."""
    rows = [_group_row(group, cut) for group, cut in zip(plan.schema.groups, plan.sources, strict=True)]
    return _MAGIC + _encoder.encode(_File(1, rows))


def load_plan(data: bytes, name: str = PLAN_FILE) -> SignalPlan:
    """Raises PlanFileRefused with the place and the reason; `name` is the file's, for the message."""
    file = _decoded(data, name)
    for place, reason in _flaws(file):
        raise PlanFileRefused(name, f"{place}: {reason}")
    plan = SignalPlan(
        Schema(tuple(_group(row) for row in file.groups)), tuple(_group_cut(row) for row in file.groups)
    )  # fmt: skip
    if encode_plan(plan) != data:
        raise PlanFileRefused(name, "it isn't written the one way that there is")
    return plan


def _decoded(data: bytes, name: str) -> _File:
    if len(data) > MAX_PLAN_BYTES:
        raise PlanFileRefused(name, f"it has {len(data)} bytes, the most are {MAX_PLAN_BYTES}", "Leave signals out.")
    if data[: len(_MAGIC)] != _MAGIC:
        raise PlanFileRefused(name, "it doesn't begin as a signal plan", "Compile one: outrider signals compile.")
    try:
        return _decoder.decode(data[len(_MAGIC) :])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PlanFileRefused(name, shown(error)) from error


def _flaws(file: _File) -> Iterator[tuple[str, str]]:
    """Where, and what is wrong, of what no type says."""
    if sum(len(group.signals) for group in file.groups) > MAX_SIGNALS:
        yield "all groups together", f"more than {MAX_SIGNALS} signals"
    paths: set[str] = set()
    for number, group in enumerate(file.groups):
        place = f"group {number} ({shown(group.name)})"
        if not is_can_id(group.can_id):
            yield place, f"{group.can_id:#x} is no CAN id"
        for branch in group.branches:
            yield from ((place, reason) for reason in _branch_flaws(branch))
        for signal in group.signals:
            there = f"{place}, signal {signal.path}"
            if signal.path in paths:
                yield there, "the path comes twice"
            paths.add(signal.path)
            yield from ((there, reason) for reason in _signal_flaws(signal))


def is_can_id(can_id: int) -> bool:
    return can_id < STANDARD_IDS or EXTENDED <= can_id < EXTENDED + EXTENDED_IDS


def _branch_flaws(row: _BranchRow) -> Iterator[str]:
    yield from _cut_flaws(row.selector)
    if row.selector.real or row.selector.bits == 64:
        yield "a selector is a whole number of fewer than 64 bits"
    ends = [end for pair in row.ranges for end in pair]
    if any(low > high for low, high in row.ranges) or ends != sorted(ends):
        yield "ranges of a selector overlap, or aren't in order"


def _signal_flaws(row: _SignalRow) -> Iterator[str]:
    yield from _cut_flaws(row.cut)
    if not math.isfinite(row.scale) or row.scale == 0 or not math.isfinite(row.offset):
        yield f"scale {row.scale} and offset {row.offset} give no values"
    limits = [limit for limit in (row.minimum, row.maximum) if limit is not None]
    if not all(map(math.isfinite, limits)) or limits != sorted(limits):
        yield f"from {row.minimum} to {row.maximum} is no range"


def _cut_flaws(row: _CutRow) -> Iterator[str]:
    if row.start + row.bits > FD_BYTES * 8:
        yield f"bits {row.start} to {row.start + row.bits} are beyond the {FD_BYTES} bytes of a frame"
    if row.real and (row.bits not in FLOAT_BITS or row.signed):
        yield f"no floating-point number has {row.bits} bits, or a sign of its own"


def _group_row(group: Group, source: GroupCut) -> _GroupRow:
    signals = [
        _SignalRow(spec.path, _cut_row(cut), spec.scale, spec.offset, spec.unit, spec.minimum, spec.maximum)
        for spec, cut in zip(group.signals, source.cuts, strict=True)
    ]
    branches = [_BranchRow(_cut_row(branch.selector), list(branch.ranges)) for branch in source.branches]
    return _GroupRow(group.name, source.bus, source.can_id, signals, group.period_us, branches)


def _cut_row(cut: Cut) -> _CutRow:
    return _CutRow(cut.start, cut.bits, cut.big_endian, cut.signed, cut.real)


def _group(row: _GroupRow) -> Group:
    return Group(row.name, tuple(_spec(signal) for signal in row.signals), row.period_us)


def _spec(row: _SignalRow) -> SignalSpec:
    form = _cut(row.cut).form
    return SignalSpec(row.path, form, row.scale, row.offset, row.unit, row.minimum, row.maximum)


def _group_cut(row: _GroupRow) -> GroupCut:
    branches = tuple(Branch(_cut(branch.selector), tuple(branch.ranges)) for branch in row.branches)
    return GroupCut(row.bus, row.can_id, branches, tuple(_cut(signal.cut) for signal in row.signals))


def _cut(row: _CutRow) -> Cut:
    return Cut(row.start, row.bits, row.big_endian, row.signed, row.real)
