"""The interval of a paired difference: the published examples, and what any such interval must do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from inference.paired import paired_difference

counts = st.tuples(*[st.integers(0, 40)] * 4).filter(lambda four: sum(four) > 0)


def pairs(both: int, only_first: int, only_second: int, none: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    four = [both, only_first, only_second, none]
    return np.repeat([True, True, False, False], four), np.repeat([True, False, True, False], four)


def test_the_interval_is_newcombes() -> None:
    """Of his first less his second (1998, table III, method 10): the second less the first here, swapped."""
    second, first = pairs(36, 12, 2, 0)
    found = paired_difference(first, second)
    assert found.value == pytest.approx(0.2)
    assert (round(found.low, 4), round(found.high, 4)) == (0.0569, 0.3404)


@given(counts)
def test_swapping_negates_and_swaps(four: tuple[int, int, int, int]) -> None:
    first, second = pairs(*four)
    there, back = paired_difference(first, second), paired_difference(second, first)
    assert (back.value, back.low, back.high) == pytest.approx((-there.value, -there.high, -there.low))


@given(counts)
def test_the_difference_lies_within_and_nothing_beyond_what_can_be(four: tuple[int, int, int, int]) -> None:
    found = paired_difference(*pairs(*four))
    assert -1 - 1e-9 <= found.low <= found.value <= found.high <= 1 + 1e-9


@given(counts)
def test_two_that_never_differ_arent_certain(four: tuple[int, int, int, int]) -> None:
    first, _ = pairs(*four)
    found = paired_difference(first, first)
    assert found.value == 0
    assert found.low < 0 < found.high
