"""Ten minutes of a bus that nobody recorded: 50 signals in 12 messages, from a seed.

Messages come at 100, 50, 20 and 10 Hz with 150 us of jitter. Most signals are slow walks seen through a sensor whose
noise is one step of the raw value; the last one of a message, and of a slow message the last two, are states that
change about once in 3,000 messages. There are no counters and no constants: they would flatter who keeps raw values.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.random import Generator, default_rng
from numpy.typing import NDArray

from ecu.clock import SECOND_NS
from telemetry.signals.schema import Columns, Form, Group, Schema, SignalSpec

SECONDS: Final = 600
SEED: Final = 7

_RATES_HZ: Final = (100, 100, 100, 50, 50, 50, 20, 20, 20, 10, 10, 10)
_SIGNALS: Final = (5, 5, 4, 5, 4, 4, 4, 4, 4, 4, 4, 3)
_RANGES: Final = (
    (0.0, 250.0, 0.01), (-10.0, 10.0, 0.001), (-780.0, 780.0, 0.1), (0.0, 8000.0, 0.25), (-400.0, 400.0, 0.5),
    (0.0, 100.0, 0.4), (-40.0, 215.0, 1.0), (0.0, 16.0, 0.001), (0.0, 1023.0, 1.0),
)  # fmt: skip
"""Lowest and highest value, and how much one step of the raw value is: speeds, accelerations, angles and the like."""
_JITTER_US: Final = 150.0
_SMOOTH_S: Final = 1.5
_SLOW_HZ: Final = 20
_MESSAGES_A_STATE: Final = 3000


def fifty_signals(seconds: int = SECONDS, seed: int = SEED) -> tuple[Schema, list[Columns]]:
    """Their schema and one batch of each message; times in whole microseconds from about 0 on."""
    chance = default_rng(seed)
    made = [_message(chance, number, seconds) for number in range(len(_RATES_HZ))]
    return Schema(tuple(group for group, _ in made)), [batch for _, batch in made]


def _message(chance: Generator, number: int, seconds: int) -> tuple[Group, Columns]:
    rate_hz, signals = _RATES_HZ[number], _SIGNALS[number]
    rows = int(seconds * rate_hz * 0.999)
    t_us = np.sort(np.arange(1, rows + 1) * (1e6 / rate_hz) + chance.normal(0, _JITTER_US, rows)).astype(np.int64)
    specs, values = [], []
    for place in range(signals):
        scale, offset, raw = _signal(chance, rows, rate_hz, signals - place)
        specs.append(SignalSpec(f"Vehicle.Private.Message{number}.Signal{place}", Form.INT, scale, offset))
        values.append(raw)
    group = Group(f"message{number}", tuple(specs), 1_000_000 // rate_hz)
    return group, Columns(number, t_us * 1000, tuple(values))


def _signal(chance: Generator, rows: int, rate_hz: int, from_end: int) -> tuple[float, float, NDArray[np.int64]]:
    if from_end == 1:
        return 1.0, 0.0, _states(chance, rows, 4)
    if from_end == 2 and rate_hz <= _SLOW_HZ:
        return 1.0, 0.0, _states(chance, rows, 2)
    low, high, step = _RANGES[chance.integers(len(_RANGES))]
    return step, low, _walk(chance, rows, rate_hz, (high - low) / step)


def _walk(chance: Generator, rows: int, rate_hz: int, steps: float) -> NDArray[np.int64]:
    """Raw values within `steps` of 0, swinging through the middle 70 % of them."""
    width = max(1, int(rate_hz * _SMOOTH_S))
    smooth: NDArray[Any] = np.cumsum(np.convolve(chance.normal(0, 1, rows), np.ones(width) / width, "same"))
    swing = np.sin(smooth / max(1e-9, float(np.abs(smooth).max())) * 6)
    noisy = steps * (0.5 + 0.35 * swing) + chance.normal(0, 1, rows)
    return np.clip(np.round(noisy), 0, 65535).astype(np.int64)


def _states(chance: Generator, rows: int, states: int) -> NDArray[np.int64]:
    changes = np.sort(chance.choice(rows, rows // _MESSAGES_A_STATE + 1, replace=False))
    held = np.concatenate([[0], chance.integers(0, states, len(changes))])
    return held[np.searchsorted(changes, np.arange(rows), "right")]


def between(batches: list[Columns], start_ns: int, end_ns: int) -> list[Columns]:
    """The rows from `start_ns` until before `end_ns`, of batches that have some."""
    cut = []
    for batch in batches:
        first, last = np.searchsorted(batch.t_ns, [start_ns, end_ns]).tolist()
        if last > first:
            values = tuple(None if column is None else column[first:last] for column in batch.values)
            cut.append(Columns(batch.group, batch.t_ns[first:last], values))
    return cut


def windows(batches: list[Columns], seconds: int) -> list[list[Columns]]:
    """All rows, cut every `seconds`."""
    first = min(int(batch.t_ns[0]) for batch in batches)
    last = max(int(batch.t_ns[-1]) for batch in batches)
    step = seconds * SECOND_NS
    cut = (between(batches, start, start + step) for start in range(first, last + 1, step))
    return [window for window in cut if window]


def samples_in(batches: list[Columns]) -> int:
    """Values, without their times."""
    return sum(len(batch) * sum(values is not None for values in batch.values) for batch in batches)
