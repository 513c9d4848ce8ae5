"""What decoding CAN costs: our plan beside cantools on the same frames, of DBC files in a real car's style and size."""

from __future__ import annotations

import importlib.util
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np

from simulator.bench.metric import Metric, unless
from telemetry.signals.decode import Decoder
from telemetry.signals.frames import EXTENDED, Frames, concat, keys
from telemetry.signals.plan import SignalPlan, load_plan
from telemetry.signals.recording import open_recording

DRIVE: Final = Path(__file__).parents[1] / "drives" / "comma2k19-rav4"
BATCH: Final = 2000
SMALL_BATCH: Final = 50
PAIRS: Final = 9
MIN_FRAMES_S: Final = 1e6
MESSAGES: Final = 40
SIGNALS_A_MESSAGE: Final = 18
PEER_FRAMES: Final = 400


def run() -> list[Metric]:
    return [*_recorded(), *_made(), Metric("load", os.getloadavg()[0], "", "of the machine, as this ended")]


def _recorded() -> list[Metric]:
    """The recorded minute: what of it the plan names is a part of what a bus has."""
    plan = load_plan(DRIVE.with_suffix(".plan").read_bytes())
    whole = concat(list(open_recording(DRIVE.with_suffix(".frames").read_bytes()).chunks()))
    known = np.isin(keys(whole), [source.bus << 32 | source.can_id for source in plan.sources])
    named = whole.rows(np.flatnonzero(known))
    minute, alone, small = (
        frames / _cpu_s(plan, batches_of, size)
        for frames, batches_of, size in (
            (len(whole), whole, BATCH), (len(named), named, BATCH), (len(whole), whole, SMALL_BATCH)
        )
    )  # fmt: skip
    how = f"{BATCH} a batch, {len(named):,} of {len(whole):,} frames in the plan"
    return [
        Metric("recorded minute", minute, "frames/s", how, MIN_FRAMES_S, "at least"),
        Metric("recorded minute, the plan's frames alone", alone, "frames/s", how, MIN_FRAMES_S, "at least"),
        Metric("recorded minute in small batches", small, "frames/s", f"{SMALL_BATCH} a batch"),
    ]


def _cpu_s(plan: SignalPlan, frames: Frames, size: int) -> float:
    decoder = Decoder(plan)
    batches = [frames.rows(slice(begin, begin + size)) for begin in range(0, len(frames), size)]
    return median(_spent_s(lambda: [decoder.decode(batch) for batch in batches]) for _ in range(PAIRS))


@dataclass(frozen=True, slots=True)
class _Made:
    """Frames a second of a bus of our own making, and of the `peer`, a name and a version; `beside`: how often that."""

    frames_s: float = math.nan
    peer: str = ""
    peer_frames_s: float = math.nan
    beside: float = math.nan


def _made() -> list[Metric]:
    if importlib.util.find_spec("cantools") is None:
        return _made_rows(_Made(), "cantools isn't installed here (pip install 'outrider[can]')")
    return _made_rows(_decoded_in_turns(), None)


def _made_rows(made: _Made, missing: str | None) -> list[Metric]:
    what = f"{MESSAGES} messages of {SIGNALS_A_MESSAGE} signals, both byte orders"
    return unless(
        missing,
        Metric("made bus", made.frames_s, "frames/s", f"{BATCH} a batch, {what}", MIN_FRAMES_S, "at least"),
        Metric("made bus, signals", SIGNALS_A_MESSAGE * made.frames_s, "signals/s", what),
        Metric("made bus, cantools", made.peer_frames_s, "frames/s",
               f"{made.peer}, the same frames"),
        Metric("beside cantools", made.beside, "x", "median of the pairs"),
    )  # fmt: skip


def _decoded_in_turns() -> _Made:
    """Every frame is named, and cantools decodes the same ones."""
    import cantools

    from telemetry.signals.dbc import DbcText, compile_plan

    text = _dbc_text()
    database = cantools.database.can.Database()
    database.add_dbc_string(text)
    plan = compile_plan([DbcText("bench.dbc", text)])
    frames, messages = _frames(database.messages)
    decoder, batch = Decoder(plan), frames.rows(slice(0, BATCH))
    rows = [(messages[at], frames.data[at, : frames.length[at]].tobytes()) for at in range(PEER_FRAMES)]

    def peer() -> None:
        for message, data in rows:
            message.decode(data, decode_choices=False, scaling=False)

    pairs = [(_spent_s(lambda: decoder.decode(batch)) / BATCH, _spent_s(peer) / PEER_FRAMES) for _ in range(PAIRS)]
    ours_s, peer_s = median(ours for ours, _ in pairs), median(theirs for _, theirs in pairs)
    beside = median(theirs / ours for ours, theirs in pairs)
    return _Made(1 / ours_s, f"cantools {cantools.__version__}", 1 / peer_s, beside)


def _dbc_text() -> str:
    """Signals of 1 to 7 bits side by side through eight bytes, in either byte order, some signed."""
    lines = ['VERSION ""', "", "BU_: A", ""]
    for number in range(MESSAGES):
        big, at = number % 2, 0
        lines.append(f"BO_ {256 + number} M{number}: 8 A")
        for signal in range(SIGNALS_A_MESSAGE):
            bits = 1 + (signal * 5 + number) % 6
            bits = min(bits, 64 - at - (SIGNALS_A_MESSAGE - 1 - signal))
            start = at // 8 * 8 + 7 - at % 8 if big else at
            sign = "-" if signal % 3 == 0 and bits > 1 else "+"
            lines.append(f' SG_ S{signal} : {start}|{bits}@{1 - big}{sign} (0.1,-5) [0|0] "km/h" A')
            at += bits
        lines.append("")
    return "\n".join(lines)


def _frames(messages: list[Any]) -> tuple[Frames, list[Any]]:
    rng = np.random.default_rng(1)
    which = rng.integers(0, len(messages), BATCH)
    ids = np.array([m.frame_id | (EXTENDED if m.is_extended_frame else 0) for m in messages], np.uint32)
    data = rng.integers(0, 256, (BATCH, 8), dtype=np.uint8)
    lengths = np.full(BATCH, 8, np.uint8)
    frames = Frames(np.arange(BATCH, dtype=np.int64), np.zeros(BATCH, np.uint8), ids[which], lengths, data)
    return frames, [messages[at] for at in which]


def _spent_s(work: Callable[[], Any]) -> float:
    began_ns = time.process_time_ns()
    work()
    return (time.process_time_ns() - began_ns) / 1e9
