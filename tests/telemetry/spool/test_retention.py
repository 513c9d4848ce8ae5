from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from telemetry.records import Lane
from telemetry.spool.limits import SpoolLimits
from telemetry.spool.retention import Evict, Holding, Room, room_for

MB = 1024 * 1024
LIMITS = SpoolLimits(max_bytes=40 * MB, segment_bytes=4 * MB, reserve_segments=(3, 2, 1, 1))
LANE = st.sampled_from(Lane)
ASKS = st.lists(LANE, max_size=60)


class Ground:
    """Lanes that take and lose whole segments as retention says."""

    def __init__(self) -> None:
        self.segments = dict.fromkeys(Lane, 0)
        self.evicted: list[tuple[Lane, Lane]] = []

    def held(self) -> dict[Lane, Holding]:
        return {lane: Holding(count * LIMITS.segment_bytes, count > 1) for lane, count in self.segments.items()}

    def ask(self, lane: Lane) -> bool:
        while isinstance(step := room_for(lane, self.held(), 0, LIMITS), Evict):
            self.segments[step.lane] -= 1
            self.evicted.append((lane, step.lane))
        if step is Room.THERE:
            self.segments[lane] += 1
        return step is Room.THERE


@given(ASKS)
def test_the_limit_holds_and_no_lane_costs_a_higher_one_anything(asks: list[Lane]) -> None:
    ground = Ground()
    for lane in asks:
        ground.ask(lane)
        assert sum(ground.segments.values()) <= LIMITS.max_segments
    assert all(victim >= lane for lane, victim in ground.evicted)


@given(ASKS, LANE)
def test_a_reserve_is_there_for_its_lane_whatever_the_others_took(asks: list[Lane], lane: Lane) -> None:
    ground = Ground()
    for other in asks:
        ground.ask(other)
    kept = ground.segments[lane]
    for _ in range(max(0, LIMITS.reserve_segments[lane] - kept)):
        assert ground.ask(lane)
    others = {victim for _, victim in ground.evicted if victim is not lane}
    assert all(ground.segments[other] >= min(1, LIMITS.reserve_segments[other]) for other in others)


@given(ASKS)
def test_nobody_is_evicted_into_his_reserve_by_another(asks: list[Lane]) -> None:
    ground = Ground()
    for lane in asks:
        before, evicted = dict(ground.segments), len(ground.evicted)
        ground.ask(lane)
        for _, victim in ground.evicted[evicted:]:
            if victim is not lane:
                assert before[victim] > LIMITS.reserve_segments[victim]


def test_the_lowest_lane_goes_first_and_in_the_end_ones_own_oldest() -> None:
    ground = Ground()
    for lane in (Lane.P3, Lane.P3, Lane.P3, Lane.P2, Lane.P2):
        assert ground.ask(lane)
    while len(ground.evicted) < 5:
        assert ground.ask(Lane.P0)
    assert [victim for _, victim in ground.evicted] == [Lane.P3, Lane.P3, Lane.P2, Lane.P0, Lane.P0]


def test_a_lane_without_reserve_waits_when_higher_ones_hold_all() -> None:
    limits = SpoolLimits(max_bytes=16 * MB, segment_bytes=4 * MB, reserve_segments=(1, 0, 0, 0))
    held = {lane: Holding(0, False) for lane in Lane} | {Lane.P0: Holding(16 * MB, True)}
    assert room_for(Lane.P3, held, 0, limits) is Room.NONE
