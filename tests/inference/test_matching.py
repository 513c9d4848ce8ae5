"""Laws of matching: every object and every detection counts once, and what is to be ignored not at all."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from inference.detections import Detections
from inference.matching import Tally, covered_share, tally
from tests.inference.boxes import detections, some_detections

NONE = np.zeros((0, 4))
AWAY = 500.0


def boxes(*rows: tuple[float, float, float, float]) -> NDArray[np.float64]:
    return np.array(rows, np.float64).reshape(-1, 4)


def joined(left: Detections, right: Detections) -> Detections:
    return Detections(
        np.concatenate([left.boxes, right.boxes]),
        np.concatenate([left.scores, right.scores]),
        np.concatenate([left.labels, right.labels]),
    )


some_boxes = some_detections(8).map(lambda seen: seen.boxes.astype(np.float64))


@given(some_boxes, some_boxes, some_detections())
def test_every_object_is_found_or_missed_and_a_detection_counts_once(
    objects: NDArray[np.float64], ignored: NDArray[np.float64], seen: Detections
) -> None:
    counted = tally(objects, ignored, seen, 0.5)
    assert counted.found + counted.missed == len(objects)
    assert counted.found + counted.false <= len(seen)
    assert tally(objects, NONE, seen, 0.5).false == len(seen) - counted.found


@given(some_boxes, some_boxes)
def test_the_objects_themselves_are_all_found(objects: NDArray[np.float64], ignored: NDArray[np.float64]) -> None:
    same = Detections(objects.astype(np.float32), np.ones(len(objects), np.float32), np.zeros(len(objects), np.int64))
    assert tally(np.unique(objects, axis=0), ignored, same, 0.95).missed == 0


@given(some_boxes, some_boxes, some_detections(), st.randoms(use_true_random=False))
def test_the_order_in_which_detections_come_changes_nothing(
    objects: NDArray[np.float64], ignored: NDArray[np.float64], seen: Detections, rng: Random
) -> None:
    order = list(range(len(seen)))
    rng.shuffle(order)
    shuffled = seen.pick(np.array(order, np.intp))
    assert tally(objects, ignored, shuffled, 0.5) == tally(objects, ignored, seen, 0.5)


@given(some_boxes, some_boxes, some_detections(), st.sampled_from([0.1, 0.5, 0.99]))
def test_a_detection_where_nothing_is_adds_one_false_and_changes_nothing_else(
    objects: NDArray[np.float64], ignored: NDArray[np.float64], seen: Detections, score: float
) -> None:
    more = joined(seen, detections((0, score, AWAY, AWAY, AWAY + 10, AWAY + 10)))
    before = tally(objects, ignored, seen, 0.5)
    assert tally(objects, ignored, more, 0.5) == before._replace(false=before.false + 1)


@given(some_boxes, some_boxes, some_detections(), st.sampled_from([0.1, 0.5, 0.99]))
def test_a_detection_in_an_ignored_region_counts_neither_way(
    objects: NDArray[np.float64], ignored: NDArray[np.float64], seen: Detections, score: float
) -> None:
    region = boxes((AWAY, AWAY, AWAY + 10, AWAY + 10))
    more = joined(seen, detections((0, score, AWAY, AWAY + 1, AWAY + 9, AWAY + 14)))
    everywhere = np.concatenate([ignored, region])
    assert tally(objects, everywhere, more, 0.5) == tally(objects, everywhere, seen, 0.5)


@given(some_boxes, some_boxes, some_detections())
def test_ignoring_a_region_never_unfinds_an_object_and_never_adds_a_false_one(
    objects: NDArray[np.float64], ignored: NDArray[np.float64], seen: Detections
) -> None:
    without, within = tally(objects, NONE, seen, 0.5), tally(objects, ignored, seen, 0.5)
    assert (within.found, within.missed) == (without.found, without.missed)
    assert within.false <= without.false


@pytest.mark.parametrize(
    ("objects", "seen", "expected"),
    [
        (boxes((0, 0, 10, 10)), detections((0, 0.5, 0, 0, 10, 5)), Tally(1, 0, 0)),
        (boxes((0, 0, 10, 10)), detections((0, 0.5, 0, 0, 10, 4.9)), Tally(0, 1, 1)),
        # Found twice is found once.
        (boxes((0, 0, 10, 10)), detections((0, 0.9, 0, 0, 10, 10), (0, 0.8, 0, 0, 10, 10)), Tally(1, 1, 0)),
        # The surer takes what overlaps it most, even what the other one would need.
        (
            boxes((0, 0, 10, 10), (4, 0, 14, 10)),
            detections((0, 0.9, 3, 0, 13, 10), (0, 0.5, 4, 0, 14, 10)),
            Tally(1, 1, 1),
        ),
        (
            boxes((0, 0, 10, 10), (4, 0, 14, 10)),
            detections((0, 0.5, 3, 0, 13, 10), (0, 0.9, 4, 0, 14, 10)),
            Tally(2, 0, 0),
        ),
        (NONE, detections(), Tally(0, 0, 0)),
        (NONE, detections((0, 0.5, 0, 0, 1, 1)), Tally(0, 1, 0)),
        (boxes((0, 0, 10, 10)), detections(), Tally(0, 0, 1)),
    ],
)
def test_tallies_by_hand(objects: NDArray[np.float64], seen: Detections, expected: Tally) -> None:
    assert tally(objects, NONE, seen, 0.5) == expected


def test_a_detection_is_ignored_from_more_than_half_of_its_own_area_on() -> None:
    seen = detections((0, 0.5, 0, 0, 10, 10))
    assert tally(NONE, boxes((0, 0, 10, 5)), seen, 0.5).false == 1
    assert tally(NONE, boxes((0, 0, 10, 5.1)), seen, 0.5).false == 0
    # Of its own area, not of the region's: a region within a large detection excuses nothing.
    assert tally(NONE, boxes((4, 4, 6, 6)), seen, 0.5).false == 1


def test_regions_side_by_side_ignore_together_and_overlapping_ones_count_once() -> None:
    seen = detections((0, 0.5, 0, 0, 10, 10))
    assert tally(NONE, boxes((0, 0, 3, 10), (7, 0, 20, 10)), seen, 0.5).false == 0
    assert tally(NONE, boxes((0, 0, 3, 10), (0, 0, 3, 10), (1, 0, 4, 10)), seen, 0.5).false == 1


def test_what_was_found_is_found_in_an_ignored_region_too() -> None:
    inside = boxes((0, 0, 10, 10))
    assert tally(inside, inside, detections((0, 0.5, 0, 0, 10, 10)), 0.5) == Tally(1, 0, 0)


@given(some_boxes, some_boxes)
@settings(max_examples=50)
def test_the_share_is_that_of_the_pixels_covered(boxes_: NDArray[np.float64], regions: NDArray[np.float64]) -> None:
    canvas = np.zeros((120, 120), np.bool_)
    for x1, y1, x2, y2 in regions.astype(int).tolist():
        canvas[y1:y2, x1:x2] = True
    pixels = [canvas[y1:y2, x1:x2].mean() for x1, y1, x2, y2 in boxes_.astype(int).tolist()]
    np.testing.assert_allclose(covered_share(boxes_, regions), pixels, atol=1e-12)
