"""A part's times: microseconds, told as how far each is from an even pace."""

from __future__ import annotations

from typing import Final

import numpy as np

from telemetry.columns.flat import Ints

US: Final = 1000
"""Nanoseconds in the unit that is told."""
PACE_BITS: Final = 16
"""A pace is told in 2^-16 microseconds a row."""
MAX_PACE: Final = 1 << 46


def to_us(t_ns: Ints) -> Ints:
    """Rounded down: what came in whole microseconds comes back as it was."""
    return t_ns // US


def line(pace: int, rows: int) -> Ints:
    """(rows,): how far an even pace has come at each row, microseconds."""
    return (np.arange(rows) * np.int64(pace)) >> PACE_BITS


def nominal_pace(period_us: int | None) -> int:
    """What a schema's period is as a pace; 0 where it isn't known, or is none."""
    return period_us << PACE_BITS if period_us is not None and 0 < period_us < MAX_PACE >> PACE_BITS else 0


def learn_pace(t_us: Ints, nominal: int) -> int:
    """The mean step, gaps and bursts left out; `nominal` where that tells the times as well."""
    if len(t_us) < 3:
        return nominal
    steps = t_us[1:] - t_us[:-1]
    usual = int(np.partition(steps, len(steps) // 2)[len(steps) // 2])
    if not 0 < usual < MAX_PACE >> (PACE_BITS + 1):
        return nominal
    near = steps[(steps >= usual // 2) & (steps <= usual * 2)]
    pace = (int(near.sum()) << PACE_BITS) // len(near)
    strays_us = abs(pace - nominal) * len(t_us) >> PACE_BITS
    jitter_us = int(np.abs(near - usual).sum()) // len(near)
    return nominal if strays_us <= jitter_us else pace
