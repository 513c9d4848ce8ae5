"""Whether a candidate model may replace the live one, decided from what both showed over an evaluation set.

Detection: the paired bootstrap of the F1 difference, both models resampled together, over blocks of neighbouring frames
of a clip, since neighbours resemble each other (circular blocks: Politis and Romano, 1992, in Exploring the Limits of
Bootstrap). Of few blocks its percentiles lie too near; they are moved out as far as Student's t does (the expanded
percentile interval: Hesterberg, The American Statistician 69, 2015). The candidate must be shown not to be worse by
more than the margin; that it isn't shown to be worse is not enough. CPU time: the median of the paired ratios with its
distribution-free interval from order statistics (Conover, Practical Nonparametric Statistics, 3.2).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

from inference.verdict import ClassVerdict, Outcome, Score, SpeedVerdict, Verdict

BLOCK_FRAMES: Final = 4
"""Neighbouring labelled frames that are drawn together."""
BLOCKS_AT_LEAST: Final = 8
"""In so many blocks objects of a class must lie: fewer can't tell how much they differ."""
RESAMPLES: Final = 2000
TAIL: Final = 0.025
"""Outside either end of a 95 % interval."""

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Rules:
    """What is demanded; `clips` names each frame's clip, neighbours beside each other. A class that is `excused` may
    have too few objects."""

    labels: tuple[str, ...]
    clips: tuple[str, ...]
    min_objects: int
    margin: float
    cpu_ratio_at_most: float
    excused: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Showing:
    """What one model did. counts (frames, classes, 3) int64: found, false, missed. knows (classes,): whether it could
    tell each class at all. cpu_ns (frames,) int64: CPU time for a frame."""

    counts: NDArray[np.int64]
    knows: tuple[bool, ...]
    cpu_ns: NDArray[np.int64]


def judge(rules: Rules, live: Showing, candidate: Showing, rng: np.random.Generator) -> Verdict:
    """The same generator state and showings give the same verdict."""
    weights = block_weights(rules.clips, rng)
    classes = tuple(_class_verdict(rules, index, live, candidate, weights) for index in range(len(rules.labels)))
    speed = speed_verdict(live.cpu_ns, candidate.cpu_ns, rules.cpu_ratio_at_most)
    outcome = worst([*(judged.outcome for judged in classes), speed.outcome])
    return Verdict(outcome, "; ".join([*(judged.words for judged in classes), speed.words]), classes, speed)


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """Any failure fails; short of that, any doubt leaves it undecided."""
    met = set(outcomes)
    return next((o for o in (Outcome.FAILED, Outcome.UNDECIDED) if o in met), Outcome.PASSED)


def block_weights(
    clips: Sequence[str], rng: np.random.Generator, block: int = BLOCK_FRAMES, resamples: int = RESAMPLES
) -> NDArray[np.int64]:
    """(resamples, frames): how often each frame was drawn.

    Blocks are drawn from all clips alike: clip by clip, a short one could only be drawn as it is, and would be taken
    for certain.
    """
    frames = len(clips)
    blocks = np.concatenate([_blocks(first, length, block) for first, length in _runs(clips)])
    begins = rng.integers(0, frames, size=(resamples, -(-frames // block)))
    drawn = blocks[begins].reshape(resamples, -1)[:, :frames]
    weights = np.zeros((resamples, frames), np.int64)
    np.add.at(weights, (np.arange(resamples)[:, None], drawn), 1)
    return weights


def difference_interval(
    live: NDArray[np.int64], candidate: NDArray[np.int64], weights: NDArray[np.int64], blocks: int
) -> Interval:
    """95 % bounds of the F1 difference, of counts (frames, 3) with objects in so many blocks. Swapping the two negates
    and swaps the bounds."""
    differences = np.sort(f1(weights @ candidate) - f1(weights @ live))
    beyond = int(expanded_tail(blocks) * len(differences))
    return float(differences[beyond]), float(differences[-1 - beyond])


def expanded_tail(blocks: int) -> float:
    """What is left outside either end of a 95 % interval that so many blocks tell of: TAIL when they are many."""
    degrees, z = max(1, blocks - 1), NormalDist().inv_cdf(1.0 - TAIL)
    # Student's t by its expansion (Abramowitz and Stegun, 26.7.5): within .01 of it from seven degrees on.
    t = z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)
    return NormalDist().cdf(-t * math.sqrt((degrees + 1) / degrees))


def f1(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Of counts (..., 3); where there is nothing to find and nothing was found, 1."""
    twice = 2.0 * counts[..., 0]
    whole = twice + counts[..., 1] + counts[..., 2]
    fraction: NDArray[np.float64] = np.divide(twice, whole, out=np.ones_like(twice), where=whole > 0)
    return fraction


def speed_verdict(live_ns: NDArray[np.int64], candidate_ns: NDArray[np.int64], at_most: float) -> SpeedVerdict:
    """Of the CPU times for the same frames, pair by pair."""
    ratios = np.sort(candidate_ns / np.maximum(live_ns, 1))
    low, high = median_interval(ratios)
    ratio = float(np.median(ratios))
    outcome, words = _speed_words(ratio, low, high, at_most)
    medians_ms = (float(np.median(spent)) / 1e6 for spent in (live_ns, candidate_ns))
    return SpeedVerdict(outcome, words, ratio, low, high, at_most, *medians_ms)


def median_interval(ordered: NDArray[np.float64]) -> Interval:
    """The k-th from either end, where the median lies beyond with at most 2.5 % each. Fewer than six give no such k:
    then all of them."""
    count = len(ordered)
    at_most = accumulate(math.comb(count, below) / 2**count for below in range(count))
    k = max(1, sum(probability <= TAIL for probability in at_most))
    return float(ordered[k - 1]), float(ordered[-k])


def _class_verdict(
    rules: Rules, index: int, live: Showing, candidate: Showing, weights: NDArray[np.int64]
) -> ClassVerdict:
    before, after = live.counts[:, index], candidate.counts[:, index]
    present = before[:, 0] + before[:, 2]
    objects, blocks = int(present.sum()), blocks_with(rules.clips, present > 0)
    low, high = difference_interval(before, after, weights, blocks)
    scores = _score(before, live.knows[index]), _score(after, candidate.knows[index])
    difference = float(f1(after.sum(axis=0)) - f1(before.sum(axis=0)))
    label = rules.labels[index]
    outcome, words = _class_words(rules, label in rules.excused, objects, blocks, *scores, low, high)
    return ClassVerdict(label, outcome, f"{label}: {words}", objects, blocks, *scores, difference, low, high)


def _class_words(
    rules: Rules, excused: bool, objects: int, blocks: int, live: Score | None, candidate: Score | None,
    low: float, high: float,
) -> tuple[Outcome, str]:  # fmt: skip
    if candidate is None:
        if live is None:
            return Outcome.UNDECIDED, "neither model knows this class"
        return Outcome.FAILED, "the candidate doesn't know this class"
    if objects < rules.min_objects or blocks < BLOCKS_AT_LEAST:
        needed = f"{rules.min_objects} in {BLOCKS_AT_LEAST} are needed"
        return too_few(excused, f"{objects} objects in {blocks} blocks of frames; {needed}")
    before = 0.0 if live is None else live.f1
    known = "" if live is not None else " (the live model doesn't know this class)"
    between = f"F1 {before:.2f} -> {candidate.f1:.2f}{known}, difference {_signed(low)} to {_signed(high)}"
    if candidate.f1 == 0.0 < before:
        return Outcome.FAILED, f"{between}: the candidate finds none"
    if low >= -rules.margin:
        return Outcome.PASSED, f"{between}: not worse"
    if high < -rules.margin:
        return Outcome.FAILED, f"{between}: worse by more than {rules.margin:g}"
    return Outcome.UNDECIDED, f"{between}: it may be worse by more than {rules.margin:g}"


def too_few(excused: bool, words: str) -> tuple[Outcome, str]:
    """Nothing is decided by too few, unless the vehicle's owner excused the class."""
    if excused:
        return Outcome.PASSED, f"{words}; excused by this vehicle's owner"
    return Outcome.UNDECIDED, words


def _speed_words(ratio: float, low: float, high: float, at_most: float) -> tuple[Outcome, str]:
    times = f"{ratio:.1f} times the live model's CPU time, at most {at_most:g}"
    if low > at_most:
        return Outcome.FAILED, f"too slow: {times}"
    if high > at_most:
        return Outcome.UNDECIDED, f"perhaps too slow: {times}, between {low:.2f} and {high:.2f}"
    return Outcome.PASSED, times


def blocks_with(clips: Sequence[str], present: NDArray[np.bool_], block: int = BLOCK_FRAMES) -> int:
    """In how many blocks, laid end to end within each clip, a frame is `present` (frames,)."""
    return sum(
        bool(present[start : min(start + block, first + frames)].any())
        for first, frames in _runs(clips)
        for start in range(first, first + frames, block)
    )


def _blocks(first: int, frames: int, block: int) -> NDArray[np.int64]:
    """(frames, block): the block that begins at each frame of a clip. Circular: with blocks that end at the clip's end
    its first and last frames would be drawn less than the others."""
    return first + (np.arange(frames)[:, None] + np.arange(block)) % frames


def _runs(clips: Sequence[str]) -> list[tuple[int, int]]:
    """(first frame, number of frames) of each clip."""
    lengths = [sum(1 for _ in group) for _, group in groupby(clips)]
    return [(sum(lengths[:index]), length) for index, length in enumerate(lengths)]


def _score(counts: NDArray[np.int64], known: bool) -> Score | None:
    total = counts.sum(axis=0)
    found, false, missed = (int(count) for count in total)
    return Score(found, false, missed, float(f1(total))) if known else None


def _signed(number: float) -> str:
    # Without the zero, -0.0004 would be shown as -0.000.
    return f"{round(number, 3) + 0.0:+.3f}"
