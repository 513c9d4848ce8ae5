"""Who has seen which crops: what the base was trained on, and how the rest lies with the vehicles."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from inference.crops import Crops

YELLOW: Final = 1
YELLOW_KNOWN: Final = 1
DARK_KNOWN: Final = 5
UNEVENNESS: Final = 0.3
"""Dirichlet's concentration: at 0.3 most vehicles hardly know one of the classes (Hsu et al., arXiv:1909.06335)."""

Places = NDArray[np.int64]


def known_at_first(crops: Crops, rng: np.random.Generator) -> Places:
    """What the base is trained on: the brighter half of red and green, five darker ones, and a single yellow."""
    brightness = crops.pictures.reshape(len(crops.labels), -1).mean(1)
    dark, yellow = brightness < np.median(brightness), crops.labels == YELLOW
    few_dark = rng.choice(np.flatnonzero(dark & ~yellow), DARK_KNOWN, replace=False)
    few_yellow = rng.choice(np.flatnonzero(yellow & ~dark), YELLOW_KNOWN, replace=False)
    return np.sort(np.concatenate([np.flatnonzero(~dark & ~yellow), few_dark, few_yellow]))


def dealt(crops: Crops, left: Places, vehicles: int, rng: np.random.Generator) -> list[Places]:
    """Each crop of `left` to one vehicle, class by class in shares of their own. A vehicle may get none."""
    hands: list[list[int]] = [[] for _ in range(vehicles)]
    for label in range(len(crops.manifest.classes)):
        own = rng.permutation(left[crops.labels[left] == label])
        cuts = (np.cumsum(rng.dirichlet(np.full(vehicles, UNEVENNESS)))[:-1] * len(own)).astype(int)
        for hand, part in zip(hands, np.split(own, cuts), strict=True):
            hand.extend(part.tolist())
    return [np.sort(np.array(hand, np.int64)) for hand in hands]
