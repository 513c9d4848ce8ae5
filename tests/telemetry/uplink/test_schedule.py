from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from telemetry.backoff import backoff_s
from telemetry.records import Lane
from telemetry.uplink.schedule import SHARES, Schedule
from telemetry.wire import MAX_BLOCK_BYTES

sizes = st.integers(1, MAX_BLOCK_BYTES)
heads = st.dictionaries(st.sampled_from(Lane), sizes)


@given(st.lists(heads))
def test_p0_goes_first_and_nobody_waits_while_there_is_something_to_send(turns: list[dict[Lane, int]]) -> None:
    schedule = Schedule()
    for waiting in turns:
        picked = schedule.pick(waiting)
        assert picked in waiting if waiting else picked is None
        assert Lane.P0 not in waiting or picked is Lane.P0


@settings(max_examples=50)
@given(st.integers(0, 1 << 32), st.lists(heads, max_size=20))
def test_lanes_that_always_wait_share_the_bytes_as_agreed(seed: int, before: list[dict[Lane, int]]) -> None:
    # Mutation: charging blocks instead of bytes, or forgetting to charge, breaks the bound below.
    schedule, chance = Schedule(), Random(seed)
    for waiting in before:
        schedule.pick(waiting)
    waiting = {lane: chance.randint(1, MAX_BLOCK_BYTES) for lane in SHARES}
    sent = dict.fromkeys(SHARES, 0)
    for _ in range(1_000):
        lane = schedule.pick(waiting)
        assert lane is not None
        sent[lane] += waiting[lane]
        waiting[lane] = chance.randint(1, MAX_BLOCK_BYTES)
    rounds = [sent[lane] / (share * MAX_BLOCK_BYTES) for lane, share in SHARES.items()]
    # Lemma 2 of the paper: after any number of rounds each is within one longest block and one turn of its share.
    assert max(rounds) - min(rounds) <= 3.0


def test_a_lane_that_was_idle_has_saved_no_credit() -> None:
    schedule, block = Schedule(), MAX_BLOCK_BYTES
    for _ in range(50):
        while schedule.pick({Lane.P1: block, Lane.P2: 1}) is not Lane.P2:
            pass
        schedule.pick({Lane.P1: block})
    picks = [schedule.pick({Lane.P1: block, Lane.P2: block}) for _ in range(60)]
    assert picks.count(Lane.P2) <= 60 // 3 + SHARES[Lane.P2]


@given(st.integers(0, 10_000), st.integers(0, 1 << 32), st.floats(0.01, 10), st.floats(0.01, 1_000))
def test_backoff_stays_within_its_cap_for_ever(attempt: int, seed: int, base_s: float, cap_s: float) -> None:
    pause_s = backoff_s(attempt, Random(seed), base_s, cap_s)
    assert 0.0 <= pause_s <= min(cap_s, base_s * 2.0 ** min(attempt, 64))


def test_backoff_uses_the_whole_of_its_range() -> None:
    rng = Random(7)
    pauses = [backoff_s(3, rng, base_s=1.0, cap_s=300.0) for _ in range(500)]
    assert min(pauses) < 0.2
    assert max(pauses) > 7.8
