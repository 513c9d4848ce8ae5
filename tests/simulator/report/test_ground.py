"""The road is where the boxes say: the camera that made them is found again from them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.boxes import Box
from simulator.report.ground import LANE_M, USUAL_CAMERA_M, USUAL_HORIZON, infer
from tests.simulator.report.synthetic import CAMERA_HEIGHT_M, FOCAL_PX, HEIGHT, HORIZON, WIDTH, drive

BOXES = tuple(box for frame in drive().frames for box in frame.boxes)


def moved(right_px: float, down_px: float) -> list[Box]:
    return [
        Box(
            b.track_id,
            b.label,
            b.score,
            (b.box[0] + right_px, b.box[1] + down_px, b.box[2] + right_px, b.box[3] + down_px),
        )
        for b in BOXES
    ]


def test_the_camera_is_found_again_from_what_it_saw() -> None:
    ground = infer(BOXES, WIDTH, HEIGHT)
    assert ground.horizon == pytest.approx(HORIZON, abs=6)
    assert ground.camera_m == pytest.approx(CAMERA_HEIGHT_M, abs=0.1)
    away_m = FOCAL_PX * CAMERA_HEIGHT_M / (HEIGHT - HORIZON)
    assert ground.metre_px == pytest.approx(FOCAL_PX / away_m, rel=0.1)


def test_there_is_a_lane_for_everybody() -> None:
    ground = infer(BOXES, WIDTH, HEIGHT)
    assert (ground.lanes_left, ground.lanes_right) == (1, 1)
    assert ground.edges_m == (-1.5 * LANE_M, 1.5 * LANE_M)
    assert ground.lines_m == (-0.5 * LANE_M, 0.5 * LANE_M)


def test_a_road_without_neighbours_on_the_right_ends_there() -> None:
    left = [box for box in BOXES if (box.box[0] + box.box[2]) / 2 < WIDTH / 2 - 10]
    ground = infer(left, WIDTH, HEIGHT)
    assert (ground.lanes_left, ground.lanes_right) == (1, 0)


@pytest.mark.parametrize("down_px", [-60, 40])
def test_a_camera_that_looks_higher_or_lower_moves_the_horizon(down_px: float) -> None:
    assert infer(moved(0, down_px), WIDTH, HEIGHT).horizon == pytest.approx(HORIZON + down_px, abs=6)


def test_a_few_strays_move_nothing() -> None:
    strays = [Box(9, "car", 0.3, (0.0, 100.0, 30.0, 500.0))] * (len(BOXES) // 50)
    assert infer([*BOXES, *strays], WIDTH, HEIGHT).horizon == pytest.approx(HORIZON, abs=8)


def test_trucks_do_not_pass_for_cars() -> None:
    trucks = [Box(b.track_id, "truck", b.score, (b.box[0], b.box[3] - 2 * (b.box[3] - b.box[1]), b.box[2], b.box[3]))
              for b in BOXES]  # fmt: skip
    assert infer([*BOXES, *trucks], WIDTH, HEIGHT).camera_m == pytest.approx(CAMERA_HEIGHT_M, abs=0.1)


def test_no_camera_drives_a_hand_above_the_road() -> None:
    flat = [Box(n, "car", 0.5, (400.0, 300 - 0.9 * n, 500.0, 300 + 0.1 * n)) for n in range(10, 100)]
    assert infer(flat, WIDTH, HEIGHT).camera_m == USUAL_CAMERA_M


def test_without_enough_boxes_the_road_is_the_usual_one() -> None:
    for few in ((), BOXES[:5], BOXES[:1] * 100):
        ground = infer(few, WIDTH, HEIGHT)
        assert (ground.horizon, ground.camera_m) == (USUAL_HORIZON * HEIGHT, USUAL_CAMERA_M)


@given(st.lists(st.tuples(*[st.floats(-500, 1500)] * 4), max_size=80))
def test_boxes_that_make_no_sense_still_leave_a_road(corners: list[tuple[float, float, float, float]]) -> None:
    ground = infer([Box(1, "car", 0.5, corner) for corner in corners], WIDTH, HEIGHT)
    assert 0 <= ground.top < ground.horizon < 0.76 * HEIGHT
    assert ground.metre_px > 10
    assert 0 <= ground.lanes_left <= 3
    assert 0 <= ground.lanes_right <= 3
