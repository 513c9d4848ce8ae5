"""A model ready to run: one ONNX Runtime session over the first variant that this computer runs right.

No thread of it spins: idle threads that spin cost several times the frame's own work on a shared processor.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Protocol, assert_never

import cv2
import numpy as np
from numpy.typing import NDArray

from inference.admission import Contract, ElementType, Surface, admit
from inference.decode import cell_count
from inference.errors import ModelFault, PackageRefused
from inference.golden import golden_checks
from inference.manifest import AnyManifest, CropInput, DetectOutputs, FaceOutputs, ModelInput, StateOutputs, VariantFile
from inference.outputs import Outputs
from inference.package import ModelPackage, version_key
from inference.part import PackageFile
from inference.runtime import ort, ort_errors

# ONNX Runtime's exceptions have no common root of their own.
_ORT_ERRORS = (
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NoSuchFile,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
    MemoryError,
)

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, slots=True)
class Chosen:
    """The variant that runs, and why this one, in words for a person."""

    variant: str
    reason: str


class Runner(Protocol):
    """Runs a model on one canvas."""

    def run(self, canvas: NDArray[np.uint8]) -> Outputs:
        """canvas (H, W, 3) -> float32: scores (cells, classes) and places (cells, what the task's decoder takes); of a
        model that tells states logits (classes,) alone.

        Raises ModelFault.
        """
        ...


class Engine:
    """One variant's graph in ONNX Runtime on the CPU. Raises PackageRefused when it can't be loaded."""

    def __init__(self, model: bytes, contract: Contract, options: ort.SessionOptions) -> None:
        self._contract = contract
        self._output_names = [output.name for output in contract.outputs]
        try:
            self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except _ORT_ERRORS as error:
            raise PackageRefused(f"ONNX Runtime can't load the model: {error}. It isn't run here.") from error

    def run(self, canvas: NDArray[np.uint8]) -> Outputs:
        """As Runner.run, of a canvas in uint8. Raises ModelFault when the model fails, or answers with
        other shapes or with numbers that aren't finite."""
        (wanted,) = self._contract.inputs
        if canvas.shape != wanted.shape[1:] or canvas.dtype != np.uint8:
            raise ValueError(f"the model takes {wanted.shape[1:]} uint8, not {canvas.shape} {canvas.dtype}")
        try:
            arrays = self._session.run(self._output_names, {wanted.name: canvas[None]})
        except _ORT_ERRORS as error:
            raise ModelFault(f"The model failed on a frame: {error}. Roll back to the model before it.") from error
        for array, output in zip(arrays, self._contract.outputs, strict=True):
            _demand_sane(output.name, array, output.shape)
        return tuple(array[0] for array in arrays)


class Session:
    """A package's model, warm. Opening it runs the golden canvases through each variant until one holds."""

    def __init__(self, package: ModelPackage, threads: int | None = None) -> None:
        """`threads`: as many as the manifest says when None. The outputs are the same bits with any number."""
        _demand_runtime(package)
        self.package = package
        self._threads = package.manifest.runtime.intra_op_threads if threads is None else threads
        self._engine, self.chosen = self._choose()

    def run(self, canvas: NDArray[np.uint8]) -> Outputs:
        """As Engine.run, by the chosen variant."""
        return self._engine.run(canvas)

    def _choose(self) -> tuple[Engine, Chosen]:
        passed_over: list[str] = []
        for variant in self.package.manifest.variants:
            engine = open_engine(self.package, variant, self._threads)
            fault = golden_fault(self.package, variant, engine)
            if fault is None:
                return engine, Chosen(variant.id, "; ".join([*passed_over, f"{variant.id} holds its golden vectors"]))
            passed_over.append(f"{variant.id} doesn't hold: {fault}")
        raise PackageRefused(
            f"No variant of {self.package.title} runs right on this computer: {'; '.join(passed_over)}. "
            "Choose a package built for this processor."
        )


def open_engine(package: ModelPackage, variant: VariantFile, threads: int = 1) -> Engine:
    """The variant's graph, admitted and loaded. Raises PackageRefused."""
    contract, model = contract_of(package.manifest), package.read(variant)
    try:
        admit(model, contract)
        return Engine(model, contract, session_options(threads))
    except PackageRefused as refusal:
        raise PackageRefused(f"{package.title}, {variant.file}: {refusal}") from refusal


def golden_fault(package: ModelPackage, variant: VariantFile, runner: Runner) -> str | None:
    """What the runner gets wrong of the variant's golden canvases, the first of it, in words; None when they hold."""
    checks = golden_checks(package.manifest, variant.id)
    for entry, first_difference in zip(package.manifest.golden.canvases, checks, strict=True):
        try:
            difference = first_difference(runner.run(read_canvas(package, entry)))
        except ModelFault as fault:
            difference = str(fault)
        if difference:
            return f"{entry.file}: {difference}"
    return None


def contract_of(manifest: AnyManifest) -> Contract:
    """What the manifest promises about the graph's surface."""
    return contract_for(manifest.input, manifest.outputs, len(manifest.classes), manifest.runtime.opset)


def contract_for(
    model_input: ModelInput | CropInput, outputs: DetectOutputs | FaceOutputs | StateOutputs, classes: int, opset: int
) -> Contract:
    canvas_hw = model_input.height, model_input.width
    canvas = Surface(model_input.name, (1, *canvas_hw, 3), ElementType.UINT8)
    match outputs:
        case DetectOutputs():
            cells = cell_count(canvas_hw, outputs.strides)
            surface = _two(outputs.scores, outputs.distances, cells, classes, 4 * outputs.bins)
        case FaceOutputs():
            cells = cell_count(canvas_hw, (outputs.stride,))
            surface = _two(outputs.scores, outputs.boxes, cells, classes, 4)
        case StateOutputs():
            return Contract((canvas,), (Surface(outputs.logits, (1, classes)),), opset)
        case _:
            assert_never(outputs)
    return Contract((canvas,), surface, opset)


def _two(scores: str, places: str, cells: int, classes: int, width: int) -> tuple[Surface, Surface]:
    return Surface(scores, (1, cells, classes)), Surface(places, (1, cells, width))


def read_canvas(package: ModelPackage, entry: PackageFile) -> NDArray[np.uint8]:
    """A golden canvas (H, W, 3) uint8. Raises PackageRefused when the picture isn't one."""
    data, (height, width) = package.read(entry), package.manifest.input_hw
    # A PNG tells its size in its first 24 bytes: look before the decoder makes room for it.
    is_canvas = data[:8] == _PNG_SIGNATURE and data[16:24] == struct.pack(">II", width, height)
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if is_canvas else None
    if picture is None:
        raise PackageRefused(
            f"{package.title}: {entry.file} isn't a PNG of the model's input size. Get another package."
        )
    return np.asarray(picture, np.uint8)


def session_options(threads: int = 1) -> ort.SessionOptions:
    """How every model here is run: in sequence, on so many threads, none of them spinning."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.use_deterministic_compute = True
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options


def _demand_sane(name: str, array: NDArray[np.float32], shape: tuple[int, ...]) -> None:
    if array.shape != shape or array.dtype != np.float32:
        raise ModelFault(f"The model's {name} is {array.shape} {array.dtype}, not {shape} float32. Roll it back.")
    if not np.isfinite(array).all():
        raise ModelFault(f"The model's {name} holds numbers that aren't finite. Roll back to the model before it.")


def _demand_runtime(package: ModelPackage) -> None:
    runtime, here = package.manifest.runtime, version_key(ort.__version__.split("+")[0])
    if not version_key(runtime.ort_from) <= here < version_key(runtime.ort_below):
        raise PackageRefused(
            f"{package.title} is made for ONNX Runtime from {runtime.ort_from} and below {runtime.ort_below}; "
            f"here is {ort.__version__}. Install one of those, or a package made for this one."
        )
