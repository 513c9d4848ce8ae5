"""Laws of the letterbox: geometry there and back, and a canvas drawn in place."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.letterbox import FILL, Letterbox, blank_canvas

sides = st.integers(1, 3000)
canvases = st.sampled_from([(256, 416), (192, 320), (64, 64), (416, 256)])


@given(sides, sides, canvases)
def test_the_picture_fits_and_touches_a_side(height: int, width: int, canvas_hw: tuple[int, int]) -> None:
    scaled = Letterbox.fit((height, width), canvas_hw).scaled_hw
    assert 1 <= scaled[0] <= canvas_hw[0]
    assert 1 <= scaled[1] <= canvas_hw[1]
    assert scaled[0] == canvas_hw[0] or scaled[1] == canvas_hw[1]


@given(sides, sides, canvases)
def test_the_picture_keeps_the_frames_shape_to_a_pixel(height: int, width: int, canvas_hw: tuple[int, int]) -> None:
    scale = min(canvas_hw[0] / height, canvas_hw[1] / width)
    scaled = Letterbox.fit((height, width), canvas_hw).scaled_hw
    assert abs(scaled[0] - height * scale) <= 1
    assert abs(scaled[1] - width * scale) <= 1


@given(st.integers(2, 2000), st.integers(2, 2000), canvases, st.data())
def test_a_box_inside_the_frame_comes_back(
    height: int, width: int, canvas_hw: tuple[int, int], data: st.DataObject
) -> None:
    letterbox = Letterbox.fit((height, width), canvas_hw)
    x = sorted(data.draw(st.lists(st.floats(0, width), min_size=2, max_size=2)))
    y = sorted(data.draw(st.lists(st.floats(0, height), min_size=2, max_size=2)))
    box = np.array([[x[0], y[0], x[1], y[1]]], np.float32)
    np.testing.assert_allclose(letterbox.boxes_to_frame(letterbox.boxes_to_canvas(box)), box, rtol=1e-5, atol=1e-2)


def test_the_corners_of_the_picture_are_the_corners_of_the_frame() -> None:
    letterbox = Letterbox.fit((540, 960), (256, 416))
    assert letterbox.scaled_hw == (234, 416)
    whole = letterbox.boxes_to_frame(np.array([[0, 0, 416, 234]], np.float32))
    assert whole.tolist() == [[0, 0, 960, 540]]


def test_boxes_in_the_fill_are_clipped_to_the_frames_edge() -> None:
    letterbox = Letterbox.fit((540, 960), (256, 416))
    clipped = letterbox.boxes_to_frame(np.array([[-5, 240, 500, 256]], np.float32))
    assert clipped.tolist() == [[0, 540, 960, 540]]


def test_a_frame_is_drawn_in_place_and_the_fill_stays() -> None:
    frame = np.random.default_rng(1).integers(0, 256, (540, 960, 3), np.uint8)
    canvas = blank_canvas(256, 416)
    Letterbox.fit((540, 960), (256, 416)).place(frame, canvas)
    assert np.array_equal(canvas[:234], cv2.resize(frame, (416, 234), interpolation=cv2.INTER_LINEAR))
    assert (canvas[234:] == FILL).all()


def test_a_narrow_frame_leaves_its_fill_at_the_right() -> None:
    frame = np.full((400, 100, 3), 7, np.uint8)
    canvas = blank_canvas(64, 64)
    Letterbox.fit((400, 100), (64, 64)).place(frame, canvas)
    assert (canvas[:, :16] == 7).all()
    assert (canvas[:, 16:] == FILL).all()


def test_a_canvas_that_cant_be_drawn_in_place_is_refused() -> None:
    frame = np.zeros((540, 960, 3), np.uint8)
    with pytest.raises(ValueError, match="can't take a frame"):
        Letterbox.fit((540, 960), (256, 416)).place(frame, np.zeros((256, 416, 3), np.float32))


def test_an_empty_frame_has_no_letterbox() -> None:
    with pytest.raises(ValueError, match="can't be fitted"):
        Letterbox.fit((0, 960), (256, 416))
