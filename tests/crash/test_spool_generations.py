"""Power cuts after power cuts: what one cut left is lived on, and cut again."""

from __future__ import annotations

from random import Random

import pytest

from ecu.crashdisk import CrashDisk, CrashState
from telemetry.records import Lane, Purpose
from tests.telemetry.spool.story import BEGUN, Moment, Story, with_history

PURPOSES = [Purpose.DRIVING, Purpose.PERCEPTION]


def any_life(rng: Random) -> list[tuple[str, int]]:
    acts = ["put", "put", "put", "acknowledge", "acknowledge", "erase", "die", "end"]
    chosen = ["put", *rng.choices(acts, k=rng.randrange(2, 6))]
    return [(act, rng.randrange(1 << 30)) for act in chosen]


def told(story: Story, life: list[tuple[str, int]], first: int) -> None:
    for number, (act, chance) in enumerate(life, first):
        rng = Random(chance)
        match act:
            case "put":
                lane, size, purpose = rng.choice([Lane.P0, Lane.P1]), rng.choice([4, 2000, 6000]), rng.choice(PURPOSES)
                story.put(*(number * 10 + n for n in range(rng.randrange(1, 4))), lane=lane, size=size, purpose=purpose)
            case "acknowledge":
                story.acknowledge(rng.randrange(1, 4))
            case "erase":
                story.erase(rng.choice(PURPOSES))
            case "die":
                story.rig.open()
            case "end":
                story.close()
                story.rig.open()


def live(disk: CrashDisk, inherited: Moment, rng: Random, generations: int, breadth: int) -> int:
    """Lives on `disk`, judges every cut, and goes on from a few of them; how many cuts that were."""
    life, first = any_life(rng), rng.randrange(10**6) * 100
    story = Story(lambda story: told(story, life, first), inherited, seed=rng.randrange(1, 1 << 30))
    story.scenario(disk)
    states = [state for state in disk.after_crash(tail=4) if BEGUN in state.acknowledged]
    heirs = [
        (state.disk.after_shutdown(), story.moment_of(state)) for state in rng.sample(states, min(breadth, len(states)))
    ]
    for state in states:
        judged(story, state, life)
    if generations == 1:
        return len(states)
    return len(states) + sum(live(heir, moment, rng, generations - 1, breadth) for heir, moment in heirs)


def judged(story: Story, state: CrashState, life: list[tuple[str, int]]) -> None:
    try:
        story.law(state)
    except AssertionError as error:
        pytest.fail(f"{life}\n{state.describe}\n{error}")


@pytest.mark.parametrize("seed", range(2))
def test_a_cut_after_a_cut_loses_nothing_confirmed(seed: int) -> None:
    assert live(with_history(), Moment(), Random(seed), generations=2, breadth=1) > 20


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(2, 26))
def test_many_cuts_after_many_cuts_lose_nothing_confirmed(seed: int) -> None:
    assert live(with_history(), Moment(), Random(seed), generations=3, breadth=3) > 100
