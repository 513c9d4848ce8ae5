"""How closely one detector agrees with another over a drive: fidelity. It is never accuracy: nobody labelled the drive.

Two objects agree when they are of one class and overlap by at least an IoU. Frames of a drive resemble their
neighbours, so the interval comes from the moving-block bootstrap (Künsch, Annals of Statistics 17, 1989).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from inference.detections import Detections, iou
from inference.detector import Detector
from inference.errors import PackageRefused

MATCH_IOU = 0.5
BLOCK_FRAMES = 25
RESAMPLES = 2000
SCORES = (0.35, 0.40, 0.50)
F1_BAR = 0.95

_MAX_REFERENCE_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Agreement:
    """Fractions of 1. `f1_low` and `f1_high` bound F1 with 95 % confidence."""

    precision: float
    recall: float
    f1: float
    f1_low: float
    f1_high: float


class Reference(msgspec.Struct, frozen=True):
    """What the fp32 graph saw in each frame of one drive, at or above `score_from`; boxes in the frame's pixels."""

    drive_sha256: str
    score_from: float
    frames: tuple[tuple[tuple[int, float, float, float, float, float], ...], ...]
    """Per frame and object, the surest first: label, score, x1, y1, x2, y2."""

    def detections(self) -> list[Detections]:
        return [_as_detections(frame) for frame in self.frames]


def make_reference(drive_sha256: str, score_from: float, seen: Iterable[Detections]) -> Reference:
    return Reference(drive_sha256, score_from, tuple(_as_rows(detections) for detections in seen))


def encode_reference(reference: Reference) -> bytes:
    """The same reference always gives the same bytes."""
    return msgspec.msgpack.encode(reference)


def decode_reference(data: bytes) -> Reference:
    """Raises PackageRefused when `data` isn't a reference."""
    if len(data) > _MAX_REFERENCE_BYTES:
        raise PackageRefused(
            f"The fp32 reference has {len(data)} bytes; {_MAX_REFERENCE_BYTES} are the most it may have."
        )
    try:
        return msgspec.msgpack.decode(data, type=Reference)
    except (ValueError, RecursionError) as error:  # msgspec's own errors, and UnicodeDecodeError
        raise PackageRefused(f"The fp32 reference can't be read: {error}. Install the package again.") from error


def agreement(
    reference: Sequence[Detections],
    candidate: Sequence[Detections],
    rng: np.random.Generator,
    match_iou: float = MATCH_IOU,
) -> Agreement:
    """Of the candidate with the reference, frame by frame. Two drives without objects agree wholly."""
    counts = np.array([count_pairs(r, c, match_iou) for r, c in zip(reference, candidate, strict=True)])
    both, only_candidate, only_reference = (int(total) for total in counts.sum(axis=0))
    low, high = bootstrap_f1(counts, rng)
    return Agreement(
        _ratio(both, both + only_candidate), _ratio(both, both + only_reference), _f1(counts.sum(axis=0)), low, high
    )


def count_pairs(reference: Detections, candidate: Detections, match_iou: float = MATCH_IOU) -> tuple[int, int, int]:
    """(in both, only in the candidate, only in the reference). The surer chooses first and takes what overlaps most."""
    overlap = iou(reference.boxes, candidate.boxes)
    overlap[reference.labels[:, None] != candidate.labels[None]] = 0.0
    both = 0
    for row in np.argsort(-reference.scores, kind="stable").tolist():
        column = int(overlap[row].argmax()) if len(candidate) else 0
        if len(candidate) and overlap[row, column] >= match_iou:
            overlap[:, column] = 0.0
            both += 1
    return both, len(candidate) - both, len(reference) - both


def bootstrap_f1(
    counts: NDArray[np.int64], rng: np.random.Generator, block: int = BLOCK_FRAMES, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """The 2.5 % and 97.5 % quantiles of F1 over drives drawn, with replacement, as blocks of neighbouring frames."""
    frames = len(counts)
    block = min(block, frames)
    blocks = -(-frames // block)
    starts = rng.integers(0, frames - block + 1, size=(resamples, blocks))
    picks = (starts[:, :, None] + np.arange(block)).reshape(resamples, -1)[:, :frames]
    totals = counts[picks].sum(axis=1)
    low, high = np.quantile([_f1(total) for total in totals], [0.025, 0.975])
    return float(low), float(high)


def fidelity_over_drive(
    detector: Detector, frames: Iterable[NDArray[np.uint8]], reference: Reference, scores: Sequence[float], seed: int
) -> dict[float, Agreement]:
    """The detector against the reference over the drive's frames, at each score.

    Raises ValueError when the reference begins above a score, or tells of another number of frames.
    """
    if min(scores) < reference.score_from:
        raise ValueError(f"the reference begins at score {reference.score_from}, above {min(scores)}")
    seen = [detector.detect(frame, min(scores)) for frame in frames]
    return compare_at(reference.detections(), seen, scores, seed)


def compare_at(
    reference: Sequence[Detections], candidate: Sequence[Detections], scores: Sequence[float], seed: int
) -> dict[float, Agreement]:
    """Both cut at each score in turn; every score draws the same blocks."""
    return {
        score: agreement(
            [seen.at_least(score) for seen in reference],
            [seen.at_least(score) for seen in candidate],
            np.random.default_rng(seed),
        )
        for score in scores
    }


def _f1(counts: NDArray[np.int64]) -> float:
    both, only_candidate, only_reference = counts
    return _ratio(2 * int(both), 2 * int(both) + int(only_candidate) + int(only_reference))


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 1.0


def _as_rows(seen: Detections) -> tuple[tuple[int, float, float, float, float, float], ...]:
    rows: Any = zip(seen.labels.tolist(), seen.scores.tolist(), *seen.boxes.T.tolist(), strict=True)
    return tuple(rows)


def _as_detections(rows: Sequence[tuple[int, float, float, float, float, float]]) -> Detections:
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Detections(table[:, 2:].astype(np.float32), table[:, 1].astype(np.float32), table[:, 0].astype(np.int64))
