"""Simulated fleets: a slice of what `outrider bench rollouts` measures whole."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from receiver.rollouts.decide import Move
from receiver.rollouts.rules import Rules
from simulator.bench import rollouts
from simulator.rollouts.fleet import STRATA, World, everywhere, runs

RULES = Rules()
FLEET = sum(STRATA.values())


def test_a_bad_release_stays_with_few_and_a_fine_one_reaches_all_that_come() -> None:
    bad = runs(RULES, everywhere(0.05), 60, seed=5)
    assert sum(one.reached <= 0.02 * FLEET for one in bad) >= 0.93 * 60
    (fine,) = runs(RULES, everywhere(0.005), 1, seed=1)
    assert fine.move is Move.FINISH
    assert fine.reached > 0.98 * FLEET
    assert 40 < fine.failed < 60


def test_the_same_seed_is_the_same_rollout() -> None:
    assert runs(RULES, everywhere(0.05), 3, seed=2) == runs(RULES, everywhere(0.05), 3, seed=2)


def test_rules_that_look_away_let_a_bad_release_spread() -> None:
    """The oracle notices: with a gate that anything passes, and a halt that never comes."""
    blind = msgspec.structs.replace(RULES, fine=0.4, bad=0.9)
    assert runs(blind, everywhere(0.05), 1, seed=1)[0].reached > 0.02 * FLEET


def test_a_fleet_that_falls_silent_is_a_fleet_that_failed() -> None:
    silent = replace(everywhere(0.3), silent=1.0)
    (ended,) = runs(RULES, silent, 1, seed=3)
    assert ended.move is Move.HALT
    assert ended.reached <= 0.02 * FLEET


def test_vehicles_that_never_come_hold_nothing_up_for_ever() -> None:
    absent = World(dict.fromkeys(STRATA, 0.0), never=0.3)
    (ended,) = runs(RULES, absent, 1, seed=4, people_go_on=True)
    assert ended.move is Move.FINISH
    assert ended.whole_s is not None


def test_rules_that_always_ask_contain_everything_and_meet_no_bar_for_a_fine_release() -> None:
    asking = msgspec.structs.replace(RULES, let_through=1e-6)
    assert rollouts._bad(asking, 1)[0].ok
    unmet = [metric.metric for metric in rollouts._fine(asking, 1) if not metric.ok]
    assert unmet == ["A/A at 1 %: people are asked", "A/A at 1 %: offered to all without asking"]


@pytest.mark.soak
def test_the_benchmark_meets_its_bars() -> None:
    assert [metric.metric for metric in rollouts.run() if not metric.ok] == []
