"""Is quality worse where the release is? A bet on pairs, whose capital is evidence at every look.

A pair is a treated and an untreated vehicle of one stratum, told of at the same time: what changes on the road changes
for both. Quality lies in 0 .. 1. While treated are worse by `margin` at most on average, the capital is a nonnegative
supermartingale: betting on a bounded mean (Waudby-Smith and Ramdas 2024, section 4; Shafer 2021), a mixture over fixed
stakes. It is compared with 1/a as all evidence here is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

import msgspec

_STAKES: Final = (0.05, 0.2, 0.5, 0.9)
_MOST_WAITING: Final = 64
"""Of one stratum and side. The oldest go: a pair is of one time."""


class Bet(msgspec.Struct, frozen=True):
    """Logarithms of what each stake has become, and who waits for a partner, by stratum."""

    logs: tuple[float, ...] = (0.0,) * len(_STAKES)
    pairs: int = 0
    treated: dict[str, list[float]] = {}
    control: dict[str, list[float]] = {}

    @property
    def evidence(self) -> float:
        top = max(self.logs)
        try:
            return math.exp(top) * math.fsum(math.exp(one - top) for one in self.logs) / len(self.logs)
        except OverflowError:
            return math.inf


def after(bet: Bet, told: Iterable[tuple[str, bool, float]], margin: float) -> Bet:
    """With more of (stratum, whether treated, quality)."""
    logs, pairs = bet.logs, bet.pairs
    waiting = {True: _copied(bet.treated), False: _copied(bet.control)}
    for stratum, is_treated, quality in told:
        quality = min(1.0, max(0.0, quality))
        partners = waiting[not is_treated].get(stratum)
        if not partners:
            waiting[is_treated].setdefault(stratum, []).append(quality)
            del waiting[is_treated][stratum][:-_MOST_WAITING]
            continue
        partner = partners.pop(0)
        loss = partner - quality if is_treated else quality - partner
        logs = tuple(
            one + math.log1p(stake * (loss - margin) / (1 + margin)) for one, stake in zip(logs, _STAKES, strict=True)
        )
        pairs += 1
    return Bet(logs, pairs, waiting[True], waiting[False])


def _copied(waiting: dict[str, list[float]]) -> dict[str, list[float]]:
    return {stratum: list(values) for stratum, values in waiting.items()}
