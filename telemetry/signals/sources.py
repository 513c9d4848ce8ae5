"""Which source of frames a URL names. Imports numpy: for the process that reads one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Final
from urllib.parse import parse_qsl

from ecu.clock import Clock
from ecu.errors import UsageFault, shown
from telemetry.signals.farend import unix_dial
from telemetry.signals.framesource import LIMITS, BatchLimits, FrameSource
from telemetry.signals.recording import RecordingRefused, open_recording
from telemetry.signals.replay import RecordingSource
from telemetry.signals.socketcan import SocketCan, can_bus
from telemetry.signals.unixbus import UnixBus

MAX_RECORDING_BYTES: Final = 1 << 30
_KNOWN: Final = "can:INTERFACE[,INTERFACE...], bus:PATH or frames:FILE[?rate=R&loop=1]"


def open_frames(url: str, clock: Clock, rng: Random, limits: BatchLimits = LIMITS) -> FrameSource:
    """The source that `url` names, not begun yet. Interfaces are buses 0, 1, ... in the order in which they are named.

    Raises UsageFault for a URL that names none, or a recording that can't be read.
    """
    scheme, _, rest = url.partition(":")
    match scheme:
        case "can" if rest:
            return SocketCan([can_bus(interface) for interface in rest.split(",")], clock, rng, limits)
        case "bus" if rest:
            return UnixBus(unix_dial(f"unix:{rest}"), clock, rng, limits)
        case "frames" if rest:
            return _recorded(rest, clock, limits)
        case _:
            raise UsageFault(f"{shown(repr(url))} names no bus: write {_KNOWN}.")


def _recorded(rest: str, clock: Clock, limits: BatchLimits) -> RecordingSource:
    path, _, query = rest.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    if unknown := options.keys() - {"rate", "loop"}:
        names = ", ".join(map(shown, sorted(unknown)))
        raise UsageFault(f"frames:{shown(path)} has no option {names}: write {_KNOWN}.")
    try:
        data = _read(Path(path))
        return RecordingSource(open_recording(data, path), clock, _rate(options), options.get("loop") == "1", limits)
    except RecordingRefused as refused:
        raise UsageFault(str(refused)) from refused


def _rate(options: Mapping[str, str]) -> float:
    try:
        rate = float(options.get("rate", "1"))
    except ValueError:
        rate = 0.0
    if not math.isfinite(rate) or rate <= 0:
        raise UsageFault(f"rate={shown(options['rate'])} is no rate: 1 is as fast as it was recorded.")
    return rate


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_RECORDING_BYTES + 1)
    except OSError as error:
        raise UsageFault(f"The recording {shown(path)} can't be read: {error.strerror}.") from error
    if len(data) > MAX_RECORDING_BYTES:
        raise UsageFault(f"The recording {shown(path)} has more than {MAX_RECORDING_BYTES} bytes. Cut it in parts.")
    return data
