"""Laws of the bound on a rate and of what is trusted by it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.recall import trusted_from, wilson_low

rates = st.integers(1, 2000).flatmap(lambda of: st.tuples(st.integers(0, of), st.just(of)))


@pytest.mark.parametrize(
    ("found", "of", "low"),
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3; and the closed form n / (n + z²) of a whole rate.
    [(81, 263, 0.2553), (15, 148, 0.0624), (0, 20, 0.0), (1, 29, 0.0061), (29, 29, 0.8830), (240, 240, 0.9842)],
)
def test_the_bound_is_the_published_one(found: int, of: int, low: float) -> None:
    assert wilson_low(found, of) == pytest.approx(low, abs=5e-5)


@given(rates)
def test_the_bound_is_never_above_the_rate_nor_below_nothing(rate: tuple[int, int]) -> None:
    found, of = rate
    assert 0.0 <= wilson_low(found, of) <= found / of
    assert wilson_low(of, of) < 1.0


@given(rates)
def test_more_found_or_more_seen_makes_surer(rate: tuple[int, int]) -> None:
    found, of = rate
    assert wilson_low(found + 1, of + 1) > wilson_low(found, of)
    assert wilson_low(10 * found, 10 * of) >= wilson_low(found, of)


@pytest.mark.parametrize(("found", "of"), [(1, 0), (0, 0), (-1, 5), (6, 5)])
def test_what_is_no_rate_has_no_bound(found: int, of: int) -> None:
    with pytest.raises(ValueError, match="is no rate"):
        wilson_low(found, of)


@given(st.dictionaries(st.integers(1, 100), st.floats(0, 1), min_size=1), st.floats(0, 1))
def test_from_the_trusted_size_on_every_size_reaches_the_bar_and_the_next_below_doesnt(
    lows: dict[int, float], bar: float
) -> None:
    trusted = trusted_from(lows.items(), bar)
    least = max(lows) + 1 if trusted is None else trusted
    assert all(low >= bar for size, low in lows.items() if size >= least)
    below = [size for size in lows if size < least]
    assert not below or lows[max(below)] < bar


def test_one_size_that_fails_takes_the_smaller_ones_along() -> None:
    assert trusted_from([(12, 0.99), (16, 0.90), (20, 0.96), (24, 0.97)], 0.95) == 20
    assert trusted_from([(12, 0.99), (16, 0.90)], 0.95) is None
