"""Laws of IntervalSet, against a plain set of numbers."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.intervals import IntervalSet

ranges = st.tuples(st.integers(0, 40), st.integers(1, 8)).map(lambda r: (r[0], r[0] + r[1]))


def numbers(intervals: list[tuple[int, int]]) -> set[int]:
    return {n for start, end in intervals for n in range(start, end)}


@given(st.lists(ranges, max_size=30), ranges)
def test_it_answers_as_the_set_of_its_numbers_would(added: list[tuple[int, int]], asked: tuple[int, int]) -> None:
    intervals, plain = IntervalSet(added), numbers(added)
    wanted = numbers([asked])
    assert intervals.covers(*asked) == (wanted <= plain)
    assert intervals.touches(*asked) == bool(wanted & plain)
    assert len(intervals) == len(plain)
    assert numbers(list(intervals.ranges)) == plain


@given(st.lists(ranges, max_size=30))
def test_its_ranges_are_ascending_and_never_touch(added: list[tuple[int, int]]) -> None:
    found = IntervalSet(added).ranges
    assert all(start < end for start, end in found)
    assert all(a[1] < b[0] for a, b in itertools.pairwise(found))


@given(st.lists(ranges, max_size=12), st.data())
def test_the_order_of_adding_makes_no_difference(added: list[tuple[int, int]], data: st.DataObject) -> None:
    assert IntervalSet(data.draw(st.permutations(added))).ranges == IntervalSet(added).ranges


@pytest.mark.parametrize("empty", [(3, 3), (4, 3)])
def test_an_empty_range_is_a_bug_of_its_caller(empty: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="no range"):
        IntervalSet([empty])
