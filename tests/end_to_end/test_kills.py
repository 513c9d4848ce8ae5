"""SIGKILL at any instant: whatever process dies, no confirmed record is lost or doubled, and every count adds up.

A drive's kills come from OUTRIDER_SEED and its number, so that what one drive found can be driven again.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from random import Random

import pytest

from simulator.witness import compare
from tests.end_to_end.world import World, a_world, until

SEED = os.environ.get("OUTRIDER_SEED", "0")
DRIVES = 30
KINDS = ("agent", "worker", "camera", "receiver")
LAST_KILL_S = 8.0
JITTER_S = 0.1


def kills(seed: str, number: int) -> Iterator[tuple[float, float, str]]:
    """Each kind once, in any order: (second of the drive, seconds of ours after that, what dies)."""
    rng = Random(f"{seed} {number}")
    instants = sorted(rng.uniform(0.2, LAST_KILL_S) for _ in KINDS)
    for at_s, kind in zip(instants, rng.sample(KINDS, len(KINDS)), strict=True):
        yield at_s, rng.uniform(0.0, JITTER_S), kind


async def kill(world: World, kind: str) -> None:
    match kind:
        case "agent":
            await world.stage.kill("agent")
            await world.stage.start_agent()
        case "receiver":
            await world.stage.kill("receiver")
            await world.stage.start_receiver()
        case "worker":
            await kill_child(world, "live_pid")
        case _:
            await kill_child(world, "camera_pid")


async def kill_child(world: World, which: str) -> None:
    """One that may be on its way back from the kill before."""
    await until(lambda: child(world, which) is not None)
    pid = child(world, which)
    if pid is not None:
        os.kill(pid, signal.SIGKILL)
        await until(lambda: child(world, which) not in (None, pid))


def child(world: World, which: str) -> int | None:
    pid: int | None = (world.status().get("perception") or {}).get(which)
    return pid


@pytest.mark.soak
@pytest.mark.timeout(180)
@pytest.mark.parametrize("number", range(DRIVES))
async def test_no_kill_costs_a_confirmed_record_or_an_account(number: int) -> None:
    plan = list(kills(SEED, number))
    async with a_world() as world:
        await world.stage.start_agent()
        for at_s, later_s, kind in plan:
            await until(lambda at_s=at_s: world.drive_s >= at_s)  # type: ignore[misc]
            await asyncio.sleep(later_s)
            await kill(world, kind)
        await until(lambda: world.drive_s >= LAST_KILL_S + 1)
        await world.stage.stop("agent")
        await world.drain()

        report = compare((entry.confirmation for entry in world.testimony()), (r.confirmation for r in world.stored()))
        assert report.ok, f"{plan}: {report}"
        law_1 = world.spool().counts
        assert law_1.holds, plan
        assert sum(lane.acknowledged for lane in law_1.lanes) == len(world.stored()), plan
        assert sum(lane.spooled + lane.pending for lane in law_1.lanes) == 0, plan
        law_2 = world.frames()
        assert law_2.holds, f"{plan}: {law_2}"
        assert (law_2.underway, law_2.in_flight) == (0, 0), f"{plan}: {law_2}"


def test_every_drive_kills_every_kind_at_instants_of_its_own() -> None:
    plans = [list(kills("7", number)) for number in range(DRIVES)]
    assert all(sorted(kind for *_, kind in plan) == sorted(KINDS) for plan in plans)
    assert all(0 < at_s <= LAST_KILL_S for plan in plans for at_s, *_ in plan)
    assert len({at_s for plan in plans for at_s, *_ in plan}) == DRIVES * len(KINDS)
    assert plans == [list(kills("7", number)) for number in range(DRIVES)]
    assert {plan[0][2] for plan in plans} == set(KINDS)
