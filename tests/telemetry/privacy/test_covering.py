"""Laws of covering: nothing of a region is left, and nothing outside it changes."""

from __future__ import annotations

import math
import subprocess
import sys

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from telemetry.privacy.covering import GREY, Box, cover, head_of, person_cover, pixel_region, plate_band_of

HEIGHT, WIDTH = 40, 60
corner = st.floats(-30, 90) | st.sampled_from([0.0, 20.0, 20.5, 40.0, 60.0, 1e30, -1e30, math.inf, -math.inf])
boxes = st.tuples(corner, corner, corner, corner)
sound_boxes = st.tuples(st.floats(-99, 999), st.floats(-99, 999), st.floats(1, 999), st.floats(1, 999)).map(
    lambda it: (it[0], it[1], it[0] + it[2], it[1] + it[3])
)


def noise(seed: int = 1, height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.uint8]:
    """A picture without a single grey pixel of the fill."""
    picture = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    picture[picture == GREY] = 0
    return picture


def touched(box: Box) -> NDArray[np.bool_]:
    """Pixel by pixel, by the definition: the box and the pixel share some area."""
    x1, x2 = sorted((box[0], box[2]))
    y1, y2 = sorted((box[1], box[3]))
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    across = (np.minimum(x2, x + 1) > np.maximum(x1, x)) & (x1 < x2)
    down = (np.minimum(y2, y + 1) > np.maximum(y1, y)) & (y1 < y2)
    inside: NDArray[np.bool_] = across & down
    return inside


@given(st.lists(boxes, max_size=4))
def test_every_touched_pixel_is_grey_and_every_other_is_what_it_was(some: list[Box]) -> None:
    before, after = noise(), noise()
    cover(after, some)
    inside = np.logical_or.reduce([touched(box) for box in some], initial=False) & np.ones((HEIGHT, WIDTH), np.bool_)
    assert (after[inside] == GREY).all()
    assert np.array_equal(after[~inside], before[~inside])


@given(st.lists(boxes, min_size=1, max_size=4))
def test_neither_order_nor_repetition_matters_nor_what_was_there(some: list[Box]) -> None:
    once, again, other = noise(), noise(), noise(seed=2)
    cover(once, some)
    cover(again, [*reversed(some), *some])
    cover(other, some)
    assert np.array_equal(once, again)
    inside = np.logical_or.reduce([touched(box) for box in some])
    assert np.array_equal(once[inside], other[inside])


@given(boxes, st.permutations(range(4)))
def test_a_number_that_is_none_covers_the_whole_picture(box: Box, order: list[int]) -> None:
    spoiled = [box[0], box[1], box[2], math.nan]
    lost = (spoiled[order[0]], spoiled[order[1]], spoiled[order[2]], spoiled[order[3]])
    for covered in (lost, head_of(lost), plate_band_of(lost), person_cover(lost, 1.0), person_cover(lost, None)):
        picture = noise()
        cover(picture, [covered])
        assert (picture == GREY).all()


@pytest.mark.parametrize(
    "box",
    [
        (5, 5, 5, 9),
        (5.5, 5.5, 5.5, 9.0),
        (5, 9, 8, 9),
        (-9, -9, -1, -1),
        (60, 0, 70, 40),
        (0, 40, 60, 50),
        (7, 7, 7, 7),
    ],
)
def test_what_is_outside_or_has_no_area_covers_nothing(box: Box) -> None:
    assert pixel_region(box, HEIGHT, WIDTH) is None
    picture = noise()
    cover(picture, [box])
    assert np.array_equal(picture, noise())


def test_an_inverted_box_covers_what_it_spans() -> None:
    assert pixel_region((9, 8, 5, 3), HEIGHT, WIDTH) == pixel_region((5, 3, 9, 8), HEIGHT, WIDTH)
    assert head_of((9, 80, 5, 3)) == head_of((5, 3, 9, 80))
    assert plate_band_of((9, 80, 5, 3)) == plate_band_of((5, 3, 9, 80))


def test_a_picture_that_is_no_copy_is_covered_where_it_lies() -> None:
    memory = noise(height=HEIGHT, width=2 * WIDTH)
    view = memory[:, ::2]
    cover(view, [(0, 0, WIDTH, HEIGHT)])
    assert (memory[:, ::2] == GREY).all()
    assert (memory[:, 1::2] != GREY).all()


@given(sound_boxes)
def test_a_head_is_the_top_of_its_person_with_room_beside_and_above(person: Box) -> None:
    x1, y1, x2, y2 = head_of(person)
    assert x1 < person[0]
    assert x2 > person[2]
    assert y1 < person[1]
    assert person[1] + 0.249 * (person[3] - person[1]) <= y2 <= person[3] + 1e-9


@given(st.floats(10, 500), st.floats(10, 500))
def test_the_head_of_a_box_as_wide_as_high_is_most_of_it(width: float, height: float) -> None:
    """Who sits, rides or is half hidden fills a lower box with a larger head."""
    _, _, _, reach = head_of((0, 0, width, height))
    assert reach >= min(height, 0.79 * width)


@given(sound_boxes)
def test_a_plate_band_is_the_lower_part_over_the_whole_width(vehicle: Box) -> None:
    x1, y1, x2, y2 = plate_band_of(vehicle)
    assert x1 < vehicle[0]
    assert x2 > vehicle[2]
    assert y2 > vehicle[3]
    assert vehicle[1] < y1 <= vehicle[1] + 0.41 * (vehicle[3] - vehicle[1])


@given(sound_boxes, st.floats(1, 999))
def test_a_person_is_covered_whole_below_the_trusted_height_and_by_the_head_from_it_on(
    person: Box, trusted_px: float
) -> None:
    covered, height = person_cover(person, trusted_px), person[3] - person[1]
    if height >= trusted_px:
        assert covered == head_of(person)
    else:
        assert covered == person_cover(person, None)
        assert covered[0] < person[0]
        assert covered[1] < person[1]
        assert covered[2] > person[2]
        assert covered[3] > person[3]


@given(st.integers(0, 999), st.integers(20, 200), st.integers(20, 200))
def test_a_covered_band_keeps_nothing_of_its_detail(seed: int, width: int, height: int) -> None:
    picture = noise(seed, 240, 320)
    band = pixel_region(plate_band_of((40.0, 10.0, 40.0 + width, 10.0 + height)), 240, 320)
    assert band is not None
    part = np.s_[band.top : band.bottom, band.left : band.right]
    before = cv2.Laplacian(picture[part].copy(), cv2.CV_64F).var()
    cover(picture, [(band.left, band.top, band.right, band.bottom)])
    assert cv2.Laplacian(picture[part].copy(), cv2.CV_64F).var() <= 0.05 * before


def test_the_other_privacy_modules_load_no_numpy() -> None:
    code = "import sys; import telemetry.privacy; print(sorted({'numpy', 'cv2'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
