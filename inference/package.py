"""A model package: one flat folder that says what is in it, and is believed only after every byte was checked.

`docs/formats/model-package.md` has the layout. The signature over a package is ota's business; what this module
promises is that the folder holds exactly what its manifest names, so that the package's digest stands for all of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from inference.errors import PackageNotFound, PackageRefused
from inference.folder import Unlike, canonical_json, demand_only, parse_closed, read_checked, read_plain

MODELS_FOLDER = Path(__file__).parent / "models"
MANIFEST_FILE = "model.json"
_FOLDER = re.compile(r"([a-z][a-z0-9-]{0,47})-(\d+(?:\.\d+){1,2})", re.ASCII)
MAX_MANIFEST_BYTES = 1 << 20
MAX_FILE_BYTES = 64 << 20
MAX_PACKAGE_BYTES = 256 << 20

FileName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9A-Z][a-zA-Z0-9._-]{0,63}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,47}$")]
Version = Annotated[str, StringConstraints(pattern=r"^(0|[1-9]\d{0,5})(\.(0|[1-9]\d{0,5})){1,2}$")]
Line = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f-\x9f]*$", max_length=500)]
"""Text for people: no control characters, so that a package can't write on a terminal."""
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Side = Annotated[int, Field(ge=32, le=4096, multiple_of=32)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]


class Part(BaseModel):
    """Frozen and closed: an unknown key is refused, never ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class PackageFile(Part):
    """A file beside the manifest."""

    file: FileName
    sha256: Sha256
    bytes: Annotated[int, Field(ge=1, le=MAX_FILE_BYTES)]


class ExpectedObject(Part):
    """What a golden canvas must show. `box` is xyxy in canvas pixels."""

    label: Line
    score: Fraction
    box: tuple[float, float, float, float]


class Variant(PackageFile):
    """One ONNX file of the same model. `golden` has one list of objects for each golden canvas, in their order."""

    id: Name
    precision: Literal["fp32", "int8_u8s8", "int8_u8s7"]
    golden: tuple[tuple[ExpectedObject, ...], ...]


class ModelInput(Part):
    """The canvas: how a frame becomes the graph's input."""

    name: Line
    height: Side
    width: Side
    colour: Literal["bgr8"]
    layout: Literal["nhwc_u8"]
    letterbox_fill: Annotated[int, Field(ge=0, le=255)]
    letterbox_anchor: Literal["top_left"]
    resize: Literal["bilinear"]


class ModelOutputs(Part):
    """The graph's outputs: scores (1, cells, classes) and, per cell, 4 distributions over `bins` distances."""

    scores: Line
    distances: Line
    strides: Annotated[tuple[Annotated[int, Field(ge=1, le=128)], ...], Field(min_length=1, max_length=8)]
    bins: Annotated[int, Field(ge=2, le=64)]


class Thresholds(Part):
    """`score`: an object is reported at or above it. `nms_iou`: the overlap beyond which the surer one stands."""

    score: Fraction
    nms_iou: Fraction


class Runtime(Part):
    """How ONNX Runtime is set up, and which of its versions and which opset the package was made for."""

    intra_op_threads: Annotated[int, Field(ge=1, le=16)]
    spinning: Literal[False]
    ort_from: Version
    ort_below: Version
    opset: Annotated[int, Field(ge=13, le=21)]


class Golden(Part):
    """Canvases whose detections are known, so that a computer can tell whether it runs the model right.

    The expected objects are the graph's own meaning: computed with every operator run as written, without fused integer
    kernels. An object at or above `score_from` must be found within the tolerances; whatever is found surer than
    `score_from` plus its tolerance must be expected.
    """

    canvases: Annotated[tuple[PackageFile, ...], Field(min_length=1, max_length=16)]
    score_from: Fraction
    score_tolerance: Fraction
    iou_at_least: Fraction


class BuiltOn(Part):
    """The computer that built the package: on its like, the variant's raw outputs over the golden canvases have this
    SHA-256. For information; a difference elsewhere is expected."""

    variant: Name
    onnxruntime: Line
    numpy: Line
    opencv: Line
    instruction_set: Line
    outputs_sha256: Sha256


class Budget(Part):
    """What the model may cost, one thread."""

    frame_p50_ms: Annotated[float, Field(gt=0)]
    frame_p99_ms: Annotated[float, Field(gt=0)]
    resident_mb: Annotated[float, Field(gt=0)]


class Licence(Part):
    spdx: Line
    holder: Line
    notice: Line


class Lineage(Part):
    """Where the weights come from and what the quantizer saw."""

    source: Line
    source_version: Line
    source_sha256: Sha256
    weights_sha256: Sha256
    calibration_video_sha256: Sha256
    calibration_frames: Count
    calibration_sha256: Sha256


class Fidelity(Part):
    """Agreement with the fp32 graph over a drive: never accuracy. The interval is 95 %, moving-block bootstrap."""

    variant: Name
    score: Fraction
    precision: Fraction
    recall: Fraction
    f1: Fraction
    f1_low: Fraction
    f1_high: Fraction


class FidelityReport(Part):
    against: Line
    drive_sha256: Sha256
    frames: Count
    match_iou: Fraction
    block_frames: Count
    figures: tuple[Fidelity, ...]


class Manifest(Part):
    """model.json."""

    schema_: Annotated[Literal[1], Field(alias="schema")]
    name: Name
    version: Version
    task: Literal["detect"]
    classes: Annotated[
        tuple[Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,47}$")], ...], Field(min_length=1)
    ]
    input: ModelInput
    outputs: ModelOutputs
    thresholds: Thresholds
    variants: Annotated[tuple[Variant, ...], Field(min_length=1, max_length=16)]
    runtime: Runtime
    golden: Golden
    budget: Budget
    licence: Licence
    lineage: Lineage
    built_on: BuiltOn
    fidelity: FidelityReport
    card: PackageFile
    reference: PackageFile | None

    @property
    def input_hw(self) -> tuple[int, int]:
        return self.input.height, self.input.width

    def files(self) -> Iterator[PackageFile]:
        """Every file but the manifest."""
        others = [self.card] + ([self.reference] if self.reference else [])
        return chain(self.variants, self.golden.canvases, others)

    @model_validator(mode="after")
    def _holds_together(self) -> Manifest:
        _demand_distinct("class", self.classes)
        _demand_distinct("variant", [variant.id for variant in self.variants])
        _demand_distinct("file", [MANIFEST_FILE, *(entry.file for entry in self.files())])
        for variant in self.variants:
            if len(variant.golden) != len(self.golden.canvases):
                raise ValueError(f"variant {variant.id} doesn't say what each golden canvas shows")
            unknown = {seen.label for canvas in variant.golden for seen in canvas} - set(self.classes)
            if unknown:
                raise ValueError(f"variant {variant.id} expects {sorted(unknown)}, which the model can't tell")
        return self


def _demand_distinct(what: str, names: list[str] | tuple[str, ...]) -> None:
    if len(set(names)) != len(names):
        raise ValueError(f"a {what} is named twice")


@dataclass(frozen=True, slots=True)
class ModelPackage:
    """A folder whose every byte was what the manifest says when it was loaded."""

    folder: Path
    manifest: Manifest
    digest: str

    @property
    def title(self) -> str:
        return f"{self.manifest.name}@{self.manifest.version}"

    def read(self, entry: PackageFile) -> bytes:
        """The file's bytes, checked again: what is used is what was hashed. Raises PackageRefused."""
        with _refusing(self.folder):
            return read_checked(self.folder, entry)


def load_package(folder: Path) -> ModelPackage:
    """Checks the folder against its manifest. Raises PackageRefused, naming the file or key; never half loads."""
    with _refusing(folder):
        manifest = parse_closed(Manifest, MANIFEST_FILE, read_plain(folder, MANIFEST_FILE, MAX_MANIFEST_BYTES))
        demand_only(folder, {MANIFEST_FILE, *(entry.file for entry in manifest.files())})
        if sum(entry.bytes for entry in manifest.files()) > MAX_PACKAGE_BYTES:
            raise Unlike(f"its files are more than {MAX_PACKAGE_BYTES} bytes")
        for entry in manifest.files():
            read_checked(folder, entry)
    return ModelPackage(folder, manifest, package_digest(manifest))


def package_digest(manifest: Manifest) -> str:
    """SHA-256 (hex) over the canonical manifest and then each file's name and hash, by name."""
    digest = hashlib.sha256(canonical_json(manifest))
    for entry in sorted(manifest.files(), key=lambda entry: entry.file):
        digest.update(f"\n{entry.file} {entry.sha256}".encode())
    return digest.hexdigest()


def list_packages(models: Path = MODELS_FOLDER) -> list[tuple[str, str]]:
    """(name, version) of each package folder `<name>-<version>`, by name and rising version; nothing is opened."""
    folders = [_FOLDER.fullmatch(entry.name) for entry in models.iterdir() if (entry / MANIFEST_FILE).is_file()]
    return sorted(((found[1], found[2]) for found in folders if found), key=lambda it: (it[0], version_key(it[1])))


def find_package(name_or_path: str, models: Path = MODELS_FOLDER) -> Path:
    """The folder of "name@version", of "name" (the newest version), or the path itself. Raises PackageNotFound."""
    if os.sep in name_or_path or Path(name_or_path, MANIFEST_FILE).is_file():
        return _existing_folder(Path(name_or_path))
    name, at, version = name_or_path.partition("@")
    known = list_packages(models)
    versions = [v for n, v in known if n == name and (not at or v == version)]
    if not versions:
        names = ", ".join(f"{n}@{v}" for n, v in known) or "none"
        raise PackageNotFound(f"There is no model package {name_or_path}. Known: {names}; or give a folder's path.")
    return models / f"{name}-{versions[-1]}"


def version_key(version: str) -> tuple[int, ...]:
    """Versions in their order. Raises ValueError for what isn't numbers and dots."""
    return tuple(int(part) for part in version.split("."))


def _existing_folder(folder: Path) -> Path:
    if not (folder / MANIFEST_FILE).is_file():
        raise PackageNotFound(f"{folder} is no model package: it has no {MANIFEST_FILE}. Give a package's own folder.")
    return folder


@contextlib.contextmanager
def _refusing(folder: Path) -> Iterator[None]:
    try:
        yield
    except Unlike as unlike:
        raise PackageRefused(_refusal(folder, str(unlike))) from unlike


def _refusal(folder: Path, reason: str) -> str:
    return f"The model package in {folder} is refused: {reason}. Install it again from its source; it isn't run."
