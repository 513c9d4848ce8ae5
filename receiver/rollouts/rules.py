"""What a rollout is held to. Rates are shares (0.01 is 1 %), sizes are percent of each stratum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from ecu.errors import UsageFault

HALT_SHARES: Final = (0.5, 0.25, 0.25)
"""How `false_halt` is shared out: to the fleet's failures, to all strata's together, to quality. By the union bound
the sum holds, however they depend on each other."""


class Rules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`waves`: percent that have the release when each is open. `fine`, `bad`: a failure rate that is no reason to
    halt, and one that mustn't spread. `false_halt`: the most that a fine release is ever halted; `let_through`: the
    most that a bad one passes the first gate. The first wave may grow to `first_percent` while its evidence is too
    thin. A wave soaks for `soak_s` at least; a vehicle that had the release and says nothing for `silence_s` has
    failed; `sample` of a wave must have been judged; after `patience_s` vehicles that never came are waited for no
    longer. Of a wave `at_once` vehicles have it at first, and `growth` more for each that keeps it: a release that
    fails at once fails on so many. `quality_margin`: by how much of its range quality may sink, treated against
    control."""

    waves: tuple[float, ...] = (1.0, 5.0, 25.0, 100.0)
    first_percent: float = 2.0
    fine: float = 0.01
    bad: float = 0.05
    false_halt: float = 0.01
    let_through: float = 0.045
    soak_s: float = 86_400.0
    silence_s: float = 3 * 86_400.0
    sample: float = 0.5
    patience_s: float = 14 * 86_400.0
    at_once: int = 20
    growth: float = 3.0
    quality_margin: float = 0.1


@dataclass(frozen=True, slots=True)
class Step:
    """One rung: `percent` have the release. A `grown` one is the first wave's own, larger."""

    percent: float
    grown: bool = False


def checked(rules: Rules) -> Rules:
    """Raises UsageFault, with what is wrong."""
    rising = all(a < b for a, b in zip(rules.waves, rules.waves[1:], strict=False))
    for holds, words in (
        (bool(rules.waves) and rules.waves[0] > 0 and rules.waves[-1] == 100.0 and rising, "waves rise to 100"),
        (rules.waves[0] <= rules.first_percent, "first_percent is the first wave's at least"),
        (0 < rules.fine < rules.bad < 1, "0 < fine < bad < 1"),
        (0 < rules.false_halt < 1 and 0 < rules.let_through < 1, "false_halt and let_through lie between 0 and 1"),
        (rules.soak_s >= 0 and rules.silence_s > 0 and rules.patience_s > 0, "times aren't negative"),
        (rules.at_once >= 1 and rules.growth >= 1, "at_once and growth are 1 at least"),
        (0 <= rules.sample <= 1 and 0 <= rules.quality_margin < 1, "sample and quality_margin lie between 0 and 1"),
    ):
        if not holds:
            raise UsageFault(f"These rules can't be followed: they need that {words}.")
    return rules


def ladder(rules: Rules) -> tuple[Step, ...]:
    """The rungs in their order."""
    first, *others = rules.waves
    grown = [Step(rules.first_percent, grown=True)] if rules.first_percent > first else []
    return (Step(first), *grown, *(Step(percent) for percent in others if percent > rules.first_percent))
