"""How long to stay away from something that failed."""

from __future__ import annotations

from random import Random

_MAX_DOUBLINGS = 32


def backoff_s(attempt: int, rng: Random, base_s: float = 1.0, cap_s: float = 300.0) -> float:
    """Full jitter: a fleet that lost its network together must not return together.

    Uniform over 0 to min(cap, base * 2**attempt) seconds, `attempt` counted from 0 (Brooker, "Exponential Backoff And
    Jitter", AWS Architecture Blog, 2015).
    """
    return rng.uniform(0.0, min(cap_s, base_s * 2.0 ** min(attempt, _MAX_DOUBLINGS)))
