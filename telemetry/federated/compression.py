"""From what training changed to what is sent, and what is left for the next time.

The norm is bounded, so that no vehicle moves the fleet by more than another; only the largest changes are sent, and
what wasn't is added to the next update (error feedback: Stich et al., arXiv:1809.07599).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from telemetry.federated.payload import SparseDelta, decode_delta, encode_delta


@dataclass(frozen=True, slots=True)
class Compressed:
    """`payload` is sent; `residual` (parameters,) float32 is all that it doesn't say."""

    payload: bytes
    residual: NDArray[np.float32]


def compress(delta: NDArray[np.float32], residual: NDArray[np.float32], keep: int, clip: float) -> Compressed:
    """delta, residual (parameters,) float32. What is sent has `keep` values at most and a norm of `clip` at most.

    Raises ValueError where something isn't finite.
    """
    owed = clipped(delta, clip).astype(np.float64) + residual
    largest = keep_largest(owed.astype(np.float32), keep)
    sent = largest.scaled(_shrink(largest.norm, clip))
    payload = encode_delta(sent)
    told = decode_delta(payload, len(delta), keep)
    return Compressed(payload, (owed - told.dense()).astype(np.float32))


def clipped(delta: NDArray[np.float32], most: float) -> NDArray[np.float32]:
    """The same direction, no longer than `most`. Raises ValueError where something isn't finite."""
    norm = float(np.linalg.norm(delta.astype(np.float64)))
    if not np.isfinite(norm):
        raise ValueError("a change of parameters isn't finite")
    return (delta * np.float64(_shrink(norm, most))).astype(np.float32)


def keep_largest(delta: NDArray[np.float32], keep: int) -> SparseDelta:
    """Those of the largest size; of equals the first."""
    chosen = np.sort(np.argsort(-np.abs(delta), kind="stable")[:keep]).astype(np.int64)
    return SparseDelta(len(delta), chosen, delta[chosen])


def _shrink(norm: float, most: float) -> float:
    return min(1.0, most / norm) if norm else 1.0
