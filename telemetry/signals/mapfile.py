"""The map file: which signal of which message has which VSS path. TOML; docs/formats/signal-plan.md shows one."""

from __future__ import annotations

import math
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ecu.errors import UsageFault, shown
from ecu.toml import Keys, line_of, nearest

_PATH: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z0-9_]+)*")
_MESSAGE: Final = re.compile(r"(?P<name>[^@]+)(@(?P<bus>[0-9]{1,3}))?")
_KEYS: Final = ("path", "unit", "factor", "offset")
PERIOD_KEY: Final = "period_ms"
MAX_PATH: Final = 200


@dataclass(frozen=True, slots=True)
class Mapping:
    """A line: the signal's `path` in `unit`. `line` is (factor, offset) where the file gives it: path's value =
    signal's value * factor + offset; None: as the units say."""

    keys: Keys
    message: str
    bus: int | None
    signal: str
    path: str
    unit: str | None = None
    straight: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Period:
    """How far apart a message's frames are, about, where its DBC file doesn't say it."""

    keys: Keys
    message: str
    bus: int | None
    period_us: int


@dataclass(frozen=True, slots=True)
class MapFile:
    """A whole map. `fault` tells what is wrong at one of its keys, with file and line."""

    name: str
    text: str
    mappings: tuple[Mapping, ...] = ()
    periods: tuple[Period, ...] = ()

    def fault(self, keys: Keys, reason: str) -> UsageFault:
        return _fault(self.name, self.text, keys, reason)


NO_MAP: Final = MapFile("no map", "")


def load_map(path: Path) -> MapFile:
    """Raises UsageFault with file, line and reason."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageFault(f"Can't read {shown(path)}: {error.strerror}. Give an existing file to --map.") from error
    except UnicodeDecodeError as error:
        raise UsageFault(f"{shown(path)} isn't UTF-8 text at byte {error.start}. Save it as UTF-8.") from error
    return parse_map(text, str(path))


def parse_map(text: str, name: str) -> MapFile:
    """`name` is the file's, for messages. Raises UsageFault with file, line and reason."""
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageFault(f"{shown(name)} isn't TOML: {error}. See https://toml.io for how to write it.") from error
    mappings: list[Mapping] = []
    periods: list[Period] = []
    for header, table in document.items():
        message, bus = _message(name, text, header, table)
        for signal, given in table.items():
            keys = (header, signal)
            if signal == PERIOD_KEY and not isinstance(given, (str, dict)):
                periods.append(Period(keys, message, bus, _period_us(name, text, keys, given)))
            else:
                mappings.append(_mapping(name, text, Mapping(keys, message, bus, signal, ""), given))
    _refuse_twice(name, text, mappings)
    return MapFile(name, text, tuple(mappings), tuple(periods))


def _message(name: str, text: str, header: str, table: Any) -> tuple[str, int | None]:
    match = _MESSAGE.fullmatch(header)
    if not isinstance(table, dict) or match is None:
        raise _fault(name, text, (header,), 'is no table: write [MESSAGE], or ["MESSAGE@1"] for that of bus 1')
    return match["name"], None if match["bus"] is None else int(match["bus"])


def _period_us(name: str, text: str, keys: Keys, given: Any) -> int:
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not 0.001 <= given <= 3_600_000:
        raise _fault(name, text, keys, f"can't be {given!r}: milliseconds, from 0.001 to an hour's")
    return round(given * 1000)


def _mapping(name: str, text: str, blank: Mapping, given: Any) -> Mapping:
    keys = blank.keys
    entry = {"path": given} if isinstance(given, str) else given
    if not isinstance(entry, dict):
        raise _fault(name, text, keys, f"can't be {given!r}: write a VSS path, or a table with {', '.join(_KEYS)}")
    for key in entry:
        if key not in _KEYS:
            like = nearest(key, _KEYS)
            raise _fault(name, text, keys, f"has the unknown key {key!r}. {_known(like, _KEYS)}")
    path, unit = entry.get("path"), entry.get("unit")
    if not isinstance(path, str) or not _PATH.fullmatch(path) or len(path) > MAX_PATH:
        raise _fault(name, text, keys, f"{path!r} is no path: names of letters, digits and _ with dots between")
    if unit is not None and not (isinstance(unit, str) and unit.isprintable() and len(unit) <= MAX_PATH):
        raise _fault(name, text, keys, f"{unit!r} is no unit")
    return Mapping(keys, blank.message, blank.bus, blank.signal, path, unit, _straight(name, text, keys, entry))


def _straight(name: str, text: str, keys: Keys, entry: dict[str, Any]) -> tuple[float, float] | None:
    if "factor" not in entry and "offset" not in entry:
        return None
    numbers = [entry.get("factor", 1.0), entry.get("offset", 0.0)]
    if any(isinstance(number, bool) or not isinstance(number, (int, float)) for number in numbers):
        raise _fault(name, text, keys, "factor and offset are numbers")
    factor, offset = map(float, numbers)
    if not math.isfinite(factor) or factor == 0 or not math.isfinite(offset):
        raise _fault(name, text, keys, f"factor {factor} and offset {offset} give no values")
    return factor, offset


def _refuse_twice(name: str, text: str, mappings: list[Mapping]) -> None:
    first: dict[str, Mapping] = {}
    for mapping in mappings:
        if (other := first.setdefault(mapping.path, mapping)) is not mapping:
            where = line_of(text, other.keys)
            raise _fault(
                name, text, mapping.keys, f"the path {mapping.path} is {other.signal}'s already (line {where})"
            )


def _known(like: str | None, known: tuple[str, ...]) -> str:
    return f"Did you mean {like}?" if like else f"The keys here are {', '.join(known)}."


def _fault(name: str, text: str, keys: Keys, reason: str) -> UsageFault:
    line = line_of(text, keys)
    where = f"{shown(name)}:{line}" if line is not None else shown(name)
    end = "" if reason.endswith((".", "?")) else "."
    return UsageFault(f"{where}: {shown('.'.join(map(str, keys)))}: {shown(reason)}{end}")
