"""Labelled crops: what was laid onto a sheet is cut from it again, and a sheet that isn't what it says is refused."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.build.lights import CLASSES
from inference.crops import COLUMNS, CROPS_FILE, CropsRefused, load_crops, sheet_of
from inference.evaluation import EVALUATIONS_FOLDER

LIGHTS = Path("simulator/lights")
HELD_OUT = EVALUATIONS_FOLDER / "lights-1.0"


def write(folder: Path, data: bytes, counts: tuple[int, ...] = (2, 1), **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "sheet.webp").write_bytes(data)
    manifest = {
        "schema": 1, "name": "spots", "version": "1.0", "source": "here", "source_sha256": "0" * 64, "licence": "none",
        "size": 8, "classes": [{"label": f"c{at}", "crops": crops} for at, crops in enumerate(counts)],
        "sheet": {"file": "sheet.webp", "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}, **changes,
    }  # fmt: skip
    (folder / CROPS_FILE).write_text(json.dumps(manifest))
    return folder


@given(count=st.integers(1, 2 * COLUMNS + 3), seed=st.integers(0, 1000))
def test_every_pixel_of_every_crop_comes_back(tmp_path_factory: pytest.TempPathFactory, count: int, seed: int) -> None:
    pictures = np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    crops = load_crops(write(tmp_path_factory.mktemp("crops"), sheet_of(pictures), (count - 1, 1)))
    assert (crops.pictures == pictures).all()
    assert crops.labels.tolist() == [0] * (count - 1) + [1]


def test_the_lights_are_real_crops_in_the_packages_own_division() -> None:
    trained, held_out = load_crops(LIGHTS), load_crops(HELD_OUT)
    assert trained.manifest.labels == held_out.manifest.labels == CLASSES
    assert np.bincount(trained.labels).tolist() == [723, 35, 429]
    assert np.bincount(held_out.labels).tolist() == [181, 9, 107]


def test_no_picture_that_is_held_out_is_among_those_to_train_with() -> None:
    trained = {picture.tobytes() for picture in load_crops(LIGHTS).pictures}
    assert not trained & {picture.tobytes() for picture in load_crops(HELD_OUT).pictures}


# --- what is refused --------------------------------------------------------------------------------

SPOTS = sheet_of(np.zeros((3, 8, 8, 3), np.uint8))
PNG = cv2.imencode(".png", np.zeros((8, 8 * COLUMNS, 3), np.uint8))[1].tobytes()
LOSSY = cv2.imencode(".webp", np.zeros((8, 8 * COLUMNS, 3), np.uint8), [cv2.IMWRITE_WEBP_QUALITY, 50])[1].tobytes()
HUGE = SPOTS[:21] + struct.pack("<I", 0x3FFF | 0x3FFF << 14) + SPOTS[25:]


@pytest.mark.parametrize(
    ("sheet", "changes", "words"),
    [
        (SPOTS, {"sheet": {"file": "sheet.webp", "sha256": "0" * 64, "bytes": len(SPOTS)}}, "SHA-256 differs"),
        (SPOTS, {"sheet": {"file": "../x", "sha256": "0" * 64, "bytes": 1}}, "sheet.file"),
        (SPOTS, {"size": 16}, "isn't a lossless WebP of 640x16 pixels"),
        (SPOTS, {"more": 1}, "more"),
        (SPOTS, {"classes": [{"label": "a", "crops": 2}, {"label": "a", "crops": 1}]}, "a class is named twice"),
        (SPOTS, {"classes": [{"label": "a", "crops": 0}, {"label": "b", "crops": 0}]}, "it has 0 crops"),
        (SPOTS, {"classes": [{"label": "a", "crops": 41}, {"label": "b", "crops": 0}]}, "WebP of 320x16 pixels"),
        (PNG, {}, "isn't a lossless WebP"),
        (LOSSY, {}, "isn't a lossless WebP"),
        (HUGE, {}, "isn't a lossless WebP of 320x8 pixels"),
        (SPOTS[:25], {}, "can't be decoded"),
        (b"", {}, "bytes"),
    ],
)
def test_what_isnt_what_it_says_is_refused_in_words(
    tmp_path: Path, sheet: bytes, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(CropsRefused, match=words):
        load_crops(write(tmp_path / "crops", sheet, **changes))


def test_a_stranger_in_the_folder_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "crops", SPOTS)
    (folder / "more").touch()
    with pytest.raises(CropsRefused, match="more isn't named"):
        load_crops(folder)
