"""Laws of decoding and of suppression."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from inference.decode import BINS, MAX_CANDIDATES, MAX_DETECTIONS, Decoder, cell_count, suppress
from inference.detections import Detections, iou
from tests.inference.boxes import as_rows, detections, some_detections

HW = (64, 96)
IOU = 0.5
Suppress = Callable[[Detections, float], NDArray[np.intp]]


def outputs(classes: int = 3) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    return np.zeros((cell_count(HW), classes), np.float32), np.zeros((cell_count(HW), 4 * BINS), np.float32)


def say(reg: NDArray[np.float32], cell: int, bins: tuple[int, int, int, int]) -> None:
    """Makes the cell certain of its four distances."""
    for side, which in enumerate(bins):
        reg[cell, side * BINS + which] = 40


def test_a_certain_cell_gives_its_box_about_its_centre() -> None:
    scores, reg = outputs()
    scores[13, 1] = 0.8  # stride 8, 12 cells a row: row 1, column 1, centre (11.5, 11.5)
    say(reg, 13, (1, 0, 2, 3))
    seen = Decoder(HW).decode(scores, reg, 0.5, 0.6)
    np.testing.assert_allclose(seen.boxes, [[3.5, 11.5, 27.5, 35.5]], atol=1e-4)
    assert seen.labels.tolist() == [1]


def test_each_stride_has_its_own_grid_after_the_one_before() -> None:
    scores, reg = outputs()
    first_of_32 = cell_count(HW) - 6
    scores[first_of_32 + 4, 0] = 0.8  # stride 32, 3 cells a row: row 1, column 1
    say(reg, first_of_32 + 4, (1, 1, 1, 1))
    seen = Decoder(HW).decode(scores, reg, 0.5, 0.6)
    np.testing.assert_allclose(seen.boxes, [[15.5, 15.5, 79.5, 64]], atol=1e-4)  # 79.5 below is clipped to the canvas


def test_an_undecided_side_takes_its_mean_distance() -> None:
    scores, reg = outputs()
    first_of_16 = 12 * 8
    scores[first_of_16 + 2, 0] = 0.8  # stride 16, row 0, column 2: centre (39.5, 7.5)
    say(reg, first_of_16 + 2, (1, 0, 2, 0))
    reg[first_of_16 + 2, [1, 3]] = 40  # left: half one stride, half three
    seen = Decoder(HW).decode(scores, reg, 0.5, 0.6)
    np.testing.assert_allclose(seen.boxes, [[39.5 - 2 * 16, 7.5, 39.5 + 2 * 16, 7.5]], atol=1e-3)


def test_a_score_at_the_threshold_counts_and_below_doesnt() -> None:
    scores, reg = outputs()
    scores[0, 0], scores[50, 0] = 0.4, np.nextafter(np.float32(0.4), np.float32(0))
    assert len(Decoder(HW).decode(scores, reg, 0.4, 0.6)) == 1


def test_a_cell_stands_for_its_best_class_and_the_first_of_equals() -> None:
    scores, reg = outputs()
    scores[0], scores[50] = (0.2, 0.7, 0.6), (0.5, 0.5, 0.1)
    assert Decoder(HW).decode(scores, reg, 0.4, 0.6).labels.tolist() == [1, 0]


def test_boxes_never_leave_the_canvas() -> None:
    scores, reg = outputs()
    scores[:, 0] = 0.9
    reg[:, BINS - 1 :: BINS] = 40
    boxes = Decoder(HW).candidates(scores, reg, 0.5).boxes
    assert boxes.min() >= 0
    assert (boxes[:, 2] <= 96).all()
    assert (boxes[:, 3] <= 64).all()


def test_a_model_gone_wild_is_cut_to_the_surest() -> None:
    hw = (416, 416)
    scores = np.linspace(0.5, 0.9, cell_count(hw), dtype=np.float32)[:, None]
    reg = np.zeros((cell_count(hw), 4 * BINS), np.float32)
    reg[:, ::BINS] = 40  # empty boxes: nothing suppresses anything
    decoder = Decoder(hw)
    candidates = decoder.candidates(scores, reg, 0.1)
    assert len(candidates) == MAX_CANDIDATES
    assert candidates.scores.min() == np.sort(scores[:, 0])[-MAX_CANDIDATES]
    assert len(decoder.decode(scores, reg, 0.1, 0.6)) == MAX_DETECTIONS


def test_nothing_seen_is_no_detections() -> None:
    assert len(Decoder(HW).decode(*outputs(), 0.4, 0.6)) == 0


def keeps_no_rivals(candidates: Detections, kept: NDArray[np.intp]) -> bool:
    chosen = candidates.pick(kept)
    overlap = iou(chosen.boxes, chosen.boxes) * (chosen.labels[:, None] == chosen.labels[None])
    np.fill_diagonal(overlap, 0)
    return bool((overlap <= IOU).all())


def drops_only_for_a_surer_rival(candidates: Detections, kept: NDArray[np.intp]) -> bool:
    chosen = candidates.pick(kept)
    for which in set(range(len(candidates))) - set(kept.tolist()):
        one = candidates.pick(np.array([which]))
        rival = (iou(one.boxes, chosen.boxes)[0] > IOU) & (chosen.labels == one.labels) & (chosen.scores >= one.scores)
        if not rival.any():
            return False
    return True


@given(some_detections())
def test_no_two_kept_of_a_class_overlap(candidates: Detections) -> None:
    assert keeps_no_rivals(candidates, suppress(candidates, IOU))


@given(some_detections())
def test_what_is_dropped_had_a_surer_rival_that_stays(candidates: Detections) -> None:
    assert drops_only_for_a_surer_rival(candidates, suppress(candidates, IOU))


@given(some_detections())
def test_suppression_is_idempotent(candidates: Detections) -> None:
    once = candidates.pick(suppress(candidates, IOU))
    assert as_rows(once.pick(suppress(once, IOU))) == as_rows(once)


@given(some_detections(), st.randoms(use_true_random=False))
def test_the_order_of_candidates_doesnt_matter(candidates: Detections, rng: object) -> None:
    order = np.arange(len(candidates))
    rng.shuffle(order)  # type: ignore[attr-defined]
    shuffled = candidates.pick(order)
    kept, kept_shuffled = candidates.pick(suppress(candidates, IOU)), shuffled.pick(suppress(shuffled, IOU))
    assert kept.boxes.tolist() == kept_shuffled.boxes.tolist()
    assert kept.labels.tolist() == kept_shuffled.labels.tolist()


@given(some_detections())
def test_the_surest_comes_first(candidates: Detections) -> None:
    scores = candidates.scores[suppress(candidates, IOU)]
    assert (np.diff(scores) <= 0).all()


def everything(candidates: Detections, _: float) -> NDArray[np.intp]:
    return np.arange(len(candidates))


def across_classes(candidates: Detections, nms_iou: float) -> NDArray[np.intp]:
    return suppress(Detections(candidates.boxes, candidates.scores, np.zeros_like(candidates.labels)), nms_iou)


def least_sure_first(candidates: Detections, nms_iou: float) -> NDArray[np.intp]:
    return suppress(Detections(candidates.boxes, -candidates.scores, candidates.labels), nms_iou)


@pytest.mark.parametrize("mutant", [everything, across_classes, least_sure_first])
def test_the_laws_above_catch_a_wrong_suppression(mutant: Suppress) -> None:
    candidates = detections(
        (0, 0.9, 0, 0, 10, 10), (0, 0.5, 1, 0, 11, 10), (1, 0.8, 0, 0, 10, 10), (0, 0.4, 2, 0, 12, 10)
    )
    kept = mutant(candidates, IOU)
    assert not (keeps_no_rivals(candidates, kept) and drops_only_for_a_surer_rival(candidates, kept))
    right = suppress(candidates, IOU)
    assert keeps_no_rivals(candidates, right)
    assert drops_only_for_a_surer_rival(candidates, right)


@given(some_detections(), some_detections())
def test_overlap_is_a_symmetric_fraction_and_whole_only_with_itself(left: Detections, right: Detections) -> None:
    overlap = iou(left.boxes, right.boxes)
    assert ((overlap >= 0) & (overlap <= 1)).all()
    np.testing.assert_array_equal(overlap.T, iou(right.boxes, left.boxes))
    np.testing.assert_array_equal(np.diag(iou(left.boxes, left.boxes)), 1.0)


def test_overlap_by_hand() -> None:
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30], [3, 3, 3, 3]], np.float32)
    np.testing.assert_allclose(iou(boxes[:1], boxes)[0], [1, 1 / 3, 0, 0])
    assert iou(boxes[3:], boxes[3:]).tolist() == [[0]]
