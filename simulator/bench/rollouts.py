"""Releases over a simulated fleet, decided by the receiver's own rules with a look after every report: how far a bad
one gets, how often a fine one is halted, and what people are asked."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from receiver.rollouts import quality
from receiver.rollouts.decide import Move
from receiver.rollouts.rules import HALT_SHARES, Rules
from simulator.bench.director import director_metrics
from simulator.bench.metric import Metric
from simulator.rollouts.fleet import DAY_S, STRATA, Ended, World, everywhere, runs

RUNS: Final = 1000
FEW: Final = 200
SEED: Final = 20261
FLEET: Final = sum(STRATA.values())
CONTAINED_BAR: Final = 95.0
FALSE_HALTS_BAR: Final = 1.0
ASKED_BAR: Final = 6.0
"""4.2 by the first gate's list (adr/0017), and three standard errors of `RUNS`."""
ALONE_BAR: Final = 100.0 - ASKED_BAR
ALL_BAR: Final = 99.0
"""Nothing but a halt, which is rarer, may end it once people say yes."""
_LOSS: Final = 0.2
_SPREAD: Final = 0.15
_PAIRS: Final = 1000


def run(count: int = RUNS, few: int = FEW) -> list[Metric]:
    """`count` runs of the two that have bars, `few` of those that only inform."""
    rules, began = Rules(), time.process_time()
    metrics = [
        *_bad(rules, count),
        *_fine(rules, count),
        *_other_rates(rules, few),
        *_all_at_once(rules, few),
        *_one_stratum(rules, few),
        *_worse_quality(rules, few),
    ]
    metrics += director_metrics()
    return [*metrics, Metric("all of it", time.process_time() - began, "s", "CPU")]


def _bad(rules: Rules, count: int) -> list[Metric]:
    ended = runs(rules, everywhere(rules.bad), count, SEED)
    how = f"{count} rollouts to {FLEET:,} vehicles, {rules.bad:.0%} fail, 3 in 10 of these silently; nobody answers"
    stopped = "stopped by a halt or by a hold, which A/A has a bar for"
    contained = _percent([one.reached <= 0.02 * FLEET for one in ended])
    return [
        Metric("5 % failures: reach at most 2 % of the fleet", contained, "% of runs",
               f"{how}; {stopped}", CONTAINED_BAR, "at least"),
        Metric("5 % failures: halted", _percent([one.move is Move.HALT for one in ended]), "% of runs", how),
        Metric("5 % failures: held until people decide", _percent([_is_held(one) for one in ended]), "% of runs", how),
        Metric("5 % failures: vehicles that failed", float(np.mean([one.failed for one in ended])), "vehicles", how),
    ]  # fmt: skip


def _fine(rules: Rules, count: int) -> list[Metric]:
    asked = runs(rules, everywhere(rules.fine), count, SEED + 1, people_go_on=True)
    how = f"{count} rollouts, {rules.fine:.0%} fail as with any release; whoever is asked says yes a day later"
    alone = [one.holds == 0 and one.whole_s is not None for one in asked]
    days = [one.whole_s / DAY_S for one in asked if one.whole_s is not None]
    halted = _percent([one.move is Move.HALT for one in asked])
    return [
        Metric("A/A at 1 %: halted", halted, "% of runs", how, FALSE_HALTS_BAR),
        Metric("A/A at 1 %: people are asked", _percent([one.holds > 0 for one in asked]), "% of runs",
               f"{how}; a hold at any step counts here, as it does where 5 % fail; no test of so few vehicles asks in "
               f"less than {100 * _least_asked(rules):.1f} %", ASKED_BAR),
        Metric("A/A at 1 %: offered to all without asking", _percent(alone), "% of runs", how, ALONE_BAR, "at least"),
        Metric("A/A at 1 %: offered to all", _percent([one.whole_s is not None for one in asked]), "% of runs", how,
               ALL_BAR, "at least"),
        Metric("A/A at 1 %: until all are offered it, median", float(np.median(days)), "days", how),
        Metric("A/A at 1 %: until all are offered it, 99 in 100", float(np.percentile(days, 99)), "days", how),
    ]  # fmt: skip


def _least_asked(rules: Rules) -> float:
    """Neyman and Pearson: the best test of `fine` against `bad` by so many vehicles, at the error that is allowed."""
    vehicles = int(FLEET * rules.first_percent / 100)

    def chances(rate: float) -> list[float]:
        return [math.comb(vehicles, k) * rate**k * (1 - rate) ** (vehicles - k) for k in range(vehicles + 1)]

    passes, error = 0.0, 0.0
    for fine, bad in zip(chances(rules.fine), chances(rules.bad), strict=True):
        share = min(1.0, (rules.let_through - error) / bad)
        passes, error = passes + share * fine, error + share * bad
        if share < 1:
            break
    return 1 - passes


def _other_rates(rules: Rules, count: int) -> list[Metric]:
    metrics = []
    for rate in (0.002, 0.005, 0.02, 0.03, 0.1, 0.5, 1.0):
        ended = runs(rules, everywhere(rate), count, SEED + 2)
        how = (
            f"{count} rollouts, nobody answers; halted {_percent([one.move is Move.HALT for one in ended]):.1f} %, "
            f"held {_percent([_is_held(one) for one in ended]):.1f} %, "
            f"{np.mean([one.failed for one in ended]):.0f} vehicles failed"
        )
        reached = float(np.mean([one.reached for one in ended])) / FLEET
        metrics.append(Metric(f"{rate:.1%} failures: reach", 100 * reached, "% of the fleet", how))
    return metrics


def _all_at_once(rules: Rules, count: int) -> list[Metric]:
    metrics = []
    for rate, bar in ((1.0, float(rules.at_once)), (0.5, None)):
        ended = runs(rules, replace(everywhere(rate), at_once=True), count, SEED + 5)
        how = f"{count} rollouts, all are online within a minute of their turn; the most of all rollouts"
        most = max(one.reached for one in ended)
        metrics.append(Metric(f"{rate:.0%} fail at once: vehicles that had it", most, "vehicles", how, bar))
    return metrics


def _one_stratum(rules: Rules, count: int) -> list[Metric]:
    name = min(STRATA, key=lambda one: STRATA[one])
    world = World({one: 0.3 if one == name else 0.005 for one in STRATA})
    ended = runs(rules, world, count, SEED + 3)
    how = f"{count} rollouts, 30 % of the {STRATA[name]} {name} fail, 0.5 % of others; nobody answers"
    return [
        Metric("one stratum: halted", _percent([one.move is Move.HALT for one in ended]), "% of runs", how),
        Metric("one stratum: vehicles that failed", float(np.mean([one.failed for one in ended])), "vehicles", how),
    ]


def _worse_quality(rules: Rules, count: int) -> list[Metric]:
    level = 1 / (rules.false_halt * HALT_SHARES[2])
    rng = np.random.default_rng(SEED + 4)
    same = [_pairs_until(0.0, level, rules.quality_margin, rng) for _ in range(count)]
    worse = [_pairs_until(_LOSS, level, rules.quality_margin, rng) for _ in range(count)]
    how = f"{count} runs of {_PAIRS} pairs, spread {_SPREAD} between vehicles, a look after each pair"
    found = [pairs for pairs in worse if pairs is not None]
    return [
        Metric("quality as before: halted", _percent([pairs is not None for pairs in same]), "% of runs", how,
               FALSE_HALTS_BAR),
        Metric(f"quality worse by {_LOSS}: halted", _percent([pairs is not None for pairs in worse]), "% of runs", how),
        Metric(f"quality worse by {_LOSS}: pairs until then", float(np.median(found)), "pairs", how),
    ]  # fmt: skip


def _pairs_until(loss: float, level: float, margin: float, rng: np.random.Generator) -> int | None:
    bet = quality.Bet()
    values = np.clip(rng.normal((0.7 - loss, 0.7), _SPREAD, (_PAIRS, 2)), 0, 1).tolist()
    for number, (treated, control) in enumerate(values, 1):
        bet = quality.after(bet, treated, control, margin)
        if bet.evidence >= level:
            return number
    return None


def _is_held(one: Ended) -> bool:
    return one.move is Move.HOLD


def _percent(truths: Sequence[bool]) -> float:
    return 100 * float(np.mean(truths))
