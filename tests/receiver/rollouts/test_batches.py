"""Within a wave, too, vehicles get a release as evidence for it comes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from receiver.rollouts.cohorts import shared_out, wanted
from receiver.rollouts.decide import Standing, Tally, turns
from receiver.rollouts.rules import Rules, ladder
from simulator.rollouts.fleet import STRATA, Run, everywhere, runs
from tests.ota.fleet import Fleet
from tests.receiver.rollouts.rig import RULES, a_rig
from tests.receiver.rollouts.test_desk import begun

DUE = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 400), max_size=8)


@given(DUE, st.integers(0, 1200), st.integers(0, 50))
def test_room_is_never_overdrawn_and_more_of_it_takes_nobodys_turn_away(
    due: dict[str, int], most: int, more: int
) -> None:
    shared, wider = shared_out(due, most), shared_out(due, most + more)
    assert sum(shared.values()) <= max(most, 0)
    assert all(0 <= shared[name] <= wider[name] <= due[name] for name in due)
    if most >= sum(due.values()):
        assert shared == due
    if most >= len(due):
        assert all(shared[name] for name in due if due[name])


@given(st.integers(0, 4), st.integers(0, 5000), st.integers(0, 300), st.integers(0, 300))
def test_no_more_have_it_untold_than_the_rules_say(step: int, committed: int, failed: int, more: int) -> None:
    rules = Rules()
    size = 10_000
    its = Tally(size, committed + failed + more, committed, failed)
    may = turns(rules, Standing(step, 0, {"any": its}))["any"]
    assert may <= wanted(ladder(rules)[step], size)
    assert may <= rules.at_once + rules.growth * committed


def test_who_doesnt_come_or_can_say_nothing_holds_up_nobody() -> None:
    rules, size = Rules(), 10_000
    for tally in (Tally(size, absent=20), Tally(size, 20, undecided=20)):
        assert turns(rules, Standing(0, 0, {"any": tally}))["any"] == 40
    assert turns(rules, Standing(0, 0, {"any": Tally(size, 20, failed=20)}))["any"] == 20


def test_a_release_that_fails_at_once_on_all_fails_on_two_in_a_thousand() -> None:
    world = replace(everywhere(1.0), at_once=True)
    reached = [one.reached for one in runs(Rules(), world, 5, seed=1)]
    assert max(reached) <= Rules().at_once
    # The oracle notices a wave that is listed whole.
    whole = msgspec.structs.replace(Rules(), at_once=10_000)
    assert min(one.reached for one in runs(whole, world, 5, seed=1)) > 90


def test_a_release_that_is_fine_reaches_all() -> None:
    small = replace(everywhere(0.0), sizes={name: size // 10 for name, size in STRATA.items()}, failing={})
    small = replace(small, failing=dict.fromkeys(small.sizes, 0.0))
    ended = Run(msgspec.structs.replace(Rules(), waves=(10.0, 50.0, 100.0), first_percent=20.0), small,
                np.random.default_rng(1)).play()  # fmt: skip
    assert ended.whole_s is not None
    assert ended.reached >= 0.98 * 1000


async def test_the_next_of_a_wave_is_listed_when_one_has_kept_it(tmp_path: Path, published: Fleet) -> None:
    cars = tuple(f"car-{number:02}" for number in range(20))
    rules = msgspec.structs.replace(RULES, waves=(50.0, 100.0), first_percent=50.0, at_once=2, growth=2.0)
    async with a_rig(tmp_path, published, cars) as rig:
        release, turn = await begun(rig, rules)
        assert sorted(rig.listed()) == sorted(turn[:2])
        await rig.report(turn[0], release)
        await rig.hours(0)
        assert sorted(rig.listed()) == sorted(turn[:4])
        await rig.report(turn[1], release, "rolled_back")
        await rig.hours(0)
        assert sorted(rig.listed()) == sorted(turn[:4])
        assert (await rig.line()).waits_for_director == 0
        await rig.hours(1.1)  # three of them weren't there for as long as a wave soaks
        assert sorted(rig.listed()) == sorted(turn[:6])
