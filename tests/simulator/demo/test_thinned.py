"""Fewer frames of the same road, at its own speed, that a camera takes."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from ecu.errors import EnvironmentFault
from inference.sources import open_source
from simulator.demo.demo import DRIVE
from simulator.demo.proofs import drive_frames
from simulator.demo.thinned import thin_out


def test_a_camera_takes_every_third_frame_of_the_drive_at_its_speed(tmp_path: Path) -> None:
    film = open_source(f"video:{thin_out(DRIVE, 3, 4, tmp_path / 'thin.mp4')}?loop=1")
    drive = open_source(f"video:{DRIVE}")
    assert film.period_ns == pytest.approx(3 * drive.period_ns, rel=0.01)
    assert (film.width, film.height) == (drive.width, drive.height)
    frame = np.empty((film.height, film.width, 3), np.uint8)
    wanted = list(islice(drive_frames(DRIVE, 3), 4))
    for number in range(9):
        assert film.grab()
        assert film.fill(frame) == (number % 4 == 0)
        # Encoded once more: alike, not the same.
        assert np.abs(frame.astype(int) - wanted[number % 4]).mean() < 6.0


def test_a_place_that_cant_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="can't write"):
        thin_out(DRIVE, 3, 4, tmp_path / "missing" / "thin.mp4")
