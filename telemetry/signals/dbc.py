"""DBC files and a map, compiled to a signal plan. Off the car: cantools (extra `can`) reads the files."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from ecu.errors import EnvironmentFault, UsageFault, shown
from ecu.toml import nearest
from telemetry.signals import vss
from telemetry.signals.frames import EXTENDED
from telemetry.signals.mapfile import NO_MAP, MapFile, Mapping
from telemetry.signals.plan import Branch, Cut, GroupCut, PlanFileRefused, SignalPlan, encode_plan, load_plan
from telemetry.signals.schema import Group, Schema, SignalSpec
from telemetry.signals.units import conversion, unit_of

PRIVATE: Final = "Vehicle.Private"
_NO_MESSAGE: Final = "VECTOR__INDEPENDENT_SIG_MSG"
_NOT_IN_A_PATH: Final = re.compile(r"[^A-Za-z0-9_]")
_MICROSECONDS: Final = 1000

Chain = tuple[Branch, ...]


@dataclass(frozen=True, slots=True)
class DbcText:
    """A DBC file: `name` is for messages; its frames are on `bus`."""

    name: str
    text: str
    bus: int = 0


@dataclass(frozen=True, slots=True)
class _Drawn:
    """A message as cantools has it, and the file and bus it is of."""

    source: DbcText
    message: Any

    @property
    def name(self) -> str:
        return str(self.message.name)

    @property
    def can_id(self) -> int:
        return int(self.message.frame_id) | (EXTENDED if self.message.is_extended_frame else 0)


def compile_plan(sources: Sequence[DbcText], mapped: MapFile = NO_MAP) -> SignalPlan:
    """The plan of all files together. Raises UsageFault for a DBC file or a map that can't be meant."""
    messages = [drawn for source in sources for drawn in _messages(source)]
    _refuse_same_ids(messages)
    lines = _resolved(messages, mapped)
    paths = _Paths({mapping.path for mapping in lines.values()})
    periods = _periods(messages, mapped)
    groups: list[Group] = []
    cuts: list[GroupCut] = []
    for at, drawn in enumerate(messages):
        for name, chain, signals in _groups_of(drawn):
            specs = tuple(_spec(mapped, drawn, signal, lines.get((at, str(signal.name))), paths) for signal in signals)
            groups.append(Group(name, specs, periods[at]))
            cuts.append(GroupCut(drawn.source.bus, drawn.can_id, chain, tuple(map(_cut, signals))))
    return _demand_valid(SignalPlan(Schema(tuple(groups)), tuple(cuts)))


def _demand_valid(plan: SignalPlan) -> SignalPlan:
    """What a vehicle would refuse is refused here."""
    try:
        return load_plan(encode_plan(plan))
    except PlanFileRefused as refused:
        raise UsageFault(f"No plan can be made of this: {refused.fault}. Correct its DBC file.") from refused


def _messages(source: DbcText) -> Iterator[_Drawn]:
    try:
        import cantools
    except ImportError as error:
        raise EnvironmentFault("DBC files need cantools: pip install 'outrider[can]'.") from error
    database = cantools.database.can.Database(strict=False)
    try:
        database.add_dbc_string(source.text)
    except Exception as error:  # its parser has no one error for a bad file
        raise UsageFault(f"{shown(source.name)} can't be read: {shown(error)}. Correct it there.") from error
    for message in database.messages:
        if message.signals and message.name != _NO_MESSAGE:
            yield _Drawn(source, message)


def _refuse_same_ids(messages: Sequence[_Drawn]) -> None:
    first: dict[tuple[int, int], _Drawn] = {}
    for drawn in messages:
        other = first.setdefault((drawn.source.bus, drawn.can_id), drawn)
        if other is not drawn:
            raise UsageFault(
                f"{shown(drawn.source.name)}: {drawn.name} has the id {drawn.can_id:#x} of {other.name} in"
                f" {shown(other.source.name)}, both on bus {drawn.source.bus}. Leave one out, or give each file"
                " its --bus."
            )


def _resolved(messages: Sequence[_Drawn], mapped: MapFile) -> dict[tuple[int, str], Mapping]:
    """The map's line for (message, signal), each checked to name one that there is."""
    lines: dict[tuple[int, str], Mapping] = {}
    for mapping in mapped.mappings:
        at = _named(messages, mapped, mapping)
        known = [str(signal.name) for signal in messages[at].message.signals]
        if mapping.signal not in known:
            hint = _hint(mapping.signal, known)
            raise mapped.fault(mapping.keys, f"{messages[at].name} has no signal {mapping.signal}. {hint}")
        if (at, mapping.signal) in lines:
            raise mapped.fault(mapping.keys, "the signal has a path already, under its message's other heading")
        lines[at, mapping.signal] = mapping
    return lines


def _named(messages: Sequence[_Drawn], mapped: MapFile, line: Any) -> int:
    found = [
        at
        for at, drawn in enumerate(messages)
        if drawn.name == line.message and line.bus in (None, drawn.source.bus)
    ]  # fmt: skip
    if not found:
        where = "" if line.bus is None else f" on bus {line.bus}"
        hint = _hint(line.message, sorted({drawn.name for drawn in messages}))
        raise mapped.fault(line.keys, f"there is no message {line.message}{where}. {hint}")
    if len(found) > 1:
        buses = ", ".join(f'["{line.message}@{messages[at].source.bus}"]' for at in found)
        raise mapped.fault(line.keys, f"several buses have a message {line.message}: write one of {buses}")
    return found[0]


def _hint(name: str, known: Sequence[str]) -> str:
    like = nearest(name, known)
    return f"Did you mean {like}?" if like else f"There are {', '.join(known[:8])}{' ...' if len(known) > 8 else ''}."


def _periods(messages: Sequence[_Drawn], mapped: MapFile) -> list[int | None]:
    periods = [int(drawn.message.cycle_time or 0) * _MICROSECONDS or None for drawn in messages]
    for period in mapped.periods:
        periods[_named(messages, mapped, period)] = period.period_us
    return periods


def _groups_of(drawn: _Drawn) -> list[tuple[str, Chain, list[Any]]]:
    """The signals that come in every frame, and those of each branch: signals with the same selectors and the same
    values of these always come together."""
    by_name = {signal.name: signal for signal in drawn.message.signals}
    groups: dict[Chain, list[Any]] = {}
    for signal in drawn.message.signals:
        groups.setdefault(_chain(drawn, by_name, signal), []).append(signal)
    ordered = sorted(groups.items(), key=lambda item: (len(item[0]), [branch.ranges for branch in item[0]]))
    prefix = drawn.name if drawn.source.bus == 0 else f"{drawn.name}@{drawn.source.bus}"
    return [(_group_name(prefix, by_name, chain, signals), chain, signals) for chain, signals in ordered]


def _chain(drawn: _Drawn, by_name: dict[str, Any], signal: Any) -> Chain:
    chain: list[Branch] = []
    seen = {signal.name}
    while signal.multiplexer_ids is not None:
        selector = by_name.get(signal.multiplexer_signal)
        if selector is None or selector.name in seen:
            raise UsageFault(
                f"{shown(drawn.source.name)}: {drawn.name}.{signal.name} hangs on no multiplexer. Correct it."
            )
        seen.add(selector.name)
        chain.append(Branch(_cut(selector), _ranges(signal.multiplexer_ids)))
        signal = selector
    return tuple(reversed(chain))


def _ranges(ids: Sequence[int]) -> tuple[tuple[int, int], ...]:
    ordered = sorted(set(ids))
    runs = itertools.groupby(enumerate(ordered), key=lambda pair: pair[1] - pair[0])
    ends = [[value for _, value in run] for _, run in runs]
    return tuple((run[0], run[-1]) for run in ends)


def _group_name(prefix: str, by_name: dict[str, Any], chain: Chain, signals: list[Any]) -> str:
    if not chain:
        return prefix
    selectors: list[str] = []
    signal = signals[0]
    while signal.multiplexer_ids is not None:
        signal = by_name[signal.multiplexer_signal]
        selectors.append(str(signal.name))
    parts = [f"{name}={_words(branch)}" for name, branch in zip(reversed(selectors), chain, strict=True)]
    name = f"{prefix}[{','.join(parts)}]"
    return name if len(name) <= 200 else f"{name[:196]}...]"


def _words(branch: Branch) -> str:
    return "|".join(str(low) if low == high else f"{low}-{high}" for low, high in branch.ranges)


def _cut(signal: Any) -> Cut:
    big_endian = signal.byte_order == "big_endian"
    start = int(signal.start)
    if big_endian:  # a DBC file counts each byte's bits from its lowest, whatever the byte order
        start = start // 8 * 8 + 7 - start % 8
    return Cut(
        start, int(signal.length), big_endian, bool(signal.is_signed) and not signal.is_float, bool(signal.is_float)
    )


class _Paths:
    """Names that nobody has yet. A map's paths are taken from the start."""

    def __init__(self, taken: set[str]) -> None:
        self._taken = taken

    def private(self, drawn: _Drawn, signal: Any) -> str:
        """Two buses may have a message of one name: the second is told by its bus."""
        parts = [_NOT_IN_A_PATH.sub("_", part) for part in (drawn.name, str(signal.name))]
        for prefix in (PRIVATE, f"{PRIVATE}.Bus{drawn.source.bus}"):
            path = ".".join([prefix, *parts])
            if path not in self._taken:
                self._taken.add(path)
                return path
        raise UsageFault(
            f"{shown(drawn.source.name)}: {drawn.name}.{signal.name} would be {path}, which another signal is. Map it."
        )


def _spec(mapped: MapFile, drawn: _Drawn, signal: Any, line: Mapping | None, paths: _Paths) -> SignalSpec:
    form = _cut(signal).form
    given = _printable(unit_of(str(signal.unit or "")))
    limits = (signal.minimum, signal.maximum)
    low, high = (None if limit is None else float(limit) for limit in limits)
    if low is not None and high is not None and low >= high:
        low, high = None, None  # DBC's [0|0] says nothing
    spec = SignalSpec("", form, float(signal.scale), float(signal.offset), given, low, high)
    if line is None:
        return replace(spec, path=paths.private(drawn, signal))
    return _converted(mapped, replace(spec, path=line.path), line)


def _converted(mapped: MapFile, spec: SignalSpec, line: Mapping) -> SignalSpec:
    """The signal in the unit of its line, or in VSS's for its path."""
    by_vss = vss.UNITS.get(spec.path)
    wanted = unit_of(line.unit) if line.unit is not None else by_vss or spec.unit
    if by_vss is not None and wanted != by_vss:
        raise mapped.fault(line.keys, f"{spec.path} is in {by_vss}, not in {wanted}")
    straight = line.straight or (conversion(spec.unit, wanted) if spec.unit else None)
    if straight is None and (spec.unit or line.unit is None):
        given = spec.unit or "no unit"
        raise mapped.fault(
            line.keys,
            f"the signal is in {given}, its path in {wanted}: nobody knows how the one becomes the other."
            " Write factor and offset, or the unit if the signal has it already.",
        )
    factor, offset = straight or (1.0, 0.0)
    ends = [None if end is None else end * factor + offset for end in (spec.minimum, spec.maximum)]
    low, high = ends if factor > 0 else reversed(ends)
    return replace(
        spec, scale=spec.scale * factor, offset=spec.offset * factor + offset, unit=wanted, minimum=low, maximum=high
    )


def _printable(text: str) -> str:
    return "".join(c for c in text if c.isprintable())[:200]
