"""A law that is asked about a part of all states: an ordinary run takes some, the soak all."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from ecu.crashdisk import CrashState

Law = Callable[[CrashState], None]


def some_of(law: Law, one_in: int) -> Law:
    """About one state in `one_in`, always the same ones."""
    rng = Random(one_in)

    def asked(state: CrashState) -> None:
        if rng.randrange(one_in) == 0:
            law(state)

    return asked
