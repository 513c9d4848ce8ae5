"""The drawing says what the tracks say: same boxes, same names, same times."""

from __future__ import annotations

import json
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from simulator.boxes import Box
from simulator.report.drive import MAX_BOXES, MAX_FRAMES, keyframes, replay_data, road
from simulator.report.evidence import Drive, Fault, Frame
from tests.simulator.report.synthetic import FAULTS, HEIGHT, SECONDS, WIDTH, drive


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
    assert len(data["route"]) == 5


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


def test_any_first_frame_can_be_drawn() -> None:
    rng = Random(1)
    for _ in range(50):
        boxes = tuple(Box(n, "car", 0.5, tuple(rng.uniform(-50, 1000) for _ in range(4))) for n in range(5))  # type: ignore[arg-type]
        assert "nan" not in road(Drive(WIDTH, HEIGHT, (Frame(0.0, 0, boxes),)))
