"""What the releases of drive-detect have in common, and where they differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from inference.build import pins
from inference.manifest import Budget, Licence

NAME = "drive-detect"
CLASSES = (
    "person",
    "bicycle",
    "car",
    "motorcycle",
    "bus",
    "train",
    "truck",
    "traffic_light",
    "stop_sign",
    "dog",
    "cat",
    "horse",
)
CALIBRATION_STEP = 21
SCORE, NMS_IOU = 0.40, 0.60
REFERENCE_FROM = 0.30
REFERENCE_FILE = "fp32-reference.msgpack"


@dataclass(frozen=True, slots=True)
class VariantPlan:
    """One way to quantize: its name, the manifest's word for it, and whether weights keep to 7 bits."""

    id: str
    precision: Literal["int8_u8s8", "int8_u8s7"]
    reduce_range: bool


@dataclass(frozen=True, slots=True)
class GoldenPlan:
    """A frame of the drive, (x - pivot) * gain + level: contrast beyond nature's drives the integer kernels hard."""

    frame: int
    gain: int = 1
    pivot: int = 0
    level: int = 0


@dataclass(frozen=True, slots=True)
class Release:
    """A canvas size under a version. The budget is for one thread of x86-64 with AVX2 and no VNNI."""

    version: str
    canvas_hw: tuple[int, int]
    golden: tuple[GoldenPlan, ...]
    budget: Budget
    holds_reference: bool


VARIANTS = (VariantPlan("u8s8", "int8_u8s8", False), VariantPlan("u8s7", "int8_u8s7", True))

LICENCE = Licence(
    spdx="Apache-2.0",
    holder="RangiLyu and the NanoDet contributors",
    notice="NanoDet-g, https://github.com/RangiLyu/nanodet, Apache-2.0. Taken from npm "
    f"{pins.NPM_PACKAGE} {pins.NPM_VERSION} (MIT, Vladimir Mandic); converted to ONNX, cut to 12 classes, quantized.",
)


def _stretched(frame: int) -> GoldenPlan:
    return GoldenPlan(frame, gain=2, pivot=110, level=128)


# Golden frames were measured: exact integer sums stay within one step of the score on them, and sums that saturate at
# 16 bits leave the tolerance on the stretched ones.
RELEASES = (
    Release(
        "1.0",
        (192, 320),
        (GoldenPlan(80), _stretched(130), _stretched(140)),
        Budget(frame_p50_ms=30.0, frame_p99_ms=80.0, resident_mb=220.0),
        holds_reference=False,
    ),
    Release(
        "2.0",
        (256, 416),
        (GoldenPlan(10), _stretched(90), _stretched(220)),
        Budget(frame_p50_ms=50.0, frame_p99_ms=120.0, resident_mb=220.0),
        holds_reference=True,
    ),
)
