"""Laws of the token buckets: nobody has more than the burst and the flow, and waiting as told is enough."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ecu.clock import SECOND_NS
from receiver.quota import Quota

asks = st.lists(st.tuples(st.integers(1, 20), st.integers(0, 3 * SECOND_NS)), max_size=40)


@given(asks)
def test_no_more_is_granted_than_burst_and_flow_together(wanted: list[tuple[int, int]]) -> None:
    quota, now_ns, granted = Quota(per_s=5.0, burst=20.0), 0, 0
    for amount, pause_ns in wanted:
        now_ns += pause_ns
        granted += amount if quota.take("a", amount, now_ns) == 0.0 else 0
        assert granted <= 20.0 + 5.0 * now_ns / SECOND_NS + 1e-6


@given(asks)
def test_waiting_as_long_as_told_is_enough(wanted: list[tuple[int, int]]) -> None:
    quota, now_ns = Quota(per_s=5.0, burst=20.0), 0
    for amount, pause_ns in wanted:
        now_ns += pause_ns
        wait_s = quota.take("a", amount, now_ns)
        if wait_s > 0.0:
            now_ns += int(wait_s * SECOND_NS) + 1000
            assert quota.take("a", amount, now_ns) == 0.0


def test_names_do_not_share_and_are_kept_in_bounded_number() -> None:
    quota = Quota(per_s=1e-9, burst=1.0, names_kept=2)
    assert quota.take("a", 1, 0) == 0.0
    assert quota.take("b", 1, 0) == 0.0
    assert quota.take("a", 1, 0) > 0.0
    assert quota.take("c", 1, 0) == 0.0  # forgets the one charged longest ago: "a"
    assert quota.take("b", 1, 0) > 0.0
    assert quota.take("a", 1, 0) == 0.0


def test_no_idle_time_saves_up_more_than_the_burst() -> None:
    quota = Quota(per_s=1.0, burst=2.0)
    quota.charge("a", 1, 0)
    assert [quota.take("a", 1, 100 * SECOND_NS) for _ in range(3)] == [0.0, 0.0, 1.0]


def test_more_than_the_burst_may_be_had_once_the_bucket_is_full() -> None:
    quota = Quota(per_s=1.0, burst=2.0)
    assert quota.take("a", 5, 0) == 0.0
    assert quota.wait_s("a", 5, 0) == 5.0


def test_of_too_many_names_the_one_that_was_charged_longest_ago_is_forgotten() -> None:
    quota = Quota(per_s=1.0, burst=1.0, names_kept=2)
    for name in ("a", "b", "a", "c"):
        quota.charge(name, 1, 0)
    assert quota.wait_s("b", 1, 0) == 0.0
    assert quota.wait_s("a", 1, 0) > 0.0
