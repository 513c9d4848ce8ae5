"""How the simulated vehicle moves: a highway cruise with a hard brake now and then, in closed form.

Every quantity is a pure function of the drive time, so that any instant can be asked for without the ones before it:
speed is the exact integral of acceleration, and the way driven the exact integral of speed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import Final

CRUISE_MS: Final = 27.0
SWAY_MS: Final = 0.6
SWAY_PERIOD_S: Final = 31.0

BRAKE_PEAK_MS2: Final = 6.5
BRAKE_S: Final = 2.0
RECOVER_S: Final = 8.0
MANOEUVRE_S: Final = BRAKE_S + RECOVER_S
_SPEED_LOST_MS: Final = BRAKE_PEAK_MS2 * BRAKE_S / 2
_RECOVER_PEAK_MS2: Final = _SPEED_LOST_MS * 2 / RECOVER_S

CYCLE_S: Final = 20.0
FIRST_BRAKE_S: Final = 5.0
LAST_BRAKE_S: Final = 9.0
assert LAST_BRAKE_S + MANOEUVRE_S <= CYCLE_S, "a manoeuvre ends within its own cycle"


@dataclass(frozen=True, slots=True)
class Motion:
    """m, m/s and m/s^2 along the road; `braking_ms2` is the brakes' own share, 0 or more."""

    driven_m: float
    speed_ms: float
    acceleration_ms2: float
    braking_ms2: float


class DrivePlan:
    """When to brake hard: at `brakes_s` (seconds of drive time), or by the seed once in every 20 s cycle.

    Raises ValueError for brakes less than ten seconds apart or before the start: the vehicle couldn't do both.
    """

    def __init__(self, seed: int = 0, brakes_s: Sequence[float] | None = None) -> None:
        self._seed = seed
        self._brakes_s = None if brakes_s is None else tuple(sorted(brakes_s))
        self._sway_phase = Random(f"sway/{seed}").uniform(0.0, 2 * math.pi)
        planned = self._brakes_s or ()
        gaps = [later - earlier for earlier, later in pairwise(planned)]
        if any(start < 0 for start in planned) or any(gap < MANOEUVRE_S for gap in gaps):
            raise ValueError(f"hard brakes at {list(planned)} s: let them be {MANOEUVRE_S:g} s apart, none before 0")

    def brake_s(self, cycle: int) -> float:
        """When the seed's hard brake of that cycle begins."""
        return cycle * CYCLE_S + Random(f"brake/{self._seed}/{cycle}").uniform(FIRST_BRAKE_S, LAST_BRAKE_S)

    def _begun(self, t_s: float) -> Iterator[float]:
        """Seconds since each hard brake that began up to `t_s` and may not be over."""
        if self._brakes_s is not None:
            yield from (t_s - start for start in self._brakes_s if start <= t_s)
        elif (since := t_s - self.brake_s(int(t_s // CYCLE_S))) >= 0:
            yield since

    def motion(self, t_s: float) -> Motion:
        """The motion after `t_s >= 0` seconds of driving."""
        driven, speed, acceleration = _sway(t_s, self._sway_phase)
        driven += CRUISE_MS * t_s
        if self._brakes_s is None:
            driven -= (t_s // CYCLE_S) * _WAY_LOST_M
        braking = 0.0
        for since_s in self._begun(t_s):
            way_m, dip_ms, push_ms2 = _manoeuvre(since_s)
            driven, speed, acceleration = driven + way_m, speed + dip_ms, acceleration + push_ms2
            braking = max(braking, -push_ms2)
        return Motion(driven, CRUISE_MS + speed, acceleration, max(0.0, braking))


def _sway(t_s: float, phase: float) -> tuple[float, float, float]:
    """(m, m/s, m/s^2) of a driver's foot that is never quite steady."""
    w = 2 * math.pi / SWAY_PERIOD_S
    at = w * t_s + phase
    return SWAY_MS / w * (math.cos(phase) - math.cos(at)), SWAY_MS * math.sin(at), SWAY_MS * w * math.cos(at)


def _manoeuvre(since_s: float) -> tuple[float, float, float]:
    """(m, m/s, m/s^2) that a hard brake and the recovery from it add to the cruise, `since_s` after it began."""
    if since_s < BRAKE_S:
        way_m, speed_ms, push_ms2 = _pulse(since_s, BRAKE_S, BRAKE_PEAK_MS2)
        return -way_m, -speed_ms, -push_ms2
    braked_m = -_pulse(BRAKE_S, BRAKE_S, BRAKE_PEAK_MS2)[0]
    after_s = min(since_s - BRAKE_S, RECOVER_S)
    way_m, speed_ms, push_ms2 = _pulse(after_s, RECOVER_S, _RECOVER_PEAK_MS2)
    return braked_m - _SPEED_LOST_MS * after_s + way_m, speed_ms - _SPEED_LOST_MS, push_ms2


def _pulse(t_s: float, length_s: float, peak_ms2: float) -> tuple[float, float, float]:
    """(m, m/s, m/s^2) after `t_s` of the acceleration peak * sin^2(pi t / length): no jolt at either end."""
    w = 2 * math.pi / length_s
    return (
        peak_ms2 / 2 * (t_s * t_s / 2 + (math.cos(w * t_s) - 1) / (w * w)),
        peak_ms2 / 2 * (t_s - math.sin(w * t_s) / w),
        peak_ms2 * math.sin(math.pi * t_s / length_s) ** 2,
    )


_WAY_LOST_M: Final = -_manoeuvre(MANOEUVRE_S)[0]
