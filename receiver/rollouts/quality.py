"""Is quality worse where the release is? A bet on pairs, whose capital is evidence at every look.

A pair is a treated and an untreated vehicle of one stratum, told of at about the same time: what changes on the road
changes for both. Quality lies in 0 .. 1. While treated are worse by `margin` at most on average, the capital is a
nonnegative supermartingale: betting on a bounded mean (Waudby-Smith and Ramdas 2024, section 4; Shafer 2021), a mixture
over fixed stakes. It is compared with 1/a as all evidence here is.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec

_STAKES: Final = (0.05, 0.2, 0.5, 0.9)


class Bet(msgspec.Struct, frozen=True):
    """Logarithms of what each stake has become, after so many pairs."""

    logs: tuple[float, ...] = (0.0,) * len(_STAKES)
    pairs: int = 0

    @property
    def evidence(self) -> float:
        top = max(self.logs)
        try:
            return math.exp(top) * math.fsum(math.exp(one - top) for one in self.logs) / len(self.logs)
        except OverflowError:
            return math.inf


def after(bet: Bet, treated: float, control: float, margin: float) -> Bet:
    """With one more pair."""
    gain = (_within(control) - _within(treated) - margin) / (1 + margin)
    logs = tuple(one + math.log1p(stake * gain) for one, stake in zip(bet.logs, _STAKES, strict=True))
    return Bet(logs, bet.pairs + 1)


def _within(quality: float) -> float:
    return min(1.0, max(0.0, quality))
