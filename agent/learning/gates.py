"""When this vehicle may learn: one table, in which each gate has a name, so that status says why nothing is learned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ecu.clock import SECOND_NS
from ecu.conditions import Heat, Power


class Gate(StrEnum):
    """What has to be so; the value is the reason code of a gate that is closed."""

    PARKED = "parked"  # it stands, and has for a while
    POWER = "power"  # it lives on more than its battery
    HEAT = "heat"  # the computer is cool
    CLOCK = "clock"  # the wall clock can be trusted: plans end, and budgets are counted in days
    PLAN_ENDED = "plan_ended"  # somebody still wants what the plan asks for
    PAUSE = "pause"  # the last run was long enough ago
    LONGEST = "longest"  # this run isn't too long


class PowerWanted(StrEnum):
    """What the computer must live on."""

    EXTERNAL = "external"
    NOT_BATTERY = "not_battery"
    ANY = "any"


@dataclass(frozen=True, slots=True)
class GateRules:
    """`parked_s` of standing count as parked; None: nobody asks (test benches)."""

    parked_s: float | None
    power: PowerWanted
    longest_s: float
    pause_s: float


@dataclass(frozen=True, slots=True)
class World:
    """How things are, at one instant. `standing_ns` is None where the vehicle moves or nobody knows; `trusted_s` are
    seconds since 1970, None while the clock can't be trusted; `running_ns` and `since_run_ns` are of this run and the
    end of the last, None without one."""

    standing_ns: int | None
    power: Power
    heat: Heat
    trusted_s: float | None
    running_ns: int | None = None
    since_run_ns: int | None = None


_Open = Callable[[World, GateRules, float], bool]


def has_power(world: World, wanted: PowerWanted) -> bool:
    match wanted:
        case PowerWanted.ANY:
            return True
        case PowerWanted.NOT_BATTERY:
            return world.power is not Power.BATTERY
        case PowerWanted.EXTERNAL:
            return world.power is Power.EXTERNAL


def is_parked(world: World, parked_s: float | None) -> bool:
    """Whether it has stood for so long; True where nobody asks (None)."""
    if parked_s is None:
        return True
    return world.standing_ns is not None and world.standing_ns >= parked_s * SECOND_NS


OPEN: Final[dict[Gate, _Open]] = {
    Gate.PARKED: lambda world, rules, _: is_parked(world, rules.parked_s),
    Gate.POWER: lambda world, rules, _: has_power(world, rules.power),
    Gate.HEAT: lambda world, rules, _: world.heat is Heat.COOL,
    Gate.CLOCK: lambda world, rules, _: world.trusted_s is not None,
    Gate.PLAN_ENDED: lambda world, rules, not_after: world.trusted_s is None or world.trusted_s <= not_after,
    Gate.PAUSE: lambda world, rules, _: (
        world.running_ns is not None or world.since_run_ns is None or world.since_run_ns >= rules.pause_s * SECOND_NS
    ),
    Gate.LONGEST: lambda world, rules, _: world.running_ns is None or world.running_ns <= rules.longest_s * SECOND_NS,
}
"""Each gate, and when it is open."""


def closed(world: World, rules: GateRules, not_after: float) -> tuple[Gate, ...]:
    """The gates that are shut for a plan that ends then; empty when it may learn."""
    return tuple(gate for gate, is_open in OPEN.items() if not is_open(world, rules, not_after))
