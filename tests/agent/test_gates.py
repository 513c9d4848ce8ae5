"""The gates: each is shut by its own reason and by no other."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.learning.gates import OPEN, Gate, GateRules, PowerWanted, World, closed
from ecu.clock import SECOND_NS
from ecu.conditions import Heat, Power

RULES = GateRules(parked_s=120.0, power=PowerWanted.EXTERNAL, longest_s=600.0, pause_s=900.0)
FINE = World(standing_ns=120 * SECOND_NS, power=Power.EXTERNAL, heat=Heat.COOL, trusted_s=1000.0)
ENDS_S = 1000.0

SHUT = {
    Gate.PARKED: [replace(FINE, standing_ns=None), replace(FINE, standing_ns=120 * SECOND_NS - 1)],
    Gate.POWER: [replace(FINE, power=Power.BATTERY), replace(FINE, power=Power.UNKNOWN)],
    Gate.HEAT: [replace(FINE, heat=Heat.WARM), replace(FINE, heat=Heat.HOT)],
    Gate.CLOCK: [replace(FINE, trusted_s=None)],
    Gate.PLAN_ENDED: [replace(FINE, trusted_s=1000.1)],
    Gate.PAUSE: [replace(FINE, since_run_ns=900 * SECOND_NS - 1), replace(FINE, since_run_ns=0)],
    Gate.LONGEST: [replace(FINE, running_ns=600 * SECOND_NS + 1)],
}


def test_when_all_is_well_no_gate_is_shut() -> None:
    assert closed(FINE, RULES, ENDS_S) == ()
    assert closed(replace(FINE, since_run_ns=900 * SECOND_NS), RULES, ENDS_S) == ()
    assert closed(replace(FINE, running_ns=600 * SECOND_NS), RULES, ENDS_S) == ()


def test_every_gate_has_a_rule_and_a_way_to_shut_it() -> None:
    assert set(OPEN) == set(SHUT) == set(Gate)


@pytest.mark.parametrize(("gate", "world"), [(gate, world) for gate, worlds in SHUT.items() for world in worlds])
def test_each_gate_is_shut_by_its_own_reason_alone(gate: Gate, world: World) -> None:
    assert closed(world, RULES, ENDS_S) == (gate,)


def test_the_pause_is_over_once_a_run_has_begun() -> None:
    assert closed(replace(FINE, running_ns=1, since_run_ns=1), RULES, ENDS_S) == ()


def test_all_that_is_shut_is_named() -> None:
    worst = World(None, Power.BATTERY, Heat.HOT, None, since_run_ns=0)
    assert set(closed(worst, RULES, ENDS_S)) == {Gate.PARKED, Gate.POWER, Gate.HEAT, Gate.CLOCK, Gate.PAUSE}


@pytest.mark.parametrize(
    ("wanted", "enough"),
    [
        (PowerWanted.ANY, {Power.EXTERNAL, Power.BATTERY, Power.UNKNOWN}),
        (PowerWanted.NOT_BATTERY, {Power.EXTERNAL, Power.UNKNOWN}),
        (PowerWanted.EXTERNAL, {Power.EXTERNAL}),
    ],
)
def test_what_power_is_enough_is_the_integrators_choice(wanted: PowerWanted, enough: set[Power]) -> None:
    rules = replace(RULES, power=wanted)
    assert {power for power in Power if not closed(replace(FINE, power=power), rules, ENDS_S)} == enough


def test_on_a_bench_nobody_asks_whether_it_is_parked() -> None:
    assert closed(replace(FINE, standing_ns=None), replace(RULES, parked_s=None), ENDS_S) == ()
