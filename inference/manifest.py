"""model.json: what a package says of itself, one closed class a section, and one manifest a task.

`docs/formats/model-package.md` has the keys. Only numbers and words are here; `inference/package.py` holds them against
the folder.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, TypeAdapter, model_validator

from inference.evidence import AccuracyReport, FidelityReport, RecallReport
from inference.folder import parse_closed
from inference.part import Count, Fraction, Line, Name, PackageFile, Part, Sha256, Side, Version

MANIFEST_FILE = "model.json"


class ExpectedObject(Part):
    """What a golden canvas must show. `box` is xyxy in canvas pixels."""

    label: Line
    score: Fraction
    box: tuple[float, float, float, float]


class ExpectedState(Part):
    """What a golden canvas must be told to show."""

    label: Line
    score: Fraction


class VariantFile(PackageFile):
    """One ONNX file of the same model."""

    id: Name
    precision: Literal["fp32", "fp16_stored", "int8_u8s8", "int8_u8s7"]


class Variant(VariantFile):
    """`golden` has one list of objects for each golden canvas, in their order."""

    golden: tuple[tuple[ExpectedObject, ...], ...]


class StateVariant(VariantFile):
    """`golden` has the state of each golden canvas, in their order."""

    golden: tuple[ExpectedState, ...]


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


class CropInput(Part):
    """The canvas of a model that sees one thing alone: its box, cut out and shrunk."""

    name: Line
    height: Annotated[int, Field(ge=8, le=256)]
    width: Annotated[int, Field(ge=8, le=256)]
    colour: Literal["bgr8"]
    layout: Literal["nhwc_u8"]
    resize: Literal["area"]


class DetectOutputs(Part):
    """The graph's outputs: scores (1, cells, classes) and, per cell, 4 distributions over `bins` distances."""

    scores: Line
    distances: Line
    strides: Annotated[tuple[Annotated[int, Field(ge=1, le=128)], ...], Field(min_length=1, max_length=8)]
    bins: Annotated[int, Field(ge=2, le=64)]


class FaceOutputs(Part):
    """The graph's outputs: scores (1, cells, 1) and boxes (1, cells, 4), centre and size from the cell's own centre on,
    in pixels of the canvas."""

    scores: Line
    boxes: Line
    stride: Annotated[int, Field(ge=1, le=128)]


class StateOutputs(Part):
    """The graph's output: logits (1, classes), whose softmax says how sure it is of each state."""

    logits: Line


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


class GoldenCanvases(Part):
    """Canvases of which it is known what they show, so that a computer can tell whether it runs the model right.

    What is expected is the graph's own meaning: computed with every operator run as written, without fused integer
    kernels. Wider tolerances than these would hold of a graph that is computed wrong.
    """

    canvases: Annotated[tuple[PackageFile, ...], Field(min_length=1, max_length=16)]
    score_tolerance: Annotated[float, Field(ge=0.0, le=0.1)]


class Golden(GoldenCanvases):
    """An object at or above `score_from` must be found within the tolerances; whatever is found surer than `score_from`
    plus its tolerance must be expected."""

    score_from: Annotated[float, Field(ge=0.0, le=0.9)]
    iou_at_least: Annotated[float, Field(ge=0.5, le=1.0)]


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
    """Where the weights come from."""

    source: Line
    source_version: Line
    source_sha256: Sha256
    weights_sha256: Sha256


class QuantizedLineage(Lineage):
    """And what the quantizer saw."""

    calibration_video_sha256: Sha256
    calibration_frames: Count
    calibration_sha256: Sha256


class Margin(Part):
    """What a found face's box is widened by, in its own widths and heights: as found, it ends at brows and cheeks."""

    sides: Fraction
    up: Fraction
    down: Fraction


class FaceSearch(Part):
    """Where faces are looked for, and how far a box is widened. Recall was measured with these very numbers.

    Squares of `tile_px`, and of the frame's shorter side, cover the frame; neighbours share `overlap_px` at least. A
    person's head is looked for in a square of `head_crop` of the person's height, from the lower `head_score` on.
    """

    tile_px: Annotated[int, Field(ge=32, le=4096)]
    overlap_px: Annotated[int, Field(ge=0, le=1024)]
    head_crop: Annotated[float, Field(gt=0.0, le=1.0)]
    head_score: Fraction
    margin: Margin

    @model_validator(mode="after")
    def _advances(self) -> FaceSearch:
        if self.overlap_px >= self.tile_px:
            raise ValueError("overlap_px must be less than tile_px")
        return self


class LearnedTensor(Part):
    """One tensor of float32 that is learned, by its name in the training graph."""

    name: Line
    shape: Annotated[tuple[Annotated[int, Field(ge=1, le=1 << 20)], ...], Field(min_length=1, max_length=8)]


class PinnedScale(Part):
    """How a tensor of activations is quantized, in this package and in all that are learned from it."""

    tensor: Line
    scale: Annotated[float, Field(gt=0.0)]
    zero_point: Annotated[int, Field(ge=0, le=255)]


class Training(Part):
    """What a vehicle needs to learn: a step's graph, and the parameters that it starts from: float32, little-endian,
    in the order of `layout`, each in C order. The loss is what the name says, over so many examples at once."""

    graph: PackageFile
    parameters: PackageFile
    layout: Annotated[tuple[LearnedTensor, ...], Field(min_length=1, max_length=1024)]
    loss: Literal["softmax"]
    batch: Annotated[int, Field(ge=1, le=1024)]
    activations: tuple[PinnedScale, ...]

    @model_validator(mode="after")
    def _holds_together(self) -> Training:
        _demand_distinct("tensor", [tensor.name for tensor in self.layout])
        if self.parameters.bytes != 4 * sum(math.prod(tensor.shape) for tensor in self.layout):
            raise ValueError(f"{self.parameters.file} isn't as long as its layout")
        return self


class FederatedLineage(Part):
    """Which plan the parameters were learned by: aggregate `number`, counted from 1, of so many vehicles' updates; the
    digest is SHA-256 over theirs, in rising order, one a line."""

    plan: Line
    base: Sha256
    number: Count
    vehicles: Count
    updates_sha256: Sha256


class Manifest(Part):
    """model.json, as far as all tasks have it in common."""

    schema_: Annotated[Literal[1], Field(alias="schema")]
    name: Name
    version: Version
    task: Literal["detect", "faces", "state"]
    classes: Annotated[
        tuple[Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,47}$")], ...], Field(min_length=1)
    ]
    input: ModelInput | CropInput
    outputs: DetectOutputs | FaceOutputs | StateOutputs
    variants: Annotated[tuple[VariantFile, ...], Field(min_length=1, max_length=16)]
    runtime: Runtime
    golden: GoldenCanvases
    budget: Budget
    licence: Licence
    lineage: Lineage
    built_on: BuiltOn

    @property
    def input_hw(self) -> tuple[int, int]:
        return self.input.height, self.input.width

    def files(self) -> Iterator[PackageFile]:
        """Every file but the manifest."""
        return chain(self.variants, self.golden.canvases, self.documents())

    @abstractmethod
    def documents(self) -> tuple[PackageFile, ...]:
        """The files that no computer runs to see anything."""

    @abstractmethod
    def expectations(self) -> Iterator[tuple[str, int, set[str]]]:
        """Of each variant its id, of how many canvases it says what they show, and the labels it names."""

    @model_validator(mode="after")
    def _holds_together(self) -> Manifest:
        _demand_distinct("class", self.classes)
        _demand_distinct("variant", [variant.id for variant in self.variants])
        _demand_distinct("file", [MANIFEST_FILE, *(entry.file for entry in self.files())])
        for variant, canvases, labels in self.expectations():
            if canvases != len(self.golden.canvases):
                raise ValueError(f"variant {variant} doesn't say what each golden canvas shows")
            if not labels:
                raise ValueError(
                    f"variant {variant} expects nothing of any golden canvas, which a blind one shows, too"
                )
            if unknown := labels - set(self.classes):
                raise ValueError(f"variant {variant} expects {sorted(unknown)}, which the model can't tell")
        return self


class ObjectsManifest(Manifest):
    """Of a model that finds things in a whole frame."""

    input: ModelInput
    outputs: DetectOutputs | FaceOutputs
    thresholds: Thresholds
    variants: Annotated[tuple[Variant, ...], Field(min_length=1, max_length=16)]
    golden: Golden

    def expectations(self) -> Iterator[tuple[str, int, set[str]]]:
        for variant in self.variants:
            yield variant.id, len(variant.golden), {seen.label for canvas in variant.golden for seen in canvas}


class DetectManifest(ObjectsManifest):
    """Of a model that finds objects of several classes."""

    task: Literal["detect"]
    outputs: DetectOutputs
    lineage: QuantizedLineage
    fidelity: FidelityReport
    card: PackageFile
    reference: PackageFile | None

    def documents(self) -> tuple[PackageFile, ...]:
        return (self.card, self.reference) if self.reference else (self.card,)


class FacesManifest(ObjectsManifest):
    """Of a model that finds faces, so that they can be covered."""

    task: Literal["faces"]
    classes: tuple[Literal["face"]]
    outputs: FaceOutputs
    search: FaceSearch
    recall: RecallReport
    card: PackageFile

    def documents(self) -> tuple[PackageFile, ...]:
        return (self.card,)


class StateManifest(Manifest):
    """Of a model that tells the state of one thing, whose box somebody else has found, and that can be learned.

    `of` is the label under which it is found. A state is told from `sure_from` on; below it nothing is.
    """

    task: Literal["state"]
    of: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,47}$")]
    input: CropInput
    outputs: StateOutputs
    variants: Annotated[tuple[StateVariant, ...], Field(min_length=1, max_length=16)]
    golden: GoldenCanvases
    sure_from: Fraction
    accuracy: AccuracyReport
    training: Training
    learned: FederatedLineage | None
    card: PackageFile

    def documents(self) -> tuple[PackageFile, ...]:
        return self.card, self.training.graph, self.training.parameters

    def expectations(self) -> Iterator[tuple[str, int, set[str]]]:
        for variant in self.variants:
            yield variant.id, len(variant.golden), {seen.label for seen in variant.golden}


AnyObjectsManifest = DetectManifest | FacesManifest
AnyManifest = AnyObjectsManifest | StateManifest
_ADAPTER: TypeAdapter[AnyManifest] = TypeAdapter(Annotated[AnyManifest, Field(discriminator="task")])


def parse_manifest(data: bytes) -> AnyManifest:
    """Raises folder.Unlike, naming the key."""
    return parse_closed(_ADAPTER.validate_json, MANIFEST_FILE, data, choices=1)


def _demand_distinct(what: str, names: Sequence[str]) -> None:
    if len(set(names)) != len(names):
        raise ValueError(f"a {what} is named twice")
