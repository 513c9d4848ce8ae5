from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from ecu.clock import SECOND_NS
from telemetry.records import COMMIT_AFTER_NS, COMMIT_WITHIN_NS, Lane, Purpose
from telemetry.spool.counts import Dropped
from telemetry.spool.limits import SpoolLimits
from telemetry.spool.packing import Waiting
from telemetry.spool.queue import Queue
from tests.telemetry.spool.test_packing import waiting

LIMITS = SpoolLimits(queue_records=8, queue_bytes=4000)


def offered_at(t_ns: int, number: int = 0, size: int = 10) -> Waiting:
    made = waiting(number, size)
    return replace(made, offered_ns=t_ns)


@given(st.dictionaries(st.sampled_from(Lane), st.integers(0, 10**12), min_size=1))
def test_the_next_commit_is_due_when_the_first_lanes_time_is_up(offers: dict[Lane, int]) -> None:
    queue = Queue(LIMITS)
    assert queue.due_ns() is None
    for lane, t_ns in offers.items():
        queue.lanes[lane].put(offered_at(t_ns))
    due_ns = min(t_ns + COMMIT_AFTER_NS[lane] for lane, t_ns in offers.items())
    assert queue.due_ns() == due_ns
    assert queue.take(due_ns - 1, everything=False) is None
    batch = queue.take(due_ns, everything=False)
    assert batch is not None
    late = {lane for lane, t_ns in offers.items() if t_ns + COMMIT_AFTER_NS[lane] <= due_ns}
    assert {part.lane for part in batch.parts} == late


def test_everything_is_everything() -> None:
    queue = Queue(LIMITS)
    queue.lanes[Lane.P0].put(offered_at(0))
    queue.lanes[Lane.P3].put(offered_at(0))
    batch = queue.take(0, everything=True)
    assert batch is not None
    assert [part.lane for part in batch.parts] == [Lane.P0, Lane.P3]
    assert queue.take(0, everything=True) is None


@given(st.lists(st.integers(0, 900), max_size=30))
def test_a_lane_never_holds_more_than_its_limits_even_while_some_are_under_way(sizes: list[int]) -> None:
    lane = Queue(LIMITS).lanes[Lane.P1]
    for i, size in enumerate(sizes):
        record = offered_at(0, i, size)
        if lane.refusal(record.size) is None:
            lane.put(record)
        if i % 5 == 4:
            lane.take()
        assert lane.count <= LIMITS.queue_records
        assert lane.size <= LIMITS.queue_bytes


def test_a_half_full_queue_is_committed_at_once() -> None:
    queue = Queue(LIMITS)
    for number in range(LIMITS.queue_records // 2):
        queue.lanes[Lane.P2].put(offered_at(5, number))
    assert queue.due_ns() == 5


def test_what_comes_back_keeps_its_order_stays_counted_and_is_tried_again_later() -> None:
    lane = Queue(LIMITS).lanes[Lane.P1]
    records = [offered_at(0, number) for number in range(4)]
    for record in records[:3]:
        lane.put(record)
    part = lane.take()
    lane.put(records[3])
    lane.settle(1, part.runs[0].size)
    lane.give_back(part.runs[1:], Dropped.DISK_FULL, now_ns=1000)
    assert list(lane.runs) == records[1:]
    assert lane.count == 3
    assert lane.size == sum(record.size for record in records[1:])
    assert lane.due_ns() == 1000 + SECOND_NS


def test_a_full_queue_behind_a_full_disk_names_the_disk() -> None:
    lane = Queue(LIMITS).lanes[Lane.P1]
    for number in range(LIMITS.queue_records):
        lane.put(offered_at(0, number))
    assert lane.refusal(1) is Dropped.QUEUE_FULL
    lane.give_back(lane.take().runs, Dropped.DISK_FULL, 0)
    assert lane.refusal(1) is Dropped.DISK_FULL


def test_a_withdrawn_purpose_leaves_the_others() -> None:
    lane = Queue(LIMITS).lanes[Lane.P1]
    lane.put(waiting(1, 10, Purpose.DRIVING))
    lane.put(waiting(2, 10, Purpose.SAFETY))
    assert lane.withdraw(Purpose.DRIVING) == 1
    assert [record.purpose for record in lane.runs] == [Purpose.SAFETY]
    assert (lane.count, lane.size) == (1, lane.runs[0].size)
    assert lane.withdraw(None) == 1
    assert (lane.count, lane.size, lane.due_ns()) == (0, 0, None)


def test_a_commit_begins_early_enough_to_end_in_time() -> None:
    assert all(COMMIT_AFTER_NS[lane] <= COMMIT_WITHIN_NS[lane] - 30_000_000 for lane in Lane)


OFFERS = st.lists(
    st.tuples(st.sampled_from(Lane), st.integers(0, 400_000_000), st.integers(0, 20_000_000)), max_size=60
)


@given(OFFERS)
def test_a_power_cut_takes_no_record_that_has_waited_longer_than_its_lane_allows(
    offers: list[tuple[Lane, int, int]],
) -> None:
    """At any moment of an owner that commits what is due when it is due; `slow_ns`: how long flash takes for it."""
    queue, now_ns, slowest_ns = Queue(SpoolLimits()), 0, max((slow_ns for _, _, slow_ns in offers), default=0)
    for number, (lane, gap_ns, slow_ns) in enumerate(offers):
        then_ns = now_ns + gap_ns
        while (due_ns := queue.due_ns()) is not None and due_ns <= then_ns:
            now_ns = max(now_ns, due_ns)
            batch = queue.take(now_ns, everything=False)
            assert batch is not None
            for part in batch.parts:
                assert now_ns - part.runs[0].offered_ns <= COMMIT_AFTER_NS[part.lane] + slowest_ns
                queue.lanes[part.lane].settle(len(part.runs), sum(run.size for run in part.runs))
            now_ns += slow_ns
        now_ns = max(now_ns, then_ns)
        queue.lanes[lane].put(offered_at(now_ns, number))
