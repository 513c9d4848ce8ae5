"""Laws of the tracker."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.detections import Detections
from inference.track import Track, Tracker, TrackerParams
from tests.inference.boxes import Row, detections, some_detections

CAR, TRUCK = 0, 1
drives = st.lists(some_detections(8), max_size=8)
fewer = settings(max_examples=40)


def car(x: float, score: float = 0.7, label: int = CAR) -> Row:
    return label, score, x, 10, x + 40, 40


def follow(tracker: Tracker, *frames: Detections) -> list[tuple[Track, ...]]:
    return [tracker.update(frame) for frame in frames]


def ids(tracks: tuple[Track, ...]) -> list[int]:
    return [track.track_id for track in tracks]


@given(drives)
@fewer
def test_the_same_drive_gives_the_same_tracks(drive: list[Detections]) -> None:
    assert follow(Tracker(), *drive) == follow(Tracker(), *drive)


@given(drives, st.integers(0, 2**32 - 1))
@fewer
def test_the_order_of_detections_doesnt_matter(drive: list[Detections], seed: int) -> None:
    rng = np.random.default_rng(seed)
    shuffled = [frame.pick(rng.permutation(len(frame))) for frame in drive]
    assert follow(Tracker(), *drive) == follow(Tracker(), *shuffled)


@given(drives, st.integers(1, 1000))
@fewer
def test_numbers_count_up_from_the_first_and_never_come_back(drive: list[Detections], first_id: int) -> None:
    tracker = Tracker(first_id=first_id)
    before: set[int] = set()
    lost: set[int] = set()
    for frame in drive:
        now = set(ids(tracker.update(frame)))
        assert not now & lost
        assert all(number == first_id or number - 1 in before | now for number in now - before)
        lost |= before - now
        before |= now
    assert tracker.next_id == first_id + len(before)


@given(drives, drives)
@fewer
def test_a_new_scene_forgets_the_tracks_and_keeps_the_count(one: list[Detections], other: list[Detections]) -> None:
    tracker = Tracker()
    follow(tracker, *one)
    tracker.reset()
    assert follow(tracker, *other) == follow(Tracker(first_id=tracker.next_id - _born(other)), *other)


def _born(drive: list[Detections]) -> int:
    tracker = Tracker()
    follow(tracker, *drive)
    return tracker.next_id - 1


@given(drives)
@fewer
def test_tracks_come_by_number_with_boxes_that_have_an_inside(drive: list[Detections]) -> None:
    for tracks in follow(Tracker(), *drive):
        assert ids(tracks) == sorted(ids(tracks))
        assert all(x1 < x2 and y1 < y2 for x1, y1, x2, y2 in (track.box for track in tracks))


@pytest.mark.parametrize("gap", [1, 5, 12])
def test_a_confirmed_object_keeps_its_number_over_a_gap_up_to_max_age(gap: int) -> None:
    tracker = Tracker(TrackerParams(max_age=12))
    follow(tracker, *(detections(car(100 + 2 * k)) for k in range(10)))
    during = follow(tracker, *[Detections.none()] * (gap - 1))
    assert all(ids(tracks) == [1] for tracks in during)
    after = tracker.update(detections(car(100 + 2 * (9 + gap))))
    assert ids(after) == [1]
    assert after[0].age == 0


def test_an_object_away_for_longer_than_max_age_gets_a_new_number() -> None:
    tracker = Tracker(TrackerParams(max_age=12))
    follow(tracker, *(detections(car(100)) for _ in range(5)))
    assert ids(follow(tracker, *[Detections.none()] * 12)[-1]) == [1]
    assert tracker.update(Detections.none()) == ()
    assert ids(tracker.update(detections(car(100)))) == [2]


def test_a_track_moves_on_while_its_object_is_hidden() -> None:
    tracker = Tracker()
    follow(tracker, *(detections(car(100 + 4 * k)) for k in range(30)))
    hidden = follow(tracker, *[Detections.none()] * 5)[-1][0]
    assert hidden.box[0] == pytest.approx(100 + 4 * 34, abs=2)
    assert hidden.age == 5


def test_a_track_is_confirmed_at_its_third_hit_and_dies_at_a_miss_before() -> None:
    tracker = Tracker()
    first, second, third = follow(tracker, *(detections(car(100)) for _ in range(3)))
    assert [tracks[0].confirmed for tracks in (first, second, third)] == [False, False, True]
    young = Tracker()
    assert follow(young, detections(car(100)), detections(car(100)), Detections.none())[-1] == ()


def test_an_unsure_detection_keeps_a_track_alive_and_never_begins_one() -> None:
    tracker = Tracker()
    assert tracker.update(detections(car(100, score=0.3))) == ()
    follow(tracker, *(detections(car(100)) for _ in range(3)))
    (kept,) = tracker.update(detections(car(101, score=0.3)))
    assert (kept.track_id, kept.age, kept.hits) == (1, 0, 4)
    assert kept.score == pytest.approx(0.3)


def test_an_unsure_echo_of_a_sure_object_keeps_no_phantom_alive() -> None:
    tracker = Tracker()
    object_and_half = detections(car(100), (CAR, 0.5, 100, 10, 122, 40))
    follow(tracker, *[object_and_half] * 3)
    object_and_echo = detections(car(100), (CAR, 0.3, 100, 10, 122, 40))
    assert [track.age for track in tracker.update(object_and_echo)] == [0, 1]
    beside = detections(car(100), (CAR, 0.3, 125, 10, 165, 40))
    other = Tracker()
    follow(other, *[detections(car(100), car(125))] * 3)
    assert [track.age for track in other.update(beside)] == [0, 0]


def test_what_scores_below_unsure_isnt_seen_at_all() -> None:
    tracker = Tracker()
    follow(tracker, *(detections(car(100)) for _ in range(3)))
    assert tracker.update(detections(car(100, score=0.1)))[0].age == 1


def test_a_wavering_class_keeps_its_number_and_the_label_it_was_most_sure_of() -> None:
    tracker = Tracker()
    wavering = [CAR, CAR, CAR, TRUCK, CAR, TRUCK, CAR]
    last = follow(tracker, *(detections(car(100 + k, label=label)) for k, label in enumerate(wavering)))[-1]
    assert [(track.track_id, track.label) for track in last] == [(1, CAR)]


def test_two_classes_in_one_place_stay_two_tracks() -> None:
    tracker = Tracker()
    both = detections(car(100), car(102, label=TRUCK))
    assert [ids(tracks) for tracks in follow(tracker, both, both, both)] == [[1, 2]] * 3


def test_neighbours_dont_swap_numbers() -> None:
    tracker = Tracker()
    frames = (detections(car(100 + 3 * k), car(150 + 3 * k)) for k in range(20))
    for k, tracks in enumerate(follow(tracker, *frames)):
        assert ids(tracks) == [1, 2]
        assert tracks[0].box[0] == pytest.approx(100 + 3 * k, abs=4)


def test_the_surer_of_two_equal_overlaps_wins() -> None:
    tracker = Tracker()
    tracker.update(detections(car(100)))
    tracks = tracker.update(detections(car(95, score=0.5), car(105, score=0.6)))
    assert tracks[0].score == pytest.approx(0.6)


def test_skipped_frames_count_as_age_and_motion() -> None:
    every, third = Tracker(), Tracker()
    for tracker in (every, third):
        follow(tracker, *(detections(car(100 + 4 * k)) for k in range(30)))
    (unseen,) = follow(every, *[Detections.none()] * 3)[-1]
    (at_once,) = third.update(Detections.none(), steps=3)
    assert at_once.age == unseen.age == 3
    assert at_once.box == pytest.approx(unseen.box)
    with pytest.raises(ValueError, match="can't lie between"):
        every.update(Detections.none(), steps=0)


def test_beyond_max_tracks_objects_are_counted_and_not_followed() -> None:
    tracker = Tracker(TrackerParams(max_tracks=3))
    crowd = detections(*(car(100 * k) for k in range(5)))
    assert len(tracker.update(crowd)) == 3
    assert tracker.not_followed == 2
    assert tracker.next_id == 4


def test_what_lies_there_after_a_gap_longer_than_a_tracks_life_is_another_object() -> None:
    tracker = Tracker()
    before = follow(tracker, *[detections(car(10))] * 5)[-1]
    assert ids(tracker.update(detections(car(10)), TrackerParams().max_age)) == ids(before)
    assert ids(tracker.update(detections(car(10)), TrackerParams().max_age + 1)) != ids(before)
