"""Counts how many of known faces a face detector finds, by their height, and what it takes for one where none is.

    python -m inference.build.face_recall --package DIR --portraits WHEEL --drive VIDEO [--faces N] [--seed N]

prints the table of a package anew. "Found" means that one box covers nine tenths of the face: what is left of it then
tells nobody apart.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ecu.errors import OutriderError
from inference.build.frames import every_frame
from inference.build.portraits import Portrait, collins, hopper
from inference.build.scenes import PERSONS_PER_FACE, Scene, compose
from inference.evidence import FaceRecall, Found, RecallReport, trusted_person_px
from inference.faces import FaceDetector, face_detector_of
from inference.package import load_package
from inference.recall import wilson_low
from inference.session import Session

FACE_PX: Final = (12, 16, 20, 24, 32, 48, 64)
FACES: Final = 240
COVERED: Final = 0.9
BAR: Final = 0.95
SEED: Final = 1912
ROAD_STEP: Final = 10
"""Every so many frames of the drive are roads to put a person on."""

Roads = Sequence[NDArray[np.uint8]]


def recall_by_size(
    detector: FaceDetector, portraits: Sequence[Portrait], roads: Roads, sizes: Sequence[int], faces: int, seed: int
) -> tuple[FaceRecall, ...]:
    """For each face height so many scenes, the portraits in turn. The same seed gives the same scenes."""
    figures = []
    for size in sizes:
        rng = np.random.default_rng((seed, size))
        scenes = (_scene(portraits[number % len(portraits)], roads, size, rng) for number in range(faces))
        found = np.array([_is_found(detector, scene) for scene in scenes])
        alone, with_person = (_rate(int(count), faces) for count in found.sum(axis=0))
        figures.append(FaceRecall(face_px=size, faces=faces, alone=alone, with_person=with_person))
    return tuple(figures)


def false_alarms(detector: FaceDetector, roads: Roads) -> tuple[float, float]:
    """(boxes a frame, fraction of the picture in them) over frames that show no face."""
    boxes = [detector.detect(road).boxes for road in roads]
    shares = [_share_covered(seen, road.shape[:2]) for seen, road in zip(boxes, roads, strict=True)]
    return sum(map(len, boxes)) / len(roads), float(np.mean(shares))


def share_of(face: NDArray[np.float32], boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """How much of the face (4,) each box (N, 4) covers, 0..1."""
    width = np.minimum(boxes[:, 2], face[2]) - np.maximum(boxes[:, 0], face[0])
    height = np.minimum(boxes[:, 3], face[3]) - np.maximum(boxes[:, 1], face[1])
    area = (face[2] - face[0]) * (face[3] - face[1])
    share: NDArray[np.float32] = np.maximum(width, 0) * np.maximum(height, 0) / area
    return share


def report(
    detector: FaceDetector, portraits: Sequence[Portrait], drive: Roads, drive_sha256: str, faces: int = FACES
) -> RecallReport:
    """The section of a manifest."""
    roads = drive[::ROAD_STEP]
    figures = recall_by_size(detector, portraits, roads, FACE_PX, faces, SEED)
    alarms, area = false_alarms(detector, roads)
    return RecallReport(
        over=f"portraits of {', '.join(portrait.who for portrait in portraits)} on frames of the default drive",
        drive_sha256=drive_sha256,
        covered=COVERED,
        bar=BAR,
        persons_per_face=PERSONS_PER_FACE,
        figures=figures,
        trusted_person_px=trusted_person_px(figures, BAR, PERSONS_PER_FACE),
        alarms_per_frame=round(alarms, 2),
        area_alarmed=round(area, 5),
    )


def _scene(portrait: Portrait, roads: Roads, size: int, rng: np.random.Generator) -> Scene:
    return compose(portrait, roads[int(rng.integers(len(roads)))], size, rng)


def _is_found(detector: FaceDetector, scene: Scene) -> tuple[bool, bool]:
    """(alone, with the person's box)."""
    seen = detector.detect(scene.frame), detector.detect(scene.frame, scene.person[None])
    alone, with_person = (bool((share_of(scene.face, faces.boxes) >= COVERED).any()) for faces in seen)
    return alone, with_person


def _rate(found: int, of: int) -> Found:
    return Found(found=found, low=round(wilson_low(found, of), 4))


def _share_covered(boxes: NDArray[np.float32], frame_hw: tuple[int, ...]) -> float:
    covered = np.zeros(frame_hw, np.bool_)
    for left, top, right, bottom in np.rint(boxes).astype(int).tolist():
        covered[top:bottom, left:right] = True
    return float(covered.mean())


def main() -> int:
    parser = argparse.ArgumentParser(description="Measures a face package's recall anew.")
    parser.add_argument("--package", type=Path, required=True, help="its folder")
    parser.add_argument("--portraits", type=Path, required=True, help="Matplotlib's pinned wheel")
    parser.add_argument("--drive", type=Path, required=True, help="the drive whose frames are the roads")
    parser.add_argument("--faces", type=int, default=FACES, help="of each size")
    parser.add_argument("--seed", type=int, default=SEED)
    args = parser.parse_args()
    try:
        detector = face_detector_of(Session(load_package(args.package)))
        roads = list(every_frame(args.drive, ROAD_STEP))
        portraits = collins(), hopper(args.portraits)
        for it in recall_by_size(detector, portraits, roads, FACE_PX, args.faces, args.seed):
            print(it.face_px, it.faces, it.alone.found, it.alone.low, it.with_person.found, it.with_person.low)
    except OutriderError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
