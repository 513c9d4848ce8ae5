"""What is sent is bounded, and what isn't sent is owed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from telemetry.federated.compression import clipped, compress, keep_largest
from telemetry.federated.payload import decode_delta

SIZE = 500
vectors = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).normal(0, 1, SIZE).astype(np.float32))


@given(delta=vectors, residual=vectors, keep=st.integers(1, SIZE), clip=st.floats(0.01, 100))
def test_sent_and_owed_are_together_what_was_learned_and_owed_before(
    delta: NDArray[np.float32], residual: NDArray[np.float32], keep: int, clip: float
) -> None:
    made = compress(delta, residual, keep, clip)
    sent = decode_delta(made.payload, SIZE, keep)
    assert sent.dense() + made.residual == pytest.approx(clipped(delta, clip) + residual, abs=1e-4)
    assert len(sent.indices) <= keep
    assert sent.norm <= clip * 1.01


@given(delta=vectors, keep=st.integers(1, SIZE))
def test_nothing_left_out_is_larger_than_what_was_kept(delta: NDArray[np.float32], keep: int) -> None:
    kept = keep_largest(delta, keep)
    left = np.delete(delta, kept.indices)
    assert len(kept.indices) == keep
    assert left.size == 0 or np.abs(left).max() <= np.abs(kept.values).min()


def test_of_equals_the_first_are_kept() -> None:
    assert keep_largest(np.array([1, -1, 1, 1], np.float32), 2).indices.tolist() == [0, 1]


@given(delta=vectors, most=st.floats(0.01, 100))
def test_clipping_shortens_and_never_turns(delta: NDArray[np.float32], most: float) -> None:
    short = clipped(delta, most)
    norm = float(np.linalg.norm(delta))
    assert np.linalg.norm(short) == pytest.approx(min(norm, most), rel=1e-5)
    assert short / np.linalg.norm(short) == pytest.approx(delta / norm, abs=1e-5)


def test_what_is_owed_is_sent_in_the_end() -> None:
    """Nothing new is learned; a tenth of it goes with each update."""
    learned = np.random.default_rng(1).normal(0, 1, SIZE).astype(np.float32)
    residual, arrived = learned, np.zeros(SIZE, np.float32)
    for _ in range(12):
        made = compress(np.zeros(SIZE, np.float32), residual, SIZE // 10, 1000.0)
        residual = made.residual
        arrived += decode_delta(made.payload, SIZE, SIZE // 10).dense()
    assert arrived == pytest.approx(learned, abs=0.02)


def test_no_change_at_all_is_a_change_of_nothing() -> None:
    zero = np.zeros(SIZE, np.float32)
    made = compress(zero, zero, 3, 1.0)
    assert not decode_delta(made.payload, SIZE, 3).values.any()
    assert not made.residual.any()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_isnt_finite_never_leaves_and_spoils_nothing_owed(bad: float) -> None:
    delta = np.zeros(SIZE, np.float32)
    delta[3] = bad
    with pytest.raises(ValueError, match="isn't finite"):
        compress(delta, np.zeros(SIZE, np.float32), 5, 1.0)
