"""Who has seen which crops: how what the base was not trained on lies with the vehicles."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from inference.crops import Crops

UNEVENNESS: Final = 0.3
"""Dirichlet's concentration: at 0.3 most vehicles hardly know one of the classes (Hsu et al., arXiv:1909.06335)."""

Places = NDArray[np.int64]


def dealt(crops: Crops, left: Places, vehicles: int, rng: np.random.Generator) -> list[Places]:
    """Each crop of `left` to one vehicle, class by class in shares of their own. A vehicle may get none."""
    hands: list[list[int]] = [[] for _ in range(vehicles)]
    for label in range(len(crops.manifest.classes)):
        own = rng.permutation(left[crops.labels[left] == label])
        cuts = (np.cumsum(rng.dirichlet(np.full(vehicles, UNEVENNESS)))[:-1] * len(own)).astype(int)
        for hand, part in zip(hands, np.split(own, cuts), strict=True):
            hand.extend(part.tolist())
    return [np.sort(np.array(hand, np.int64)) for hand in hands]
