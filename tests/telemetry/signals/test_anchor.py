"""Stamps of a source whose clock can't be trusted."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ecu.clock import MILLISECOND_NS, SECOND_NS
from telemetry.signals.anchor import PATIENCE_NS, TOLERANCE_NS, Anchor
from telemetry.signals.framesource import anchored

YEAR_NS = 365 * 86_400 * SECOND_NS


class Listener:
    """Takes batches of stamps at an instant, and what became of them."""

    def __init__(self) -> None:
        self.anchor = Anchor()
        self.now_ns = 1000 * SECOND_NS
        self.last_ns = -1

    def hear(self, *stamps_ns: int, after_ns: int = 20 * MILLISECOND_NS) -> list[int]:
        self.now_ns += after_ns
        told = anchored(np.array(stamps_ns, np.int64), self.anchor, self.last_ns, self.now_ns)
        self.last_ns = int(told[-1])
        return [int(t_ns) for t_ns in told]


def test_a_true_clock_is_believed_to_the_nanosecond() -> None:
    listener = Listener()
    for _ in range(100):
        t_ns = listener.now_ns + 19 * MILLISECOND_NS
        assert listener.hear(t_ns, t_ns + 7) == [t_ns, t_ns + 7]
    assert listener.anchor.moved == 0


def test_a_clock_that_jumps_is_counted_once_and_makes_no_true_sample_late() -> None:
    for jump_ns in (10 * YEAR_NS, -10 * YEAR_NS, 5 * SECOND_NS, -5 * SECOND_NS):
        listener = Listener()
        listener.hear(listener.now_ns)
        for _ in range(50):
            stamp_ns = listener.now_ns + jump_ns
            (told,) = listener.hear(stamp_ns)
            assert listener.now_ns - 40 * MILLISECOND_NS <= told <= listener.now_ns
        assert listener.anchor.moved == 1
        # The clock is right again: that is one more jump, and nothing is lost by it.
        (told,) = listener.hear(listener.now_ns)
        assert listener.now_ns - 40 * MILLISECOND_NS <= told <= listener.now_ns


def test_a_jump_within_a_batch_moves_only_what_is_behind_it() -> None:
    listener = Listener()
    now_ns = listener.now_ns
    told = listener.hear(now_ns, now_ns + 5, now_ns + YEAR_NS, now_ns + YEAR_NS + 8)
    assert told[:2] == [now_ns, now_ns + 5]
    assert told[2:] == [listener.now_ns - 8, listener.now_ns]
    assert listener.anchor.moved == 1


def test_what_waited_through_a_suspend_stays_old() -> None:
    listener = Listener()
    before_ns = listener.now_ns
    assert listener.hear(before_ns, after_ns=3600 * SECOND_NS) == [before_ns]
    t_ns = listener.now_ns
    assert listener.hear(t_ns) == [t_ns]
    assert listener.anchor.moved == 0


def test_a_clock_that_slept_with_the_source_is_only_behind_for_so_long() -> None:
    listener = Listener()
    behind_ns = 100 * SECOND_NS
    listener.hear(listener.now_ns - behind_ns)
    while listener.anchor.moved == 0:
        listener.hear(listener.now_ns - behind_ns)
        assert listener.now_ns <= 1000 * SECOND_NS + PATIENCE_NS + SECOND_NS
    (told,) = listener.hear(listener.now_ns - behind_ns)
    assert told >= listener.now_ns - 50 * MILLISECOND_NS


def test_a_greeting_says_how_far_the_clocks_are_apart() -> None:
    anchor = Anchor()
    anchor.greet(5 * SECOND_NS, 5 * SECOND_NS + TOLERANCE_NS)
    assert (anchor.moved, anchor.offset_ns) == (0, 0)
    anchor.greet(5 * SECOND_NS, 900 * SECOND_NS)
    assert (anchor.moved, anchor.offset_ns) == (1, 895 * SECOND_NS)


@given(
    st.lists(
        st.tuples(st.lists(st.integers(-(2**60), 2**60), min_size=1, max_size=5), st.integers(0, 2**40)), max_size=20
    )
)
def test_whatever_a_source_stamps_time_runs_forward_up_to_now(heard: list[tuple[list[int], int]]) -> None:
    listener = Listener()
    before_ns = -1
    for stamps, after_ns in heard:
        told = listener.hear(*stamps, after_ns=after_ns)
        assert told == sorted(told)
        assert before_ns <= told[0]
        assert told[-1] <= listener.now_ns
        before_ns = told[-1]
