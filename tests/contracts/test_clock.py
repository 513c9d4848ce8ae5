"""The Clock contract, over the computer's clocks, the one that moves when told to, and the one that is off."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecu.clock import MILLISECOND_NS, SECOND_NS, Clock, OffsetClock, SteppingClock, SystemClock, boot_id


@pytest.fixture(params=["system", "stepping", "offset"])
def clock(request: pytest.FixtureRequest) -> Clock:
    kinds: dict[str, Clock] = {
        "system": SystemClock(),
        "stepping": SteppingClock(boot_ns=7 * SECOND_NS),
        "offset": OffsetClock(SteppingClock(), offset_ns=-10 * 365 * 86_400 * SECOND_NS),
    }
    return kinds[request.param]


async def let_pass(clock: Clock, until_ns: int) -> None:
    """Lets time reach `until_ns`: by itself, or by being told."""
    inner = clock._inner if isinstance(clock, OffsetClock) else clock
    for _ in range(3):
        await asyncio.sleep(0)
    if isinstance(inner, SteppingClock):
        inner.advance(max(until_ns, inner.boot_ns()))


async def test_boot_time_never_goes_back(clock: Clock) -> None:
    seen = []
    for _ in range(20):
        seen.append(clock.boot_ns())
        await let_pass(clock, seen[-1] + 1000)
    assert seen == sorted(seen)


async def test_a_sleeper_wakes_at_its_time_or_later_and_not_before(clock: Clock) -> None:
    due = clock.boot_ns() + 20 * MILLISECOND_NS
    sleeper = asyncio.create_task(clock.sleep_until(due))
    await let_pass(clock, due - 1)
    await asyncio.sleep(0)
    assert not sleeper.done()
    await let_pass(clock, due)
    await asyncio.wait_for(sleeper, 10)
    assert clock.boot_ns() >= due


@pytest.mark.parametrize("ago_ns", [0, 1, 10 * SECOND_NS])
async def test_a_time_that_has_passed_is_not_waited_for(clock: Clock, ago_ns: int) -> None:
    await asyncio.wait_for(clock.sleep_until(clock.boot_ns() - ago_ns), 10)


async def test_a_sleeper_can_be_cancelled(clock: Clock) -> None:
    sleeper = asyncio.create_task(clock.sleep_until(clock.boot_ns() + 3600 * SECOND_NS))
    await asyncio.sleep(0)
    sleeper.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sleeper
    await let_pass(clock, clock.boot_ns() + 7200 * SECOND_NS)


async def test_wall_time_is_after_2000_unless_it_is_off(clock: Clock) -> None:
    assert clock.wall_ns() > 946_684_800 * SECOND_NS


# --- the stepping clock's own laws ---


@given(st.lists(st.integers(0, 5), max_size=12), st.lists(st.integers(0, 3), max_size=6))
def test_sleepers_wake_in_order_of_time_then_of_asking(times: list[int], steps: list[int]) -> None:
    async def drive() -> list[tuple[int, int]]:
        clock, woken = SteppingClock(), list[tuple[int, int]]()

        async def sleep(number: int, until_ns: int) -> None:
            await clock.sleep_until(until_ns)
            woken.append((until_ns, number))
            assert clock.boot_ns() >= until_ns

        tasks = [asyncio.create_task(sleep(number, until_ns)) for number, until_ns in enumerate(times)]
        await asyncio.sleep(0)
        for step in [*steps, 20]:
            clock.advance(clock.boot_ns() + step)
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)
        return woken

    # Those due at once woke before the clock moved, in the order of asking as well.
    assert asyncio.run(drive()) == sorted((until_ns, number) for number, until_ns in enumerate(times))


async def test_time_stands_still_until_it_is_told() -> None:
    clock = SteppingClock(boot_ns=5, wall_ns=100)
    sleeper = asyncio.create_task(clock.sleep_until(6))
    for _ in range(10):
        await asyncio.sleep(0)
    assert (clock.boot_ns(), clock.wall_ns(), sleeper.done()) == (5, 100, False)
    clock.advance(6)
    await sleeper
    assert (clock.boot_ns(), clock.wall_ns()) == (6, 101)


def test_boot_time_cannot_be_told_to_go_back() -> None:
    clock = SteppingClock(boot_ns=5)
    with pytest.raises(ValueError, match="back"):
        clock.advance(4)
    assert clock.boot_ns() == 5


def test_wall_time_jumps_while_boot_time_goes_on() -> None:
    clock = SteppingClock(boot_ns=5, wall_ns=100)
    clock.set_wall(3)
    assert (clock.boot_ns(), clock.wall_ns()) == (5, 3)
    clock.advance(7)
    assert clock.wall_ns() == 5


def test_an_offset_moves_wall_time_alone() -> None:
    inner = SteppingClock(boot_ns=5, wall_ns=100)
    clock = OffsetClock(inner, 20)
    assert (clock.boot_ns(), clock.wall_ns()) == (5, 120)
    assert clock.offset_ns == 20


def test_a_corrected_clock_goes_on_by_boot_time_whoever_sets_the_computers_own() -> None:
    inner = SteppingClock(boot_ns=5, wall_ns=100)
    clock = OffsetClock(inner, 20)
    clock.correct(1000)
    inner.set_wall(995)  # somebody else found out, too
    inner.advance(12)
    assert (clock.wall_ns(), clock.boot_ns()) == (1007, 12)
    assert clock.offset_ns == 1007 - 1002


def test_a_boot_has_one_name() -> None:
    assert boot_id() == boot_id()
    assert len(boot_id()) == 36
