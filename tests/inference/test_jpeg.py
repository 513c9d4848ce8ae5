"""Laws of reading a JPEG's size: from its header alone, and only of a plain one."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.jpeg import NotPlain, plain_jpeg_hw
from tests.inference.labelled import jpeg

PICTURE = np.random.default_rng(1).integers(0, 256, (40, 24, 3)).astype(np.uint8)
PLAIN = jpeg(PICTURE)
SCAN_AT = PLAIN.index(b"\xff\xda")
sides = st.integers(1, 300)


@given(sides, sides, st.integers(1, 100))
@settings(max_examples=30)
def test_a_plain_jpeg_tells_the_size_that_its_decoder_finds(height: int, width: int, quality: int) -> None:
    data = jpeg(np.zeros((height, width, 3), np.uint8), cv2.IMWRITE_JPEG_QUALITY, quality)
    assert plain_jpeg_hw(data) == (height, width)


def test_restarts_within_the_scan_are_plain() -> None:
    assert plain_jpeg_hw(jpeg(PICTURE, cv2.IMWRITE_JPEG_RST_INTERVAL, 1)) == (40, 24)


@given(st.binary(max_size=80))
def test_other_bytes_are_refused_and_nothing_else_happens(data: bytes) -> None:
    for bytes_ in (data, PLAIN[:2] + data, PLAIN[:SCAN_AT] + data):
        with pytest.raises(NotPlain):
            plain_jpeg_hw(bytes_)


@given(st.integers(0, len(PLAIN) - 1))
def test_a_jpeg_that_ends_early_is_refused(at: int) -> None:
    with pytest.raises(NotPlain):
        plain_jpeg_hw(PLAIN[:at])


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (jpeg(PICTURE, cv2.IMWRITE_JPEG_PROGRESSIVE, 1), "0xFFC2"),
        (jpeg(PICTURE[:, :, 0]), "three colours"),
        (PLAIN[:2] + b"\xff\xe1\x00\x08Exif\0\0" + PLAIN[2:], "0xFFE1"),
        (PLAIN + b"\0", "no end"),
        (PLAIN[:-2] + PLAIN[SCAN_AT:], "more than one scan"),
        (PLAIN[:SCAN_AT] + PLAIN[PLAIN.index(b"\xff\xc0") :], "its size once"),
        (PLAIN[:-2] + b"\xff\xff\xd9", "more than one scan"),
        (b"\x89PNG\r\n\x1a\n" + PLAIN, "begin as a JPEG"),
    ],
)
def test_what_could_cost_a_decoder_more_than_it_seems_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(NotPlain, match=why):
        plain_jpeg_hw(data)
