"""What a GNSS receiver says in NMEA 0183: RMC (position, course, time and date) and GGA (altitude).

Sentences come as bytes of any stream, cut anywhere, and are true when they come. What the receiver marks as invalid, as
simulated or as typed in by somebody isn't told at all: a position that isn't known is no position.
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from typing import Final

import numpy as np

from ecu.clock import SECOND_NS
from telemetry.signals import vss
from telemetry.signals.schema import Columns, Form, Group, SignalSpec

MAX_SENTENCE: Final = 128  # the standard says 82; receivers of higher precision need more
_DEGREES: Final = 1e-9
_HUNDREDTHS: Final = 0.01
_PERIOD_US: Final = 1_000_000

# What a receiver tells comes apart: one that stands has no course, one that sees three satellites no altitude.
GNSS_GROUPS: Final = (
    Group(
        "GNSS.Position",
        (
            SignalSpec(vss.LATITUDE, Form.INT, _DEGREES, 0.0, "degrees", -90.0, 90.0),
            SignalSpec(vss.LONGITUDE, Form.INT, _DEGREES, 0.0, "degrees", -180.0, 180.0),
        ),
        _PERIOD_US,
    ),
    Group("GNSS.Heading", (SignalSpec(vss.HEADING, Form.INT, _HUNDREDTHS, 0.0, "degrees", 0.0, 360.0),), _PERIOD_US),
    Group("GNSS.Altitude", (SignalSpec(vss.ALTITUDE, Form.INT, _HUNDREDTHS, 0.0, "m", -1e3, 2e4),), _PERIOD_US),
)
"""What the reader's columns are of, in this order."""

_SENTENCE: Final = re.compile(rb"\$([A-Z]{2}|P)([A-Z]{3}),([ -)+-~]*)\*([0-9A-Fa-f]{2})")
_TIME: Final = re.compile(r"([0-9]{2})([0-9]{2})([0-9]{2})(\.[0-9]{1,9})?")
_DATE: Final = re.compile(r"([0-9]{2})([0-9]{2})([0-9]{2})")
_ANGLE: Final = re.compile(r"([0-9]{1,3})([0-9]{2}\.[0-9]{1,10}|[0-9]{2})")
_NUMBER: Final = re.compile(r"-?[0-9]{1,6}(\.[0-9]{1,9})?")
_TRUE_MODES: Final = ("", "A", "D", "P", "R", "F")  # NMEA 0183 4.11, RMC: autonomous, differential, precise, RTK
_TRUE_QUALITIES: Final = ("1", "2", "3", "4", "5")  # GGA: without estimated, manual and simulated
_CENTURY_TURN: Final = 80


@dataclass(frozen=True, slots=True)
class TimeSaid:
    """UTC as the receiver has it, ns since 1970, at boot time `t_ns`. Unsigned: nothing may be believed older or newer
    by it alone."""

    t_ns: int
    wall_ns: int


@dataclass(frozen=True, slots=True)
class NmeaStatus:
    """`damaged` sentences had a wrong checksum or no form, `invalid` ones said themselves that they know nothing."""

    taken: int = 0
    damaged: int = 0
    invalid: int = 0


class NmeaReader:
    """Takes a stream's bytes as they come. `first_group` is the schema's number of the first of GNSS_GROUPS."""

    def __init__(self, first_group: int = 0) -> None:
        self._first_group = first_group
        self._line = b""
        self._taken = self._damaged = self._invalid = 0
        self._last_ns = -1

    def status(self) -> NmeaStatus:
        return NmeaStatus(self._taken, self._damaged, self._invalid)

    def feed(self, data: bytes, now_ns: int) -> tuple[list[Columns], list[TimeSaid]]:
        """What has become whole, true at boot time `now_ns`."""
        *lines, self._line = (self._line + data).replace(b"\r", b"\n").split(b"\n")
        if len(self._line) > MAX_SENTENCE:
            self._line = b""
            self._damaged += 1
        columns: list[Columns] = []
        times: list[TimeSaid] = []
        for line in filter(None, lines):
            self._take(line, max(now_ns, self._last_ns), columns, times)
        self._last_ns = max(now_ns, self._last_ns)
        return columns, times

    def _take(self, line: bytes, t_ns: int, columns: list[Columns], times: list[TimeSaid]) -> None:
        match = _SENTENCE.fullmatch(line) if len(line) <= MAX_SENTENCE else None
        if match is None or _checksum(line[1 : line.rindex(b"*")]) != int(match[4], 16):
            self._damaged += 1
            return
        fields = match[3].decode("ascii").split(",")
        if match[2] not in (b"RMC", b"GGA"):
            return
        raws = _rmc(fields) if match[2] == b"RMC" else _gga(fields)
        self._taken += raws is not None
        self._invalid += raws is None
        for group, values in (raws or {}).items():
            arrays = tuple(np.array([value], np.int64) for value in values)
            columns.append(Columns(self._first_group + group, np.array([t_ns], np.int64), arrays))
        if raws and match[2] == b"RMC" and (wall_ns := _utc_ns(fields[0], fields[8])) is not None:
            times.append(TimeSaid(t_ns, wall_ns))


def _checksum(content: bytes) -> int:
    total = 0
    for byte in content:
        total ^= byte
    return total


def _rmc(fields: list[str]) -> dict[int, tuple[int, ...]] | None:
    """Raw values by group; None when the receiver knows no position."""
    if len(fields) < 9 or fields[1] != "A" or (len(fields) > 11 and fields[11] not in _TRUE_MODES):
        return None
    latitude = _angle(fields[2], fields[3], "NS", 90)
    longitude = _angle(fields[4], fields[5], "EW", 180)
    if latitude is None or longitude is None:
        return None
    raws: dict[int, tuple[int, ...]] = {0: (latitude, longitude)}
    course = _hundredths(fields[7])
    if course is not None and 0 <= course <= 36_000:
        raws[1] = (course,)
    return raws


def _gga(fields: list[str]) -> dict[int, tuple[int, ...]] | None:
    if len(fields) < 10 or fields[5] not in _TRUE_QUALITIES or fields[9] != "M":
        return None
    altitude = _hundredths(fields[8])
    return None if altitude is None else {2: (altitude,)}


def _angle(text: str, side: str, sides: str, most_degrees: int) -> int | None:
    """Billionths of a degree of ddmm.mmmm; None for what is no such angle."""
    match = _ANGLE.fullmatch(text)
    if match is None or side not in tuple(sides):
        return None
    minutes, _, fraction = match[2].partition(".")
    # Whole numbers to the end: a sixtieth is no binary fraction. 6e11 of these make a degree.
    parts = int(minutes) * 10**10 + int(fraction.ljust(10, "0"))
    raw = int(match[1]) * 10**9 + (parts + 300) // 600
    if int(minutes) >= 60 or raw > most_degrees * 10**9:
        return None
    return -raw if side == sides[1] else raw


def _hundredths(text: str) -> int | None:
    return round(float(text) * 100) if _NUMBER.fullmatch(text) else None


def _utc_ns(time: str, date: str) -> int | None:
    clock, day = _TIME.fullmatch(time), _DATE.fullmatch(date)
    if clock is None or day is None:
        return None
    year = int(day[3])
    year += 1900 if year >= _CENTURY_TURN else 2000
    try:
        # A leap second is the next minute's first one here, as POSIX has it.
        second = min(int(clock[3]), 59)
        instant = datetime.datetime(
            year, int(day[2]), int(day[1]), int(clock[1]), int(clock[2]), second, tzinfo=datetime.UTC
        )
    except ValueError:
        return None
    leap = int(clock[3]) - second
    return (int(instant.timestamp()) + leap) * SECOND_NS + int((clock[4] or ".")[1:].ljust(9, "0"))
