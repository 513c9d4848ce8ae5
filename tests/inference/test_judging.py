"""Laws of the judge: never passed on too little, never failed on doubt, and both models by the same measure."""

from __future__ import annotations

import dataclasses
from statistics import NormalDist

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from inference.judging import (
    BLOCK_FRAMES,
    BLOCKS_AT_LEAST,
    RESAMPLES,
    TAIL,
    Rules,
    Showing,
    block_weights,
    blocks_with,
    difference_interval,
    expanded_tail,
    f1,
    judge,
    median_interval,
    speed_verdict,
    worst,
)
from inference.verdict import ClassVerdict, Outcome, Verdict

PASSED, FAILED, UNDECIDED = Outcome.PASSED, Outcome.FAILED, Outcome.UNDECIDED
CLIPS = ("a",) * 21 + ("b",) * 19
FRAMES = len(CLIPS)
RULES = Rules(("car",), CLIPS, min_objects=30, margin=0.03, cpu_ratio_at_most=2.5)
Counts = NDArray[np.int64]
fewer = settings(max_examples=40)


@st.composite
def pairs(draw: st.DrawFn, least: int = 0) -> tuple[Counts, Counts]:
    """What two models showed, (frames, 3) each: of the same objects, at least so many in each frame."""
    objects = draw(st.lists(st.integers(least, 4), min_size=FRAMES, max_size=FRAMES))
    return _counts(draw, objects), _counts(draw, objects)


def _counts(draw: st.DrawFn, objects: list[int]) -> Counts:
    found = [draw(st.integers(0, most)) for most in objects]
    false = draw(st.lists(st.integers(0, 2), min_size=FRAMES, max_size=FRAMES))
    return np.array([found, false, np.subtract(objects, found)], np.int64).T


def constant(found: int, false: int, missed: int) -> Counts:
    """The same in every frame: no resample differs from another."""
    return np.tile(np.array([found, false, missed], np.int64), (FRAMES, 1))


def showing(counts: Counts, knows: bool = True, cpu_ns: int = 1_000_000) -> Showing:
    return Showing(counts[:, None], (knows,), np.full(FRAMES, cpu_ns, np.int64))


def verdict(live: Counts, candidate: Counts, rules: Rules = RULES) -> ClassVerdict:
    (judged,) = judge(rules, showing(live), showing(candidate), np.random.default_rng(7)).classes
    return judged


def interval(live: Counts, candidate: Counts, drawn: NDArray[np.int64]) -> tuple[float, float]:
    """Where objects lie in every block."""
    return difference_interval(live, candidate, drawn, FRAMES // BLOCK_FRAMES)


def weights(seed: int = 7) -> NDArray[np.int64]:
    return block_weights(CLIPS, np.random.default_rng(seed))


@given(pairs())
@fewer
def test_a_model_is_never_worse_than_itself(both: tuple[Counts, Counts]) -> None:
    judged = verdict(both[0], both[0])
    assert judged.outcome is not FAILED
    assert (judged.low, judged.difference, judged.high) == (0.0, 0.0, 0.0)


@given(pairs(least=1))
@fewer
def test_a_model_with_objects_enough_passes_against_itself(both: tuple[Counts, Counts]) -> None:
    assert verdict(both[0], both[0]).outcome is PASSED


@given(pairs(least=1))
@fewer
def test_a_model_that_finds_none_where_the_live_one_finds_some_fails(both: tuple[Counts, Counts]) -> None:
    live, mute = both[0], both[1].copy()
    mute[:, 0], mute[:, 2] = 0, live[:, 0] + live[:, 2]
    judged = verdict(live, mute)
    assert judged.outcome is (FAILED if live[:, 0].any() else PASSED)


@given(pairs())
@fewer
def test_swapping_the_two_mirrors_the_interval(both: tuple[Counts, Counts]) -> None:
    forth, back = verdict(*both), verdict(both[1], both[0])
    assert (forth.low, forth.high, forth.difference) == (-back.high, -back.low, -back.difference)


@given(pairs(least=1), st.integers(1, 3))
@fewer
def test_false_detections_never_raise_f1_nor_help_a_candidate(both: tuple[Counts, Counts], more: int) -> None:
    live, candidate = both
    noisy = candidate + np.array([0, more, 0])
    assert (f1(noisy) <= f1(candidate)).all()
    calm, loud = verdict(live, candidate), verdict(live, noisy)
    assert loud.low <= calm.low
    assert loud.high <= calm.high
    assert calm.outcome is PASSED or loud.outcome is not PASSED


@given(pairs(), st.integers(1, 2000))
@fewer
def test_too_few_objects_never_decide(both: tuple[Counts, Counts], more: int) -> None:
    objects = int(both[0][:, (0, 2)].sum())
    judged = verdict(*both, dataclasses.replace(RULES, min_objects=objects + more))
    assert judged.outcome is UNDECIDED
    assert (
        judged.words == f"car: {objects} objects in {judged.blocks} blocks of frames; {objects + more} in 8 are needed"
    )


def test_as_many_objects_as_demanded_are_enough() -> None:
    rules = dataclasses.replace(RULES, min_objects=FRAMES * 10)
    assert verdict(constant(8, 0, 2), constant(8, 0, 2), rules).outcome is PASSED


def test_many_objects_in_few_blocks_never_decide() -> None:
    for blocks, outcome in ((BLOCKS_AT_LEAST - 1, UNDECIDED), (BLOCKS_AT_LEAST, PASSED)):
        counts = constant(20, 0, 0)
        counts[blocks * BLOCK_FRAMES :] = 0
        rules = dataclasses.replace(RULES, clips=("a",) * FRAMES)
        judged = verdict(counts, counts, rules)
        assert (judged.blocks, judged.objects) == (blocks, 20 * BLOCK_FRAMES * blocks)
        assert judged.outcome is outcome


@pytest.mark.parametrize(
    ("live", "candidate", "outcome"),
    [
        ((100, 0, 0), (100, 0, 0), PASSED),
        ((60, 0, 40), (80, 0, 20), PASSED),
        ((100, 0, 0), (95, 0, 5), PASSED),  # F1 .974
        ((100, 0, 0), (94, 0, 6), FAILED),  # F1 .969
        ((100, 0, 0), (0, 0, 100), FAILED),
        ((0, 0, 100), (0, 50, 100), PASSED),
        ((0, 0, 100), (1, 0, 99), PASSED),
    ],
)
def test_without_doubt_the_margin_decides(
    live: tuple[int, int, int], candidate: tuple[int, int, int], outcome: Outcome
) -> None:
    assert verdict(constant(*live), constant(*candidate)).outcome is outcome


def test_finding_none_fails_even_within_the_margin() -> None:
    live, mute = constant(1, 0, 99), constant(0, 0, 100)
    judged = verdict(live, mute)
    assert judged.low >= -RULES.margin
    assert judged.outcome is FAILED
    assert judged.words.endswith("the candidate finds none")


def test_f1_by_hand() -> None:
    np.testing.assert_allclose(f1(np.array([[2, 1, 1], [0, 1, 0], [0, 0, 1], [0, 0, 0]])), [2 / 3, 0, 0, 1])


def test_an_interval_that_holds_both_answers_is_undecided_either_way_round() -> None:
    live, candidate = constant(8, 0, 2), constant(8, 0, 2)
    live[::7] = (2, 0, 8)
    candidate[3::7] = (2, 0, 8)
    for judged in (verdict(live, candidate), verdict(candidate, live)):
        assert judged.low < -RULES.margin < judged.high
        assert judged.outcome is UNDECIDED


def test_a_doubt_within_the_margin_is_a_doubt() -> None:
    live, candidate = constant(80, 0, 20), constant(80, 0, 20)
    candidate[3::7] = (40, 0, 60)
    judged = verdict(live, candidate)
    assert judged.low < -RULES.margin < judged.high < RULES.margin
    assert judged.outcome is UNDECIDED


def test_without_a_margin_a_model_is_still_not_worse_than_itself() -> None:
    rules = dataclasses.replace(RULES, margin=0.0)
    assert verdict(constant(8, 1, 2), constant(8, 1, 2), rules).outcome is PASSED


def test_both_models_are_drawn_together() -> None:
    """Frames differ widely, the models by one object in each: apart, the interval would be as wide as the frames'."""
    rng = np.random.default_rng(3)
    found = rng.integers(2, 40, FRAMES)
    live = np.stack([found, np.zeros(FRAMES, np.int64), 50 - found], axis=1)
    candidate = live + np.array([-1, 0, 1])
    together = interval(live, candidate, weights())
    apart = f1(weights(1) @ candidate) - f1(weights(2) @ live)
    assert together[1] - together[0] < 0.1 * (apart.max() - apart.min())


def test_faults_in_neighbouring_frames_widen_the_interval() -> None:
    whole, faults = constant(4, 0, 0), np.zeros(FRAMES, np.bool_)
    faults[np.random.default_rng(5).permutation(FRAMES)[:10]] = True
    spread, clustered = whole.copy(), whole.copy()
    spread[faults] = clustered[np.sort(faults)] = (0, 0, 4)
    widths = [high - low for low, high in (interval(whole, it, weights()) for it in (spread, clustered))]
    assert widths[1] > 1.4 * widths[0] > 0


def test_as_many_frames_are_drawn_as_there_are_and_every_one_has_its_chance() -> None:
    clips = ("a",) * 21 + ("b",) * 3 + ("c",) * 16
    drawn = block_weights(clips, np.random.default_rng(7))
    assert drawn.shape == (RESAMPLES, len(clips))
    assert (drawn.sum(axis=1) == len(clips)).all()
    # One is expected of each; the mean of 2,000 strays by .03 or so, and neither a clip's ends nor a clip that is
    # shorter than a block are an exception.
    np.testing.assert_allclose(drawn.mean(axis=0), 1.0, atol=0.16)


def test_neighbours_of_two_clips_are_not_drawn_together() -> None:
    drawn = block_weights(("a",) * 20 + ("b",) * 20, np.random.default_rng(7))
    within, across = (np.corrcoef(drawn[:, 19], drawn[:, other])[0, 1] for other in (18, 20))
    assert within > 0.5 > 0.2 > across


@pytest.mark.parametrize("clip_frames", [1, 2, 4, 8, 40])
def test_many_short_clips_make_nobody_surer_than_a_long_one(clip_frames: int) -> None:
    clips = tuple(f"clip {index // clip_frames}" for index in range(FRAMES))
    rng = np.random.default_rng(5)
    live, candidate = (np.stack([found, 0 * found, 6 - found], axis=1) for found in rng.binomial(6, 0.6, (2, FRAMES)))
    low, high = interval(live, candidate, block_weights(clips, np.random.default_rng(7)))
    assert high - low > 0.8 * np.subtract(*interval(live, candidate, weights())[::-1])


@pytest.mark.parametrize(("blocks", "t"), [(8, 2.3646), (16, 2.1314), (121, 1.9799)])
def test_the_interval_is_as_wide_as_students_t_makes_it(blocks: int, t: float) -> None:
    """Of the table of t for 97.5 %, by blocks less one; and by the root of n / (n - 1), as a sample's own spread is."""
    wide = t * (blocks / (blocks - 1)) ** 0.5
    assert -NormalDist().inv_cdf(expanded_tail(blocks)) == pytest.approx(wide, abs=0.01)


@given(st.integers(0, 500))
def test_fewer_blocks_are_never_surer(blocks: int) -> None:
    assert 0.0 <= expanded_tail(blocks) <= expanded_tail(blocks + 1) < TAIL


def test_neighbours_are_drawn_together() -> None:
    drawn = weights()
    near, far = (np.corrcoef(drawn[:, 5], drawn[:, other])[0, 1] for other in (6, 14))
    assert near > 0.5 > 0.2 > far


def test_the_same_seed_gives_the_same_verdict() -> None:
    live, candidate = constant(8, 1, 2), constant(8, 0, 2)
    live[::7] = (2, 0, 8)
    assert verdict(live, candidate) == verdict(live, candidate)


def test_a_candidate_worse_by_the_margin_seldom_passes() -> None:
    """The promise of the interval: 2.5 % of candidates just that much worse. Of 300 that is 7, and 15 in one of 200
    such tests."""
    passed = 0
    drawn = weights()
    for seed in range(300):
        rng = np.random.default_rng(seed)
        # F1 of .750 and .718, of six objects a frame.
        live, candidate = (rng.binomial(6, chance, FRAMES) for chance in (0.60, 0.56))
        nothing = np.zeros(FRAMES, np.int64)
        before, after = (np.stack([found, nothing, 6 - found], axis=1) for found in (live, candidate))
        low, _ = interval(before, after, drawn)
        passed += low >= -0.032
    assert passed <= 15


# --- classes that a model doesn't know --------------------------------------------------------------


@pytest.mark.parametrize(
    ("live_knows", "candidate_knows", "outcome", "words"),
    [
        (True, True, PASSED, "not worse"),
        (True, False, FAILED, "the candidate doesn't know this class"),
        (False, True, PASSED, "the live model doesn't know this class"),
        (False, False, UNDECIDED, "neither model knows this class"),
    ],
)
def test_a_class_that_a_model_doesnt_know(
    live_knows: bool, candidate_knows: bool, outcome: Outcome, words: str
) -> None:
    sighted, blind = constant(8, 0, 2), constant(0, 0, 10)
    live, candidate = (showing(sighted if knows else blind, knows=knows) for knows in (live_knows, candidate_knows))
    (judged,) = judge(RULES, live, candidate, np.random.default_rng(7)).classes
    assert judged.outcome is outcome
    assert words in judged.words
    assert ((judged.live is not None), (judged.candidate is not None)) == (live_knows, candidate_knows)


def test_a_candidate_that_finds_none_of_what_the_live_model_doesnt_know_is_no_worse() -> None:
    blind = constant(0, 0, 10)
    (judged,) = judge(RULES, showing(blind, knows=False), showing(blind), np.random.default_rng(7)).classes
    assert judged.outcome is PASSED
    assert "F1 0.00 -> 0.00" in judged.words


# --- CPU time ----------------------------------------------------------------------------------------


def spent(*ratios: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    live = np.full(len(ratios), 1_000_000, np.int64)
    return live, (live * np.array(ratios)).astype(np.int64)


def test_the_ratio_decides_when_all_its_interval_does() -> None:
    assert speed_verdict(*spent(*[2.5] * 20), 2.5).outcome is PASSED
    slow = speed_verdict(*spent(*[3.9] * 20), 2.5)
    assert (slow.outcome, slow.words) == (FAILED, "too slow: 3.9 times the live model's CPU time, at most 2.5")
    assert speed_verdict(*spent(*[2.0, 3.0] * 10), 2.5).outcome is UNDECIDED


@pytest.mark.parametrize("slower", [9, 11])
def test_a_median_beyond_the_limit_or_within_it_proves_nothing_while_the_interval_straddles(slower: int) -> None:
    judged = speed_verdict(*spent(*[3.0] * slower, *[2.0] * (20 - slower)), 2.5)
    assert (judged.ratio, judged.outcome) == (3.0 if slower == 11 else 2.0, UNDECIDED)


def test_a_clock_that_saw_nothing_of_the_live_model_gives_finite_numbers() -> None:
    judged = speed_verdict(np.zeros(20, np.int64), np.full(20, 1_000_000), 2.5)
    assert judged.outcome is FAILED
    assert np.isfinite([judged.low, judged.ratio, judged.high]).all()


def test_a_few_slow_frames_prove_nothing() -> None:
    assert speed_verdict(*spent(*[1.0] * 15, *[50.0] * 5), 2.5).outcome is PASSED


def test_frames_of_different_cost_are_compared_pair_by_pair() -> None:
    live = np.array([1, 100] * 10, np.int64) * 1_000_000
    assert speed_verdict(live, 2 * live, 2.5).low == speed_verdict(live, 2 * live, 2.5).high == 2.0


@pytest.mark.parametrize(("count", "k"), [(1, 1), (5, 1), (6, 1), (9, 2), (12, 3), (20, 6), (64, 24)])
def test_the_medians_interval_is_the_tables(count: int, k: int) -> None:
    """Of the sign test's critical values for 5 %, two-sided."""
    assert median_interval(np.arange(1.0, count + 1)) == (k, count + 1 - k)


# --- the whole ---------------------------------------------------------------------------------------


def test_a_failure_in_one_part_is_failure_and_a_doubt_in_one_is_doubt() -> None:
    assert worst([PASSED, UNDECIDED, FAILED]) is FAILED
    assert worst([PASSED, UNDECIDED]) is UNDECIDED
    assert worst([PASSED, PASSED]) is PASSED


def test_classes_are_judged_apart_and_the_speed_beside_them() -> None:
    rules = dataclasses.replace(RULES, labels=("car", "person"))
    good, bad = constant(9, 0, 1), constant(5, 0, 5)
    before = Showing(np.stack([good, good], axis=1), (True, True), np.full(FRAMES, 1_000_000))
    after = Showing(np.stack([good, bad], axis=1), (True, True), np.full(FRAMES, 1_000_000))
    judged = judge(rules, before, after, np.random.default_rng(7))
    assert [it.outcome for it in judged.classes] == [PASSED, FAILED]
    assert judged.outcome is FAILED
    assert judge(rules, after, before, np.random.default_rng(7)).outcome is PASSED
    slow = dataclasses.replace(before, cpu_ns=3 * before.cpu_ns)
    assert judge(rules, before, slow, np.random.default_rng(7)).outcome is FAILED
    assert "person: F1 0.95 -> 0.67" in judged.words
    assert "too slow" in judge(rules, before, slow, np.random.default_rng(7)).words


@given(pairs())
@fewer
def test_a_verdict_travels_whole(both: tuple[Counts, Counts]) -> None:
    judged = judge(RULES, showing(both[0]), showing(both[1]), np.random.default_rng(7))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(judged), type=Verdict) == judged
    assert msgspec.json.decode(msgspec.json.encode(judged), type=Verdict) == judged


def test_blocks_end_with_their_clip() -> None:
    present = np.zeros(10, np.bool_)
    present[[3, 4]] = True
    assert blocks_with(("a",) * 10, present, block=4) == 2
    assert blocks_with(("a",) * 3 + ("b",) * 7, present, block=4) == 1
