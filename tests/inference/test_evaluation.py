"""Laws of the evaluation set: it is exactly what its manifest says, or nothing is judged by it."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from ecu.errors import UsageFault
from inference.build import pins
from inference.build.command import write_folder
from inference.build.evaluation import Labels, build
from inference.build.evaluation_card import CARD_FILE, evaluation_card
from inference.build.releases import CALIBRATION_STEP
from inference.build.road import ROAD
from inference.errors import EvaluationRefused
from inference.evaluation import DEFAULT_EVALUATION, EVALUATION_FILE, Evaluation, load_evaluation
from tests.inference.labelled import SIDE, Manifest, jpeg, write_evaluation
from tests.inference.tiny import put

ROAD_DIGEST = "9909b40dd0295a1b0783d6a962a9f8b7503b7f9a4829f553e45403ad1c652fe1"
"""Golden vector of the digest: a change here is a new set and needs a new version."""
CHANGED = "003.jpg"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_evaluation(tmp_path / "set")


def refusal(folder: Path) -> str:
    with pytest.raises(EvaluationRefused) as refused:
        load_evaluation(folder)
    return str(refused.value)


# --- the set that ships ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def road() -> Evaluation:
    return load_evaluation(DEFAULT_EVALUATION)


def test_the_shipped_set_is_whole_known_by_its_digest_and_small(road: Evaluation) -> None:
    assert road.title == "road@1.0"
    assert road.digest == ROAD_DIGEST
    assert sum(path.stat().st_size for path in DEFAULT_EVALUATION.iterdir()) <= 3_400_000


def test_the_shipped_sets_card_says_what_its_manifest_says(road: Evaluation) -> None:
    assert (DEFAULT_EVALUATION / CARD_FILE).read_text() == evaluation_card(road.manifest)


def test_the_shipped_set_follows_from_its_labels(road: Evaluation) -> None:
    manifest = road.manifest
    labels = Labels.model_validate_json(
        json.dumps(
            {
                "clips": {it.name: it.model_dump(exclude={"name"}) for it in manifest.clips},
                "frames": [
                    frame.model_dump(exclude={"sha256", "bytes"}) | {"checked": True}
                    for frame in reversed(manifest.frames)
                ],
            }
        )
    )
    files = build(labels, {it.file: (DEFAULT_EVALUATION / it.file).read_bytes() for it in manifest.frames}, ROAD)
    assert {name: (DEFAULT_EVALUATION / name).read_bytes() for name in os.listdir(DEFAULT_EVALUATION)} == files


def test_no_calibration_frame_is_in_the_shipped_set(road: Evaluation) -> None:
    (calibrated,) = (it.name for it in road.manifest.clips if it.sha256 == pins.CALIBRATION_SHA256)
    frames = [it.frame % CALIBRATION_STEP for it in road.manifest.frames if it.clip == calibrated]
    assert len(frames) == 32
    assert all(2 < off < CALIBRATION_STEP - 2 for off in frames)


# --- the folder --------------------------------------------------------------------------------------


def test_a_whole_set_loads_and_its_pictures_are_of_its_size(folder: Path) -> None:
    evaluation = load_evaluation(folder)
    assert evaluation.title == "tiny@1.0"
    assert {evaluation.picture(frame).shape for frame in evaluation.manifest.frames} == {(SIDE, SIDE, 3)}


def test_what_is_looked_at_is_what_was_hashed(folder: Path) -> None:
    evaluation = load_evaluation(folder)
    frame = evaluation.manifest.frames[3]
    (folder / frame.file).write_bytes((folder / "004.jpg").read_bytes())
    with pytest.raises(EvaluationRefused, match=frame.file):
        evaluation.picture(frame)


# --- the pictures ------------------------------------------------------------------------------------


def huge() -> bytes:
    """12 GB of pixels, said in a header of a few hundred bytes."""
    data = jpeg(np.zeros((SIDE, SIDE, 3), np.uint8))
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", 65_500, 65_500) + data[at + 4 :]


@pytest.mark.parametrize(
    ("picture", "why"),
    [
        (huge(), "is 65500x65500 instead of 128x128"),
        (jpeg(np.zeros((SIDE, SIDE + 1, 3), np.uint8)), "is 129x128 instead of 128x128"),
        (jpeg(np.zeros((SIDE, SIDE, 3), np.uint8), cv2.IMWRITE_JPEG_PROGRESSIVE, 1), "isn't a plain JPEG"),
        (b"GIF89a", "isn't a plain JPEG"),
    ],
)
def test_a_picture_that_isnt_of_the_set_is_refused_before_it_is_decoded(
    tmp_path: Path, picture: bytes, why: str
) -> None:
    folder = write_evaluation(tmp_path / "set", files={CHANGED: picture})
    assert f"{CHANGED} {why}" in refusal(folder)


def test_a_picture_that_cant_be_decoded_is_refused_when_it_is_looked_at(tmp_path: Path) -> None:
    data = jpeg(np.zeros((SIDE, SIDE, 3), np.uint8))
    tables = data.index(b"\xff\xdb")
    without_tables = data[:tables] + data[data.index(b"\xff\xc0") :]
    evaluation = load_evaluation(write_evaluation(tmp_path / "set", files={CHANGED: without_tables}))
    with pytest.raises(EvaluationRefused, match=f"{CHANGED} can't be decoded"):
        evaluation.picture(evaluation.manifest.frames[3])


# --- the manifest ------------------------------------------------------------------------------------


def swap_frames(manifest: Manifest) -> None:
    frames = manifest["frames"]
    frames[4], frames[5] = frames[5], frames[4]


def mix_clips(manifest: Manifest) -> None:
    frames = manifest["frames"]
    frames[3]["clip"] = "second"


def more_frames(count: int, size: int) -> Callable[[Manifest], None]:
    """So many more, each of so many bytes."""

    def change(manifest: Manifest) -> None:
        last = manifest["frames"][-1]
        manifest["frames"] += [
            last | {"file": f"more-{n}.jpg", "sha256": f"{n:064x}", "bytes": size, "frame": 1000 + n, "objects": []}
            for n in range(count)
        ]

    return change


def show_one_twice(manifest: Manifest) -> None:
    frames = manifest["frames"]
    frames[4] |= {"sha256": frames[3]["sha256"], "bytes": frames[3]["bytes"]}


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (put("colour", value="red"), "colour"),
        (put("schema", value=2), "schema"),
        (put("width", value=4000), "width"),
        (put("margin", value=1.0), "margin"),
        (put("margin", value=-0.1), "margin"),
        (put("min_objects", value=1), "min_objects"),
        (put("match_iou", value=0.0), "match_iou"),
        (put("cpu_ratio_at_most", value=1000.0), "cpu_ratio_at_most"),
        (put("cpu_ratio_at_most", value=float("nan")), "cpu_ratio_at_most"),
        (put("classes", value=[]), "classes"),
        (put("classes", 0, "objects", value=9), "objects of class car instead of 9"),
        (put("classes", value=[{"label": "truck", "objects": 1}]), "0 objects of class truck instead of 1"),
        (put("classes", 0, "label", value="[red]"), "classes.0.label"),
        (put("frames", value=[]), "frames"),
        (put("frames", 3, "file", value="../003.jpg"), "frames.3.file"),
        (put("frames", 3, "file", value="004.jpg"), "a file is named twice"),
        (put("frames", 3, "bytes", value=1 << 30), "frames.3.bytes"),
        (put("frames", 3, "clip", value="third"), "clip third, which isn't described"),
        (put("frames", 3, "frame", value=-1), "frames.3.frame"),
        (put("frames", 3, "frame", value=20), "the frames don't come"),
        (put("frames", 3, "objects", 0, "box", value=[0, 0, 0, 9]), "003.jpg has a box [0.0, 0.0, 0.0, 9.0]"),
        (put("frames", 3, "objects", 0, "box", value=[0, 0, 9]), "frames.3.objects.0.box"),
        (put("frames", 3, "ignore", value=[[0, 0, 129, 9]]), "003.jpg has a box"),
        (put("frames", 3, "ignore", value=[[9, 0, 0, 9]]), "003.jpg has a box"),
        (put("frames", 3, "ignore", value=[[-1, 0, 9, 9]]), "003.jpg has a box"),
        (put("frames", 3, "ignore", value=[[0, -1, 9, 9]]), "003.jpg has a box"),
        (put("frames", 3, "ignore", value=[[0, 0, 9, 129]]), "003.jpg has a box"),
        (put("clips", 1, "name", value="first"), "a clip is named twice"),
        (put("card", "file", value=EVALUATION_FILE), "a file is named twice"),
        (put("frames", 3, "ignore", value=[[0, 0, float("inf"), 9]]), "frames.3.ignore.0.2"),
        (put("frames", 3, "ignore", value=[[0, 0, 1, 1]] * 65), "frames.3.ignore"),
        (put("frames", 3, "objects", value=[{"label": "car", "box": [0, 0, 9, 9]}] * 65), "frames.3.objects"),
        (put("method", value=["\x1b[2J"]), "method.0"),
        (swap_frames, "the frames don't come"),
        (mix_clips, "the frames don't come"),
        (show_one_twice, "a picture is named twice"),
        (more_frames(512, size=1), "frames"),
    ],
)
def test_a_manifest_that_says_anything_else_is_refused_by_key(
    tmp_path: Path, change: Callable[[Manifest], None], key: str
) -> None:
    said = refusal(write_evaluation(tmp_path / "set", change))
    assert EVALUATION_FILE in said
    assert key in said


def test_a_set_that_says_it_is_too_large_is_refused_before_its_pictures_are_read(tmp_path: Path) -> None:
    folder = write_evaluation(tmp_path / "set", more_frames(64, size=1 << 20))
    assert f"its files are more than {64 << 20} bytes" in refusal(folder)


@pytest.mark.parametrize(
    "change",
    [put("margin", value=0.031), put("frames", 3, "ignore", value=[[0, 0, 1, 1]]), put("version", value="1.1")],
)
def test_any_word_of_the_manifest_changes_the_digest(
    folder: Path, tmp_path: Path, change: Callable[[Manifest], None]
) -> None:
    assert load_evaluation(write_evaluation(tmp_path / "other", change)).digest != load_evaluation(folder).digest


# --- the build ---------------------------------------------------------------------------------------


def labels(checked: bool = True, objects: int = 4) -> Labels:
    frames = [
        {
            "file": f"{index:03}.jpg",
            "clip": "only",
            "frame": index,
            "checked": checked or index != 5,
            "objects": [{"label": "car", "box": [0, 0, 9, 9]}] * objects + [{"label": "dog", "box": [0, 0, 9, 9]}],
            "ignore": [],
        }
        for index in range(9)
    ]
    clips = {"only": {"source": "a test", "sha256": "0" * 64, "licence": "none"}}
    return Labels.model_validate_json(json.dumps({"clips": clips, "frames": frames}))


def pictures(side: int = 64) -> dict[str, bytes]:
    return {f"{index:03}.jpg": jpeg(np.full((side, 96, 3), 9 * index, np.uint8)) for index in range(9)}


def test_a_set_is_built_with_its_counts_and_hashes_and_judges_what_there_is_enough_of(tmp_path: Path) -> None:
    write_folder(tmp_path, build(labels(), pictures(), ROAD), EVALUATION_FILE, "an evaluation set")
    manifest = load_evaluation(tmp_path).manifest
    assert [(judged.label, judged.objects) for judged in manifest.classes] == [("car", 36)]
    assert (manifest.width, manifest.height) == (96, 64)
    assert manifest.frames[2].sha256 == hashlib.sha256(pictures()["002.jpg"]).hexdigest()


def test_a_frame_that_wasnt_checked_is_not_built() -> None:
    with pytest.raises(UsageFault, match=r"005\.jpg"):
        build(labels(checked=False), pictures(), ROAD)


def test_pictures_of_two_sizes_are_not_built() -> None:
    with pytest.raises(UsageFault, match="2 sizes"):
        build(labels(), pictures() | {"004.jpg": pictures(side=80)["004.jpg"]}, ROAD)
