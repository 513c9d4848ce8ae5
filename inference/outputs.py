"""What a graph gives for one canvas, as arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Outputs = tuple[Array, ...]
"""In the contract's order, each without the batch's axis."""


def two_of(outputs: Outputs) -> tuple[Array, Array]:
    """Of a model that finds things: scores (cells, classes) and places (cells, what the task's decoder takes)."""
    scores, places = outputs
    return scores, places


def softmax(logits: Array) -> Array:
    """Over the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares: Array = powers / powers.sum(axis=-1, keepdims=True)
    return shares
