"""What every package's build does alike: files and their hashes, golden canvases, the folder, the last check."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ecu.errors import EnvironmentFault
from inference.build.command import write_folder
from inference.build.host import instruction_set
from inference.build.kernels import Kernels, options_for
from inference.detections import Detections
from inference.manifest import MANIFEST_FILE, AnyManifest, BuiltOn, ExpectedObject, Golden, Runtime
from inference.package import ModelPackage, load_package
from inference.part import PackageFile, Part
from inference.runtime import ort
from inference.session import Engine, Session, contract_of, golden_fault

Canvas = NDArray[np.uint8]

SCHEMA: dict[str, Any] = {"schema": 1}
OPSET = 17
RUNTIME = Runtime(intra_op_threads=1, spinning=False, ort_from="1.20", ort_below="2.0", opset=OPSET)
_GOLDEN_SCORE_TOLERANCE = 0.05
_GOLDEN_IOU = 0.80


def entry(file: str, data: bytes) -> PackageFile:
    return PackageFile(file=file, sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))


def digest(arrays: Iterable[NDArray[Any]]) -> str:
    """SHA-256 (hex) over the arrays' bytes, one after the other."""
    over = hashlib.sha256()
    for array in arrays:
        over.update(array.tobytes())
    return over.hexdigest()


def canvas_files(canvases: Sequence[Canvas]) -> dict[str, bytes]:
    """The golden canvases as PNG files by name, in their order."""
    return {f"golden-{number}.png": _png(canvas) for number, canvas in enumerate(canvases, 1)}


def golden(files: Mapping[str, bytes], score_from: float) -> Golden:
    return Golden(
        canvases=tuple(entry(name, data) for name, data in files.items()),
        score_tolerance=_GOLDEN_SCORE_TOLERANCE,
        score_from=score_from,
        iou_at_least=_GOLDEN_IOU,
    )


def expected(seen: Detections, classes: Sequence[str]) -> tuple[ExpectedObject, ...]:
    """Detections as a manifest writes them."""
    rows = zip(seen.labels.tolist(), seen.scores.tolist(), seen.boxes.tolist(), strict=True)
    return tuple(
        ExpectedObject(label=classes[label], score=round(score, 4), box=tuple(round(side, 2) for side in box))
        for label, score, box in rows
    )


def built_on(variant: str, engine: Engine, canvases: Sequence[Canvas]) -> BuiltOn:
    """This computer, and what the variant's engine gives on it."""
    return BuiltOn(
        variant=variant,
        onnxruntime=ort.__version__,
        numpy=np.__version__,
        opencv=cv2.__version__,
        instruction_set=instruction_set(platform.machine(), Path("/proc/cpuinfo").read_text()),
        outputs_sha256=digest(array for canvas in canvases for array in engine.run(canvas)),
    )


def shown(manifest: AnyManifest) -> bytes:
    """The manifest's file, for people too."""
    return shown_part(manifest)


def shown_part(part: Part) -> bytes:
    return (json.dumps(part.model_dump(mode="json", by_alias=True), indent=1, ensure_ascii=False) + "\n").encode()


def write_package(folder: Path, files: Mapping[str, bytes]) -> None:
    """Into an empty folder, or over a package. Raises UsageFault for a folder that holds anything else."""
    write_folder(folder, files, MANIFEST_FILE, "a model package")


def deliver(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes the package, looks whether it loads and is right, and tells of it. Raises as write_package and
    demand_golden."""
    write_package(folder, files)
    package = load_package(folder)
    demand_golden(package)
    print(f"{folder}  sha256:{package.digest}  {Session(package).chosen.reason}", flush=True)


def demand_golden(package: ModelPackage) -> None:
    """Raises EnvironmentFault when a variant, with sums that can't saturate, leaves its own golden vectors."""
    for variant in package.manifest.variants:
        engine = Engine(package.read(variant), contract_of(package.manifest), options_for(Kernels.EXACT))
        fault = golden_fault(package, variant, engine)
        if fault:
            raise EnvironmentFault(
                f"{package.title}: {variant.id} leaves its golden vectors even with exact sums: {fault}. "
                "Choose other golden canvases in its build script."
            )


def _png(canvas: Canvas) -> bytes:
    written, data = cv2.imencode(".png", canvas, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    if not written:
        raise EnvironmentFault("OpenCV can't write a PNG here. Install opencv-python-headless anew.")
    return data.tobytes()
