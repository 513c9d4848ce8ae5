"""How strong the evidence is, in numbers that hold at every look (docs/adr/0017-waves-on-evidence.md).

Against a release: a mixture of likelihood ratios over failure rates above `fine`, a test supermartingale whenever the
true rate is at most `fine` (Robbins 1970; Ramdas, Grünwald, Vovk and Shafer 2023, section 2). By Ville's inequality it
ever reaches 1/a with probability a at most, so it may be looked at after each report.

For a release: how many vehicles must have been judged with at most j failures. The error is spent over j (Lan and
DeMets 1983) and counted out exactly over all ways to get there, so no look is free; a rate above `bad` only passes
more rarely, since failures only come earlier.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from functools import lru_cache
from typing import Final

_SPENT: Final = (0.16, 0.05, 0.10, 0.20, 0.42, 0.04, 0.02, 0.01)
"""Of the error, for passing with 0, 1, 2 ... failures: some so that a faultless release passes early, most where one at
`fine` ends up when 2 % of ten thousand have it, and a tail."""
_MOST_VEHICLES: Final = 20_000
_WEIGHTS: Final = (0.25, 0.5, 0.25)


@lru_cache(1 << 17)
def against(vehicles: int, failures: int, fine: float, bad: float) -> float:
    """How many times likelier these failures of so many vehicles are under the rates that are tried than under `fine`;
    infinity where that is beyond a float."""
    passed = vehicles - failures
    try:
        return math.fsum(
            weight * math.exp(failures * math.log(rate / fine) + passed * math.log((1 - rate) / (1 - fine)))
            for weight, rate in zip(_WEIGHTS, rates(fine, bad), strict=True)
        )
    except OverflowError:
        return math.inf


def rates(fine: float, bad: float) -> tuple[float, float, float]:
    """One between, the one that the rollout is planned for, and one that ruins vehicles."""
    return math.sqrt(fine * bad), bad, math.sqrt(bad)


@lru_cache(64)
def needed(bad: float, let_through: float) -> tuple[int, ...]:
    """The n-th: with how many judged vehicles n failures are few enough to pass the first gate."""
    alive, plan, vehicles, left = [1.0], list[int](), 0, 0.0
    for failures, share in enumerate(_SPENT):
        left += share * let_through
        while math.fsum(alive[: failures + 1]) > left:
            vehicles += 1
            alive = [a * (1 - bad) + b * bad for a, b in zip([*alive, 0.0], [0.0, *alive], strict=True)]
            if vehicles > _MOST_VEHICLES:
                return tuple(plan)
        left -= math.fsum(alive[: failures + 1])
        alive[: failures + 1] = [0.0] * min(failures + 1, len(alive))
        plan.append(vehicles)
    return tuple(plan)


def allowed(vehicles: int, bad: float, let_through: float) -> int:
    """The failures with which so many judged vehicles pass the first gate; -1: with none yet."""
    return bisect_right(needed(bad, let_through), vehicles) - 1


def proves_fine(vehicles: int, failures: int, fine: float, bad: float, let_through: float) -> bool:
    """Wald's ratio for `fine` against `bad` has reached 1/let_through: what passes the later gates."""
    passed = vehicles - failures
    log_ratio = failures * math.log(fine / bad) + passed * math.log((1 - fine) / (1 - bad))
    return log_ratio >= -math.log(let_through)
