"""One rollout over vehicles that come online when they like, report late, or fall silent.

All chance is drawn before; every decision is the receiver's own (receiver/rollouts/decide.py), asked after each report.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from receiver.rollouts.cohorts import wanted
from receiver.rollouts.decide import Decision, Move, Standing, Tally, decide, turns
from receiver.rollouts.rules import Rules, ladder

STRATA: Final[Mapping[str, int]] = MappingProxyType({"aarch64-a": 6000, "aarch64-b": 2500, "x86-a": 1000, "x86-b": 500})
DAY_S: Final = 86_400.0
_AT_ONCE_S: Final = 60.0
_EXPOSED, _COMMITTED, _FAILED, _LOOK, _ABSENT, _LATE = range(6)
_HELD_UP: Final = (_COMMITTED, _ABSENT, _LOOK)
"""After these more may have it."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class World:
    """`failing`: the share of each stratum's vehicles that the release fails on; of these `silent` never say so, and
    the others tell sooner than the good do. `never`: the share that isn't online in all the time; `at_once`: all others
    are, whenever their turn comes."""

    failing: Mapping[str, float]
    silent: float = 0.3
    never: float = 0.01
    at_once: bool = False
    sizes: Mapping[str, int] = field(default_factory=lambda: STRATA)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a rollout ended. `reached`: vehicles that had the release, of which it `failed` on some; `whole_s`: when the
    last wave opened, None if it never did."""

    move: Move
    reached: int
    failed: int
    holds: int
    whole_s: float | None
    ended_s: float


@dataclass(frozen=True, slots=True)
class _Fate:
    """What will be of a stratum's vehicles, in the order of their turns."""

    comes_s: Numbers
    told_s: Numbers
    fails: NDArray[np.bool_]


class Run:
    """A rollout from its first wave to its end. `people_go_on`: whoever is asked at a hold says yes."""

    def __init__(self, rules: Rules, world: World, rng: np.random.Generator, people_go_on: bool = False) -> None:
        self._rules = rules
        self._steps = ladder(rules)
        self._fates = {name: _fate(rules, world, name, rng) for name in world.sizes}
        self._strata = {name: Tally(size) for name, size in world.sizes.items()}
        self._had = dict.fromkeys(world.sizes, 0)
        self._people_go_on = people_go_on
        self._events = list[tuple[float, int, str]]()
        self._now_s = self._opened_s = 0.0
        self._step, self._holds, self._go_on, self._is_held, self._is_listed = 0, 0, False, False, False

    def play(self) -> Ended:
        self._open(0)
        while self._events:
            self._now_s, kind, stratum = heapq.heappop(self._events)
            self._count(kind, stratum)
            if kind not in (_EXPOSED, _ABSENT, _LATE) and (end := self._look()) is not None:
                return end
            if kind in _HELD_UP:
                self._list()
        return self._ended(Move.HOLD)

    def _look(self) -> Ended | None:
        open_s = self._now_s - self._opened_s
        decision = decide(self._rules, Standing(self._step, open_s, self._strata, go_on=self._go_on))
        match decision.move:
            case Move.HALT | Move.FINISH:
                return self._ended(decision.move)
            case Move.HOLD:
                self._hold()
            case Move.OPEN:
                self._open(decision.step)
            case Move.WAIT:
                pass
        return None

    def _hold(self) -> None:
        if not self._is_held:
            self._holds, self._is_held = self._holds + 1, True
            if self._people_go_on:
                # A day later.
                self._go_on = True
                self._schedule([(self._now_s + DAY_S, _LOOK, "")])

    def _open(self, step: int) -> None:
        self._step, self._opened_s, self._go_on, self._is_held = step, self._now_s, False, False
        self._schedule([(self._now_s + after_s, _LOOK, "") for after_s in (self._rules.soak_s, self._rules.patience_s)])
        self._is_listed = False
        self._list()

    def _list(self) -> None:
        """Those whose turn it is."""
        if self._is_listed:
            return
        standing = Standing(self._step, 0, self._strata)
        may = turns(self._rules, standing)
        for name, count in may.items():
            if count > self._had[name]:
                self._schedule(self._fates_of(name, slice(self._had[name], count)))
                self._had[name] = count
        due = (wanted(self._steps[self._step], its.size) for its in self._strata.values())
        self._is_listed = sum(may.values()) == sum(due)

    def _fates_of(self, name: str, part: slice) -> list[tuple[float, int, str]]:
        fate = self._fates[name]
        comes, told, fails = fate.comes_s[part], fate.told_s[part], fate.fails[part]
        there, soak_s = np.isfinite(comes), self._rules.soak_s
        at = self._now_s + comes[there]
        new = [(time, _EXPOSED, name) for time in at.tolist()]
        ends = np.where(fails[there], _FAILED, _COMMITTED).tolist()
        new += [(time, end, name) for time, end in zip((at + told[there]).tolist(), ends, strict=True)]
        new += [(self._now_s + soak_s, _ABSENT, name)] * int(np.count_nonzero(comes > soak_s))
        return new + [(time, _LATE, name) for time in at[comes[there] > soak_s].tolist()]

    def _schedule(self, new: list[tuple[float, int, str]]) -> None:
        for event in new:
            heapq.heappush(self._events, event)

    def _count(self, kind: int, stratum: str) -> None:
        if kind == _LOOK:
            return
        old = self._strata[stratum]
        grown = (kind == _EXPOSED, kind == _COMMITTED, kind == _FAILED)
        counts = (old.exposed + grown[0], old.committed + grown[1], old.failed + grown[2])
        absent = old.absent + (kind == _ABSENT) - (kind == _LATE)
        self._strata[stratum] = Tally(old.size, *counts, absent=absent)

    def _ended(self, move: Move) -> Ended:
        reached = sum(its.exposed for its in self._strata.values())
        failed = sum(its.failed for its in self._strata.values())
        whole_s = self._opened_s if self._step == len(self._steps) - 1 else None
        return Ended(move, reached, failed, self._holds, whole_s, self._now_s)


def _fate(rules: Rules, world: World, name: str, rng: np.random.Generator) -> _Fate:
    """Most come within a day, some within days, few within two weeks; a trial takes an hour or a day."""
    size = world.sizes[name]
    kind = rng.random(size)
    comes = np.select([kind < 0.7, kind < 0.95], [rng.random(size) * 0.5, 0.5 + rng.random(size) * 3.0],
                      4.0 + rng.random(size) * 8.0) * DAY_S  # fmt: skip
    if world.at_once:
        comes = rng.random(size) * _AT_ONCE_S
    comes[rng.random(size) < world.never] = np.inf
    fails = rng.random(size) < world.failing[name]
    hour_s = DAY_S / 24
    good_s = np.minimum(hour_s * rng.lognormal(0.5, 1.0, size), DAY_S)
    bad_s = np.where(rng.random(size) < world.silent, rules.silence_s, hour_s * rng.random(size) / 2)
    return _Fate(comes, np.where(fails, bad_s, good_s), fails)


def everywhere(failing: float, world: World | None = None) -> World:
    """One rate in all strata."""
    world = world or World({})
    return replace(world, failing=dict.fromkeys(world.sizes, failing))


def runs(rules: Rules, world: World, count: int, seed: int, people_go_on: bool = False) -> list[Ended]:
    """That many, each with chance of its own."""
    return [Run(rules, world, np.random.default_rng([seed, number]), people_go_on).play() for number in range(count)]


__all__ = ["DAY_S", "STRATA", "Decision", "Ended", "Run", "World", "everywhere", "runs"]
