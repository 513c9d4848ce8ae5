"""How far two models agree: every object counts once, and the sums go on from frame to frame."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.perception.agreement import Agreement
from inference.messages import SeenTrack


def track(label: str, *box: float) -> SeenTrack:
    x1, y1, x2, y2 = box
    return SeenTrack(1, label, 0.9, (x1, y1, x2, y2), 5, True)


CAR, FAR_CAR, TRUCK = track("car", 0, 0, 10, 10), track("car", 50, 0, 60, 10), track("truck", 0, 0, 10, 10)


def test_agreement_counts_each_object_once() -> None:
    assert Agreement().with_frame([CAR], [CAR]) == Agreement(1, 1, 0, 0)
    assert Agreement().with_frame([CAR], [TRUCK]) == Agreement(1, 0, 1, 1)
    assert Agreement().with_frame([CAR, CAR], [CAR]) == Agreement(1, 1, 1, 0)
    assert Agreement().with_frame([CAR, FAR_CAR], [FAR_CAR]).f1 == pytest.approx(2 / 3)
    assert Agreement().with_frame([], []).f1 == 1.0


def test_what_is_told_in_another_state_isnt_agreed_about() -> None:
    red, green = (msgspec.structs.replace(CAR, label="traffic_light", state=state) for state in ("red", "green"))
    assert Agreement().with_frame([red], [red]) == Agreement(1, 1, 0, 0)
    assert Agreement().with_frame([red], [green]) == Agreement(1, 0, 1, 1)


@pytest.mark.parametrize(
    ("other", "are_one"),
    [
        ((0, 0, 10, 5), True),  # half of it: 0.5 exactly
        ((0, 0, 10, 4.9), False),
        ((0, 0, 10, 5.5), True),
        ((0, 2, 10, 12), True),  # 80 of 120
        ((0, 4, 10, 14), False),  # 60 of 140
        ((20, 0, 30, 10), False),
        ((0, 20, 10, 30), False),
        ((10, 10, 20, 20), False),
    ],
)
def test_two_boxes_are_one_object_from_half_of_their_union_on(
    other: tuple[float, float, float, float], are_one: bool
) -> None:
    assert Agreement().with_frame([CAR], [track("car", *other)]).both == are_one


objects = st.lists(st.sampled_from([CAR, FAR_CAR, TRUCK]), max_size=5)


@given(st.lists(st.tuples(objects, objects), max_size=5))
def test_the_sums_are_those_of_all_frames(frames: list[tuple[list[SeenTrack], list[SeenTrack]]]) -> None:
    total = Agreement()
    for first, second in frames:
        total = total.with_frame(first, second)
    assert total.frames == len(frames)
    assert total.both + total.first_alone == sum(len(first) for first, _ in frames)
    assert total.both + total.second_alone == sum(len(second) for _, second in frames)
    swapped = Agreement()
    for first, second in frames:
        swapped = swapped.with_frame(second, first)
    assert swapped == Agreement(total.frames, total.both, total.second_alone, total.first_alone)
