"""Labelled sets and models drawn by chance, whose true quality is known: how often does the judge say what?

What is found hangs together as on a road: an object is there in neighbouring frames, and one that is hard to see is
hard for both models.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from inference.floor import objects_for
from inference.judging import Rules, Showing, judge
from inference.statejudge import Told
from inference.verdict import Outcome

Counts = NDArray[np.int64]
Rng = np.random.Generator


@dataclass(frozen=True, slots=True)
class Odds:
    """Objects of one class last for `lasts` frames each. The live model finds so many of a hundred, `hard` is how much
    an object's own difficulty spreads that (0..1), `false` are false detections a frame. What a worse model misses more
    it misses here and there, or with `lasting` of some objects in each of their frames."""

    frames: int = 64
    a_frame: int = 3
    lasts: int = 8
    found: float = 0.85
    hard: float = 0.5
    false: float = 0.1
    lasting: bool = False

    def rules(self, classes: int, margin: float) -> Rules:
        clips = tuple("ab"[2 * frame // self.frames] for frame in range(self.frames))
        labels = tuple(f"class {index}" for index in range(classes))
        return Rules(labels, clips, max(30, objects_for(margin)), margin, 2.5)

    def pair(self, rng: Rng, lost: float) -> tuple[Counts, Counts]:
        """(frames, 3) each of one class; the second finds so much less of it."""
        # One row an object, one column a frame of its life; its chance is its own, and moves both models alike.
        lives = self.frames * self.a_frame // self.lasts
        spread = (1.0 - self.hard) / max(self.hard, 1e-9)
        chance = rng.beta(self.found * spread, (1 - self.found) * spread, (lives, 1)) if self.hard else self.found
        begins = rng.integers(0, self.frames, (lives, 1))
        places = (begins + np.arange(self.lasts)) % self.frames
        return self._shown(rng, chance, places, 0.0), self._shown(rng, chance, places, lost)

    def _shown(self, rng: Rng, chance: NDArray[np.float64] | float, places: Counts, lost: float) -> Counts:
        kept = 1.0 - lost / self.found
        if self.lasting:
            chance = np.where(rng.random((len(places), 1)) < kept, chance, 0.0)
            kept = 1.0
        seen = rng.random(places.shape) < np.asarray(chance) * kept
        counts = np.zeros((self.frames, 3), np.int64)
        np.add.at(counts[:, 0], places[seen], 1)
        np.add.at(counts[:, 2], places[~seen], 1)
        counts[:, 1] = rng.poisson(self.false, self.frames)
        return counts

    def truth(self, lost: float, many: int = 400) -> float:
        """The F1 that so much less costs, over very many frames."""
        rng = np.random.default_rng(0)
        whole = replace(self, frames=self.frames * many)
        before, after = (counts.sum(axis=0) for counts in whole.pair(rng, lost))
        return float(_f1(after) - _f1(before))


def _f1(counts: Counts) -> float:
    return float(2 * counts[0] / (2 * counts[0] + counts[1] + counts[2]))


def outcomes(odds: Odds, lost: tuple[float, ...], margin: float, runs: int, seed: int = 0) -> dict[Outcome, float]:
    """How often each is said, of so many runs with a class for each of `lost`: by how much the candidate is worse."""
    rng = np.random.default_rng(seed)
    rules, said = odds.rules(len(lost), margin), dict.fromkeys(Outcome, 0)
    cpu = np.full(odds.frames, 1_000_000, np.int64)
    for _ in range(runs):
        pairs = [odds.pair(rng, one) for one in lost]
        live, candidate = (
            Showing(np.stack([pair[which] for pair in pairs], axis=1), (True,) * len(lost), cpu) for which in (0, 1)
        )
        said[judge(rules, live, candidate, rng).outcome] += 1
    return {outcome: count / runs for outcome, count in said.items()}


def told_apart(
    rng: Rng, crops: int, right: float, hard: float, lost: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which of so many crops of one class two models tell right, the second so much less often."""
    spread = (1.0 - hard) / max(hard, 1e-9)
    chance = rng.beta(right * spread, (1 - right) * spread, crops) if hard else np.full(crops, right)
    return rng.random(crops) < chance, rng.random(crops) < chance * (1.0 - lost / right)


def told(right: NDArray[np.bool_], labels: Counts, classes: int) -> Told:
    return Told(right, np.where(right, labels, (labels + 1) % classes), np.full(len(labels), 1000, np.int64))
