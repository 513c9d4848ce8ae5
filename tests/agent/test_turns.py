"""Laws of the queue between camera and worker."""

from __future__ import annotations

import itertools

from hypothesis import example, given
from hypothesis import strategies as st

from agent.perception.turns import InOrder, NewestFirst, Turn
from inference.messages import Filled

PERIOD_NS = 40


def frame(number: int) -> Filled:
    return Filled(slot=number % 6, frame_id=number, t_ns=number * PERIOD_NS, fresh=False)


def test_a_newer_frame_takes_the_place_of_the_waiting_one() -> None:
    turns = NewestFirst()
    assert turns.put(frame(1), 40) is None
    assert turns.put(frame(2), 41) == frame(1)
    assert len(turns) == 1
    assert turns.take(42, PERIOD_NS) == Turn(frame(2))
    assert turns.take(43, PERIOD_NS) == Turn()


@given(st.integers(0, 100), st.integers(0, 200))
@example(0, PERIOD_NS // 2)
@example(0, PERIOD_NS // 2 + 1)
def test_a_frame_is_looked_at_within_half_a_period_of_waiting_or_not_at_all(arrived_ns: int, waited_ns: int) -> None:
    turns = NewestFirst()
    turns.put(frame(1), arrived_ns)
    turn = turns.take(arrived_ns + waited_ns, PERIOD_NS)
    assert turn == (Turn(frame(1)) if waited_ns <= PERIOD_NS // 2 else Turn(late=frame(1)))
    assert len(turns) == 0


@given(st.integers(0, 10_000))
def test_a_frame_that_came_late_from_its_camera_has_not_waited_for_its_turn(late_ns: int) -> None:
    turns = NewestFirst()
    arrived_ns = frame(1).t_ns + late_ns
    turns.put(frame(1), arrived_ns)
    assert turns.take(arrived_ns, PERIOD_NS) == Turn(frame(1))


@given(st.integers(1, 4 * PERIOD_NS), st.integers(50, 200))
def test_however_slow_the_model_is_it_never_rests_for_long(model_ns: int, frames: int) -> None:
    """A worker that is always asked as soon as it may be is idle for at most a period between two frames."""
    turns, looked_at, free_ns = NewestFirst(), list[int](), 0
    for number in range(1, frames):
        now_ns = number * PERIOD_NS
        turns.put(frame(number), now_ns)
        until_ns = now_ns + PERIOD_NS
        if free_ns < until_ns:
            began_ns = max(free_ns, now_ns)
            if turns.take(began_ns, PERIOD_NS).frame is not None:
                looked_at.append(began_ns)
                free_ns = began_ns + model_ns
    gaps = [b - a for a, b in itertools.pairwise(looked_at)]
    assert all(gap <= model_ns + PERIOD_NS for gap in gaps)


@given(st.lists(st.sampled_from(["put", "take"]), max_size=60))
def test_in_lockstep_every_frame_has_its_turn_in_order(acts: list[str]) -> None:
    turns, given_out, number = InOrder(), list[int](), 0
    for act in acts:
        if act == "put":
            assert turns.put(frame(number), number) is None
            number += 1
        elif (turn := turns.take(10**12, PERIOD_NS)).frame is not None:
            given_out.append(turn.frame.frame_id)
        assert len(given_out) + len(turns) == number
    assert given_out == list(range(len(given_out)))
