"""Does this computer run the model as it was meant? The golden vectors' answer.

x86 processors without VNNI add pairs of 8-bit products in 16 bits and saturate: a U8S8 graph then runs and is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from inference.blazeface import FaceDecoder
from inference.decode import Decoder, suppress
from inference.detections import Detections, iou
from inference.manifest import (
    AnyManifest,
    AnyObjectsManifest,
    DetectManifest,
    ExpectedObject,
    ExpectedState,
    FacesManifest,
    Golden,
    StateManifest,
)
from inference.outputs import Outputs, softmax, two_of

_SAME_PLACE_IOU = 0.5

FirstDifference = Callable[[Outputs], str | None]
"""Where a model's raw outputs over one golden canvas leave the tolerances, in words; None when they hold."""


def golden_checks(manifest: AnyManifest, variant: str) -> Iterator[FirstDifference]:
    """The variant's, one for each golden canvas, in their order."""
    match manifest:
        case StateManifest():
            (states,) = (one.golden for one in manifest.variants if one.id == variant)
            for state in states:
                yield partial(_state_difference, state, manifest.classes, manifest.golden.score_tolerance)
        case DetectManifest() | FacesManifest():
            check = GoldenCheck(manifest)
            (canvases,) = (one.golden for one in manifest.variants if one.id == variant)
            for objects in canvases:
                yield partial(check.first_difference, objects)
        case _:
            assert_never(manifest)


def _state_difference(
    expected: ExpectedState, classes: Sequence[str], tolerance: float, outputs: Outputs
) -> str | None:
    score = float(softmax(outputs[0])[classes.index(expected.label)])
    if abs(score - expected.score) <= tolerance:
        return None
    return f"{expected.label} is told at {score:.3f} instead of {expected.score:.3f}"


def as_detections(objects: Sequence[ExpectedObject], classes: Sequence[str]) -> Detections:
    """The expected objects as detections in canvas pixels. Raises ValueError for a class the model doesn't know."""
    return Detections(
        np.array([seen.box for seen in objects], np.float32).reshape(-1, 4),
        np.array([seen.score for seen in objects], np.float32),
        np.array([classes.index(seen.label) for seen in objects], np.int64),
    )


def decoder_of(manifest: AnyObjectsManifest) -> Decoder | FaceDecoder:
    """What reads the task's outputs."""
    match manifest:
        case DetectManifest():
            return Decoder(manifest.input_hw, manifest.outputs.strides, manifest.outputs.bins)
        case FacesManifest():
            return FaceDecoder(manifest.input_hw, manifest.outputs.stride)
        case _:
            assert_never(manifest)


class GoldenCheck:
    """Compares a model's raw outputs over one golden canvas with what is expected there."""

    def __init__(self, manifest: AnyObjectsManifest) -> None:
        self._golden = manifest.golden
        self._classes = manifest.classes
        self._nms_iou = manifest.thresholds.nms_iou
        self._decoder = decoder_of(manifest)

    def first_difference(self, objects: Sequence[ExpectedObject], outputs: Outputs) -> str | None:
        """Where the outputs leave the tolerances, in words; None when they hold.

        An expected object is looked for among all cells: which of two equally sure cells outlives the suppression is
        decided by the last bit.
        """
        expected = as_detections(objects, self._classes)
        reach = self._golden.score_from - self._golden.score_tolerance
        candidates = self._decoder.candidates(*two_of(outputs), reach)
        found = candidates.pick(suppress(candidates, self._nms_iou))
        return _missing(expected, candidates, self._golden) or _surplus(expected, found, self._golden)


def _missing(expected: Detections, candidates: Detections, golden: Golden) -> str | None:
    overlap = _overlap_in_class(expected, candidates)
    off = np.abs(expected.scores[:, None] - candidates.scores[None])
    off[overlap < golden.iou_at_least] = np.inf
    for score, nearest in zip(expected.scores, off.min(axis=1, initial=np.inf), strict=True):
        if nearest > golden.score_tolerance:
            fault = f"is off by {nearest:.3f}" if np.isfinite(nearest) else "isn't found"
            return f"the object at score {score:.3f} {fault}"
    return None


def _surplus(expected: Detections, found: Detections, golden: Golden) -> str | None:
    explained = _overlap_in_class(expected, found).max(axis=0, initial=0.0) >= _SAME_PLACE_IOU
    surplus = found.scores[~explained & (found.scores > golden.score_from + golden.score_tolerance)]
    return f"an object at score {surplus[0]:.3f} isn't expected" if len(surplus) else None


def _overlap_in_class(left: Detections, right: Detections) -> NDArray[np.floating]:
    overlap = iou(left.boxes, right.boxes)
    overlap[left.labels[:, None] != right.labels[None]] = 0.0
    return overlap
