"""Units of measure as DBC files write them, and the straight lines between those of one kind."""

from __future__ import annotations

import math
from typing import Final

# What is measured, and how its base unit comes of this one: base = value * factor + offset.
_UNITS: Final[dict[str, tuple[str, float, float]]] = {
    "km/h": ("speed", 1 / 3.6, 0.0),
    "m/s": ("speed", 1.0, 0.0),
    "mph": ("speed", 0.44704, 0.0),
    "m/s^2": ("acceleration", 1.0, 0.0),
    "g": ("acceleration", 9.80665, 0.0),
    "degrees": ("angle", 1.0, 0.0),
    "rad": ("angle", 180 / math.pi, 0.0),
    "degrees/s": ("angular velocity", 1.0, 0.0),
    "rad/s": ("angular velocity", 180 / math.pi, 0.0),
    "celsius": ("temperature", 1.0, 0.0),
    "fahrenheit": ("temperature", 5 / 9, -160 / 9),
    "kelvin": ("temperature", 1.0, -273.15),
    "m": ("length", 1.0, 0.0),
    "km": ("length", 1000.0, 0.0),
    "mi": ("length", 1609.344, 0.0),
    "kPa": ("pressure", 1.0, 0.0),
    "bar": ("pressure", 100.0, 0.0),
    "psi": ("pressure", 6.894757293168361, 0.0),
    "percent": ("share", 1.0, 0.0),
    "rpm": ("rotation", 1.0, 0.0),
    "V": ("voltage", 1.0, 0.0),
    "mV": ("voltage", 0.001, 0.0),
    "A": ("current", 1.0, 0.0),
    "mA": ("current", 0.001, 0.0),
    "s": ("duration", 1.0, 0.0),
    "ms": ("duration", 0.001, 0.0),
    "Nm": ("torque", 1.0, 0.0),
    "l": ("volume", 1.0, 0.0),
}

_ALIASES: Final[dict[str, str]] = {
    "kph": "km/h", "kmh": "km/h", "km/hr": "km/h", "kmph": "km/h", "mi/h": "mph", "m/s2": "m/s^2", "m/s/s": "m/s^2",
    "m/s²": "m/s^2", "m/s^s": "m/s^2", "deg": "degrees", "°": "degrees", "degree": "degrees", "deg/s": "degrees/s",
    "deg/sec": "degrees/s", "°/s": "degrees/s", "degree/s": "degrees/s", "°c": "celsius", "c": "celsius",
    "degc": "celsius", "°f": "fahrenheit", "f": "fahrenheit", "degf": "fahrenheit", "k": "kelvin", "%": "percent",
    "1/min": "rpm", "meters": "m", "kpa": "kPa", "nm": "Nm", "n-m": "Nm", "n.m": "Nm", "v": "V", "volt": "V",
    "a": "A", "amp": "A", "mv": "mV", "sec": "s", "seconds": "s", "liter": "l", "litre": "l", "radians": "rad",
}  # fmt: skip

KNOWN: Final = tuple(_UNITS)


def unit_of(written: str) -> str:
    """The one name that a unit has here; what isn't known stays as it was written."""
    written = written.strip()
    return written if written in _UNITS else _ALIASES.get(written.lower(), written)


def conversion(given: str, wanted: str) -> tuple[float, float] | None:
    """(factor, offset) with wanted = given * factor + offset; None when no line between the two is known."""
    given, wanted = unit_of(given), unit_of(wanted)
    if given == wanted:
        return 1.0, 0.0
    if given not in _UNITS or wanted not in _UNITS:
        return None
    kind, factor, offset = _UNITS[given]
    other, wanted_factor, wanted_offset = _UNITS[wanted]
    if kind != other:
        return None
    return factor / wanted_factor, (offset - wanted_offset) / wanted_factor
