"""Builds the packages drive-detect 1.0 and 2.0, the same bytes each time on one kind of computer.

    python -m inference.build.drive_detect --weights drive_fp32.onnx --calibration VIDEO --drive VIDEO --out DIR

`--weights` is what inference.build.nanodet makes. `--calibration` is Udacity's CarND-Advanced-Lane-Lines
project_video.mp4; `--drive` is simulator/drives/solidWhiteRight.mp4, which the calibration never sees. All three are
pinned by hash. Integer ranges come from fp32 runs, whose last bits depend on the processor: another instruction set may
give other bytes, and the manifest's `built_on` says which one gave these.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inference.build import pins
from inference.build.card import CARD_FILE, card_text
from inference.build.command import run
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
    digest,
    entry,
    expected,
    golden,
    shown,
)
from inference.build.quantize import INPUT_NAME, at_input_size, quantize
from inference.build.releases import (
    CALIBRATION_STEP,
    CLASSES,
    LICENCE,
    NAME,
    NMS_IOU,
    REFERENCE_FILE,
    REFERENCE_FROM,
    RELEASES,
    SCORE,
    VARIANTS,
    GoldenPlan,
    Release,
    VariantPlan,
)
from inference.decode import BINS, STRIDES, Decoder
from inference.detector import Detector
from inference.evidence import Fidelity, FidelityReport
from inference.fidelity import (
    BLOCK_FRAMES,
    MATCH_IOU,
    SCORES,
    Agreement,
    Reference,
    encode_reference,
    fidelity_over_drive,
    make_reference,
)
from inference.letterbox import FILL, Letterbox, blank_canvas
from inference.manifest import (
    MANIFEST_FILE,
    DetectManifest,
    DetectOutputs,
    ModelInput,
    QuantizedLineage,
    Thresholds,
    Variant,
)
from inference.outputs import two_of
from inference.session import Engine, contract_for

Frames = Sequence[NDArray[np.uint8]]

_SEED = 1989
_OUTPUTS = DetectOutputs(scores="scores", distances="reg", strides=STRIDES, bins=BINS)
_THRESHOLDS = Thresholds(score=SCORE, nms_iou=NMS_IOU)


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything a build sees."""

    fp32: bytes
    calibration: Frames
    drive: Frames
    drive_sha256: str


def build_release(release: Release, inputs: Inputs, reference: Reference) -> dict[str, bytes]:
    """The package's files by name, the manifest among them."""
    fp32 = at_input_size(inputs.fp32, release.canvas_hw)
    calibration = [_canvas(frame, release.canvas_hw) for frame in inputs.calibration]
    canvases = [_golden_canvas(inputs.drive, plan, release.canvas_hw) for plan in release.golden]
    models = {plan: quantize(fp32, calibration, plan.reduce_range) for plan in VARIANTS}
    files = {f"{plan.id}.onnx": model for plan, model in models.items()}
    pictures = canvas_files(canvases)
    files |= pictures
    if release.holds_reference:
        files[REFERENCE_FILE] = encode_reference(reference)
    manifest = DetectManifest(
        **SCHEMA,
        name=NAME,
        version=release.version,
        task="detect",
        classes=CLASSES,
        input=_input(release),
        outputs=_OUTPUTS,
        thresholds=_THRESHOLDS,
        variants=tuple(_variant(plan, model, canvases, release) for plan, model in models.items()),
        runtime=RUNTIME,
        golden=golden(pictures, REFERENCE_FROM),
        budget=release.budget,
        licence=LICENCE,
        lineage=_lineage(calibration),
        built_on=built_on(VARIANTS[-1].id, _engine(models[VARIANTS[-1]], release, Kernels.NATIVE), canvases),
        fidelity=_fidelity(models, release, inputs, reference),
        card=entry(CARD_FILE, b"written below, from all of the above"),
        reference=entry(REFERENCE_FILE, files[REFERENCE_FILE]) if release.holds_reference else None,
    )
    files[CARD_FILE] = card_text(manifest).encode()
    files[MANIFEST_FILE] = shown(manifest.model_copy(update={"card": entry(CARD_FILE, files[CARD_FILE])}))
    return files


def fp32_reference(inputs: Inputs) -> Reference:
    """What the fp32 graph sees over the drive at the newest release's size: the yardstick of all of them."""
    newest = RELEASES[-1]
    detector = _detector(at_input_size(inputs.fp32, newest.canvas_hw), newest, Kernels.NATIVE)
    seen = (detector.detect(frame, REFERENCE_FROM) for frame in inputs.drive)
    return make_reference(inputs.drive_sha256, REFERENCE_FROM, seen)


def _variant(plan: VariantPlan, model: bytes, canvases: Sequence[Canvas], release: Release) -> Variant:
    engine = _engine(model, release, Kernels.AS_WRITTEN)
    decoder = Decoder(release.canvas_hw)
    seen = (decoder.decode(*two_of(engine.run(canvas)), REFERENCE_FROM, NMS_IOU) for canvas in canvases)
    objects = tuple(expected(detections, CLASSES) for detections in seen)
    return Variant(id=plan.id, precision=plan.precision, golden=objects, **entry(f"{plan.id}.onnx", model).model_dump())


def _lineage(calibration: Sequence[Canvas]) -> QuantizedLineage:
    return QuantizedLineage(
        source=f"npm {pins.NPM_PACKAGE}, models/nanodet.json and models/nanodet.bin",
        source_version=pins.NPM_VERSION,
        source_sha256=pins.NPM_TARBALL_SHA256,
        weights_sha256=pins.DRIVE_FP32_SHA256,
        calibration_video_sha256=pins.CALIBRATION_SHA256,
        calibration_frames=len(calibration),
        calibration_sha256=digest(calibration),
    )


def _fidelity(
    models: dict[VariantPlan, bytes], release: Release, inputs: Inputs, reference: Reference
) -> FidelityReport:
    figures = []
    for plan, model in models.items():
        detector = _detector(model, release, Kernels.EXACT)
        by_score = fidelity_over_drive(detector, inputs.drive, reference, SCORES, _SEED)
        figures += [_figure(plan.id, score, agreed) for score, agreed in by_score.items()]
    return FidelityReport(
        against="the fp32 graph at {}x{}".format(*RELEASES[-1].canvas_hw[::-1]),
        drive_sha256=inputs.drive_sha256,
        frames=len(inputs.drive),
        match_iou=MATCH_IOU,
        block_frames=BLOCK_FRAMES,
        figures=tuple(figures),
    )


def _figure(variant: str, score: float, agreed: Agreement) -> Fidelity:
    fields = ("precision", "recall", "f1", "f1_low", "f1_high")
    return Fidelity(variant=variant, score=score, **{field: round(getattr(agreed, field), 4) for field in fields})


def _input(release: Release) -> ModelInput:
    height, width = release.canvas_hw
    return ModelInput(
        name=INPUT_NAME,
        height=height,
        width=width,
        colour="bgr8",
        layout="nhwc_u8",
        letterbox_fill=FILL,
        letterbox_anchor="top_left",
        resize="bilinear",
    )


def _detector(model: bytes, release: Release, kernels: Kernels) -> Detector:
    return Detector(_engine(model, release, kernels), _input(release), _OUTPUTS, _THRESHOLDS)


def _engine(model: bytes, release: Release, kernels: Kernels) -> Engine:
    contract = contract_for(_input(release), _OUTPUTS, len(CLASSES), OPSET)
    return Engine(model, contract, options_for(kernels))


def _canvas(frame: NDArray[np.uint8], canvas_hw: tuple[int, int]) -> Canvas:
    canvas = blank_canvas(*canvas_hw)
    Letterbox.fit((frame.shape[0], frame.shape[1]), canvas_hw).place(frame, canvas)
    return canvas


def _golden_canvas(drive: Frames, plan: GoldenPlan, canvas_hw: tuple[int, int]) -> Canvas:
    stretched = (drive[plan.frame].astype(np.int16) - plan.pivot) * plan.gain + plan.level
    return _canvas(np.clip(stretched, 0, 255).astype(np.uint8), canvas_hw)


def _inputs(weights: Path, calibration: Path, drive: Path) -> Inputs:
    pins.demand_sha256(weights, pins.DRIVE_FP32_SHA256)
    pins.demand_sha256(calibration, pins.CALIBRATION_SHA256)
    pins.demand_sha256(drive, pins.DRIVE_SHA256)
    seen = list(every_frame(calibration, CALIBRATION_STEP))
    return Inputs(weights.read_bytes(), seen, list(every_frame(drive)), pins.DRIVE_SHA256)


def build(weights: Path, calibration: Path, drive: Path, out: Path) -> None:
    """Both packages into `out`; tells of each when it is done. Raises OutriderError."""
    inputs = _inputs(weights, calibration, drive)
    reference = fp32_reference(inputs)
    for release in RELEASES:
        deliver(out / f"{NAME}-{release.version}", build_release(release, inputs, reference))


if __name__ == "__main__":
    sys.exit(run("Builds the packages drive-detect 1.0 and 2.0.", build, "weights", "calibration", "drive", "out"))
