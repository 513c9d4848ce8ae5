"""Laws of starting again."""

from __future__ import annotations

import asyncio
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from agent.perception.restart import HEALTHY_LIFE_NS, Restarts
from ecu.clock import SECOND_NS, SteppingClock

lives = st.integers(0, 3600 * SECOND_NS)


def after_a_life(life_ns: int, was_hung: bool) -> int:
    """Quick deaths in a row after one life that lasted so long."""
    clock = SteppingClock()
    restarts = Restarts(clock, Random(1))
    restarts.begins()
    clock.advance(life_ns)
    asyncio.run(restarts.pause(was_hung))
    return restarts.quick_deaths


@given(lives)
def test_a_life_that_hung_is_a_quick_death_however_long_it_lasted(life_ns: int) -> None:
    assert after_a_life(life_ns, was_hung=True) == 1


@given(lives)
def test_any_other_life_is_a_quick_death_until_it_was_a_healthy_one(life_ns: int) -> None:
    assert after_a_life(life_ns, was_hung=False) == (1 if life_ns < HEALTHY_LIFE_NS else 0)
