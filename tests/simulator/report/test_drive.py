"""The drawing says what the tracks say: same boxes, same times, a horizon where their feet point."""

from __future__ import annotations

import json
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.boxes import Box
from simulator.report.drive import (
    MAX_BOXES,
    MAX_FRAMES,
    arrivals,
    horizon,
    keyframes,
    replay_data,
    road,
    route_map,
    sky,
)
from simulator.report.evidence import Drive, Fault, Frame, Waypoint
from tests.simulator.report.synthetic import FAULTS, HEIGHT, HORIZON, SECONDS, WIDTH, drive


def all_boxes() -> list[Box]:
    return [box for frame in drive().frames for box in frame.boxes]


def test_the_horizon_is_found_from_the_boxes_alone() -> None:
    assert horizon(all_boxes(), HEIGHT) == pytest.approx(HORIZON, abs=6)


@pytest.mark.parametrize("shift_px", [-60, 40])
def test_a_camera_that_looks_higher_or_lower_moves_it(shift_px: float) -> None:
    moved = [Box(b.track_id, b.label, b.score, (b.box[0], b.box[1] + shift_px, b.box[2], b.box[3] + shift_px))
             for b in all_boxes()]  # fmt: skip
    assert horizon(moved, HEIGHT) == pytest.approx(HORIZON + shift_px, abs=6)


@given(st.lists(st.tuples(*[st.floats(0, 540)] * 4), max_size=60))
def test_boxes_that_make_no_sense_still_leave_a_road(corners: list[tuple[float, float, float, float]]) -> None:
    boxes = [Box(1, "car", 0.5, corner) for corner in corners]
    assert 0.3 * HEIGHT <= horizon(boxes, HEIGHT) <= 0.75 * HEIGHT
    assert 0 <= sky(boxes, HEIGHT) < horizon(boxes, HEIGHT)


def test_the_replay_holds_the_boxes_of_its_frames() -> None:
    data = json.loads(replay_data(drive(), FAULTS, SECONDS))
    frames = keyframes(drive().frames)
    assert data["times"] == [round(100 * frame.t_s) for frame in frames]
    for packed, frame in zip(data["boxes"], frames, strict=True):
        for (index, *edges), box in zip(packed, frame.boxes, strict=True):
            assert data["tracks"][index][0] == f"{box.label} {box.track_id}"
            assert edges == [round(edge) for edge in box.box]


def test_the_replay_knows_speed_brake_places_and_faults() -> None:
    data = json.loads(replay_data(drive(), FAULTS, SECONDS))
    assert len(data["speed"]) == len(data["brake"]) == round(SECONDS / data["every"]) + 1
    assert min(data["speed"]) < 75 < 95 < max(data["speed"])
    assert [fault[:2] for fault in data["faults"]][:2] == [["A", "Perception worker killed"], ["B", "Link cut"]]
    assert len(data["route"]) == len(arrivals(drive().route)) == 5


def test_no_label_can_end_the_script_that_holds_the_replay() -> None:
    evil = Frame(0.0, 0, (Box(1, "</script><script>alert(1)</script><!--", 0.5, (0, 0, 9, 9)),))
    text = replay_data(Drive(100, 100, (evil, evil)), (Fault("<!--<script>", 0, 1),), 1.0)
    assert "<" not in text
    assert json.loads(text)["tracks"][0][0].startswith("</script>")


@given(st.integers(1, 40_000), st.integers(0, 30))
def test_a_long_drive_is_thinned_and_still_begins_at_its_beginning(count: int, boxes: int) -> None:
    frames = _Same(count, Frame(0.0, 0, (Box(1, "car", 0.5, (0, 0, 1, 1)),) * boxes))
    kept = keyframes(frames)
    assert len(kept) <= MAX_FRAMES
    assert sum(len(frame.boxes) for frame in kept) <= MAX_BOXES + boxes
    assert kept[0] is frames[0]


class _Same(list[Frame]):
    def __init__(self, count: int, frame: Frame) -> None:
        super().__init__([frame] * count)


def test_the_first_frame_with_tracks_is_drawn_without_any_script() -> None:
    svg = road(drive())
    first = next(frame for frame in drive().frames if frame.boxes)
    assert svg.count('<g class="track') == len(first.boxes)
    assert f"{first.boxes[0].label} {first.boxes[0].track_id}" in svg


def test_nearer_tracks_are_drawn_over_farther_ones_and_keep_their_names() -> None:
    near, far = Box(1, "car", 0.9, (100, 100, 200, 300)), Box(2, "car", 0.9, (105, 102, 150, 200))
    svg = road(Drive(WIDTH, HEIGHT, (Frame(0.0, 0, (near, far)),)))
    assert svg.index("car 2") < svg.index("car 1")
    assert 'display="none">car 2' in svg
    assert 'display="none">car 1' not in svg


def test_a_vehicle_that_stands_tells_one_arrival() -> None:
    stay = [Waypoint(float(t), 37.0, -122.0) for t in range(50)]
    assert arrivals(stay) == stay[:1]
    assert arrivals([*stay, Waypoint(50.0, 37.1, -122.0), *stay]) == [stay[0], Waypoint(50.0, 37.1, -122.0), stay[0]]


def test_the_map_draws_each_cell_once_with_north_up() -> None:
    route = tuple(Waypoint(float(t), 37.0 + 0.0045 * t, -122.0) for t in (0, 1, 2, 1, 0))
    svg = route_map(Drive(WIDTH, HEIGHT, route=route, cell_m=500.0))
    assert svg.count('class="cell"') == 3
    assert 'd="M0 0L0 -500.4L0 -1000.8' in svg


def test_any_first_frame_can_be_drawn() -> None:
    rng = Random(1)
    for _ in range(50):
        boxes = tuple(Box(n, "car", 0.5, tuple(rng.uniform(-50, 1000) for _ in range(4))) for n in range(5))  # type: ignore[arg-type]
        assert "nan" not in road(Drive(WIDTH, HEIGHT, (Frame(0.0, 0, boxes),)))
