"""Releases to try on a vehicle: the good model as another release, and three that only a judgement can tell are worse.

Each is a whole package: its hashes are right, its graph is admitted, and its golden vectors hold, because they are what
this very graph shows. They are made of the variant that no processor runs wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from inference.build.packing import entry, expected, shown, write_package
from inference.decode import Decoder, suppress
from inference.manifest import MANIFEST_FILE, DetectManifest, ExpectedObject, Variant
from inference.package import ModelPackage, find_package, load_package
from inference.session import Engine, contract_of, read_canvas, session_options

GOOD: Final = "drive-detect@2.0"
VARIANT: Final = "u8s7"
BLIND_FOR: Final = "car"
SEED: Final = 1886
EXTRA_LAYERS: Final = 6
EXTRA_CHANNELS: Final = 32
_UNSEEN: Final = -100.0
"""Added to a class's logits: no score is left of it."""


class Flaw(StrEnum):
    """What is wrong with a release."""

    SCRAMBLED = "scrambled"  # every layer's weights are shuffled
    SLOW = "slow"  # it answers the same, and computes far more for it
    MUTE = "mute"  # it never sees a car; everything else as before


def worse(flaw: Flaw, version: str, folder: Path) -> Path:
    """A package of the good model with that flaw, in `folder`."""
    good = load_package(find_package(GOOD))
    manifest = good.manifest_of(DetectManifest)
    variant = next(variant for variant in manifest.variants if variant.id == VARIANT)
    model = onnx.load_from_string(good.read(variant))
    _FLAWS[flaw](model.graph, manifest)
    data = model.SerializeToString(deterministic=True)
    flawed = Variant(
        id=VARIANT,
        precision=variant.precision,
        golden=_golden(good, manifest, data),
        **entry(variant.file, data).model_dump(),
    )
    changed = manifest.model_copy(update={"version": version, "variants": (flawed,)})
    return _written(good, changed, {variant.file: data}, folder)


def again(version: str, folder: Path) -> Path:
    """The good model itself under another version, in `folder`."""
    good = load_package(find_package(GOOD))
    return _written(good, good.manifest_of(DetectManifest).model_copy(update={"version": version}), {}, folder)


def _written(good: ModelPackage, manifest: DetectManifest, models: Mapping[str, bytes], folder: Path) -> Path:
    files = {its.file: models.get(its.file) or good.read(its) for its in manifest.files()}
    write_package(folder, {MANIFEST_FILE: shown(manifest), **files})
    return folder


def _golden(good: ModelPackage, manifest: DetectManifest, model: bytes) -> tuple[tuple[ExpectedObject, ...], ...]:
    """What the graph shows on each golden canvas."""
    engine = Engine(model, contract_of(manifest), session_options())
    decoder = Decoder(manifest.input_hw, manifest.outputs.strides, manifest.outputs.bins)

    def objects(scores: NDArray[np.float32], places: NDArray[np.float32]) -> tuple[ExpectedObject, ...]:
        candidates = decoder.candidates(scores, places, manifest.golden.score_from)
        return expected(candidates.pick(suppress(candidates, manifest.thresholds.nms_iou)), manifest.classes)

    return tuple(objects(*engine.run(read_canvas(good, canvas))) for canvas in manifest.golden.canvases)


# --- flaws ------------------------------------------------------------------------------------------


def _scramble(graph: onnx.GraphProto, manifest: DetectManifest) -> None:
    rng = np.random.default_rng(SEED)
    for constant in graph.initializer:
        if len(constant.dims) == 4:
            weights = numpy_helper.to_array(constant)
            shuffled = rng.permutation(weights.reshape(-1)).reshape(weights.shape)
            constant.CopyFrom(numpy_helper.from_array(shuffled, constant.name))


def _slow_down(graph: onnx.GraphProto, manifest: DetectManifest) -> None:
    """Layers over the picture, whose bounded sum is taken times nothing and added to the logits."""
    rng = np.random.default_rng(SEED)
    nodes, last = [helper.make_node("Cast", [manifest.input.name], ["extra_cast"], "extra_cast", to=1)], "extra_in"
    nodes.append(helper.make_node("Transpose", ["extra_cast"], [last], last, perm=[0, 3, 1, 2]))
    for layer in range(EXTRA_LAYERS):
        before, stride = (3, 2) if layer == 0 else (EXTRA_CHANNELS, 1)
        weights = rng.normal(0.0, (9 * before) ** -0.5, (EXTRA_CHANNELS, before, 3, 3)).astype(np.float32)
        graph.initializer.append(numpy_helper.from_array(weights, f"extra_w{layer}"))
        conv, last = last, f"extra_{layer}"
        nodes.append(
            helper.make_node(
                "Conv", [conv, f"extra_w{layer}"], [last], last, pads=[1, 1, 1, 1], strides=[stride, stride]
            )
        )
    graph.initializer.extend(
        numpy_helper.from_array(np.float32(value), name)
        for name, value in (("extra_low", -1.0), ("extra_high", 1.0), ("extra_nothing", 0.0))
    )
    nodes += [
        helper.make_node("ReduceMean", [last], ["extra_mean"], "extra_mean", keepdims=0),
        helper.make_node("Clip", ["extra_mean", "extra_low", "extra_high"], ["extra_clip"], "extra_clip"),
        helper.make_node("Mul", ["extra_clip", "extra_nothing"], ["extra_none"], "extra_none"),
    ]
    _add_to_logits(graph, nodes, "extra_none")


def _blind(graph: onnx.GraphProto, manifest: DetectManifest) -> None:
    bias = np.zeros(len(manifest.classes), np.float32)
    bias[manifest.classes.index(BLIND_FOR)] = _UNSEEN
    graph.initializer.append(numpy_helper.from_array(bias, "unseen"))
    _add_to_logits(graph, [], "unseen")


def _add_to_logits(graph: onnx.GraphProto, nodes: list[onnx.NodeProto], value: str) -> None:
    """Puts `nodes`, and then the sum of `value` and the logits, before the graph's last node, which makes scores."""
    last = graph.node.pop()
    logits = last.input[0]
    last.input[0] = "changed_logits"
    graph.node.extend([*nodes, helper.make_node("Add", [logits, value], ["changed_logits"], "changed_logits"), last])


_FLAWS: Final[Mapping[Flaw, Callable[[onnx.GraphProto, DetectManifest], None]]] = MappingProxyType(
    {Flaw.SCRAMBLED: _scramble, Flaw.SLOW: _slow_down, Flaw.MUTE: _blind}
)
