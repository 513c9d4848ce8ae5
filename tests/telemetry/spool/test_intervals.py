"""Laws of IntervalSet, against a plain set of numbers."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from telemetry.spool.intervals import IntervalSet

RANGE = st.tuples(st.integers(0, 60), st.integers(0, 9)).map(lambda pair: (pair[0], sum(pair)))
RANGES = st.lists(RANGE, max_size=12)


def numbers(ranges: list[tuple[int, int]]) -> set[int]:
    return {n for start, end in ranges for n in range(start, end)}


@given(RANGES)
def test_ranges_are_ordered_disjoint_and_never_touch(ranges: list[tuple[int, int]]) -> None:
    kept = list(IntervalSet(ranges))
    assert all(start < end for start, end in kept)
    assert all(end < start for (_, end), (start, _) in itertools.pairwise(kept))
    assert numbers(kept) == numbers(ranges)


@given(RANGES, RANGE)
def test_adding_tells_how_many_are_new(ranges: list[tuple[int, int]], more: tuple[int, int]) -> None:
    before, after = numbers(ranges), numbers([*ranges, more])
    assert IntervalSet(ranges).add(*more) == len(after - before)


@given(RANGES, RANGE)
def test_what_is_within_and_what_is_missing_make_up_the_whole(
    ranges: list[tuple[int, int]], asked: tuple[int, int]
) -> None:
    kept, wanted = IntervalSet(ranges), numbers([asked])
    inside, outside = numbers(list(kept.within(*asked))), numbers(list(kept.gaps(*asked)))
    assert inside == numbers(ranges) & wanted
    assert outside == wanted - numbers(ranges)
    assert kept.count(*asked) == len(inside)
    assert kept.covers(*asked) == (wanted <= numbers(ranges))
    assert kept.touches(*asked) == bool(wanted & numbers(ranges))


@given(RANGES, st.data())
def test_the_order_of_adding_makes_no_difference(ranges: list[tuple[int, int]], data: st.DataObject) -> None:
    assert list(IntervalSet(data.draw(st.permutations(ranges)))) == list(IntervalSet(ranges))


def test_a_copy_goes_its_own_way() -> None:
    kept = IntervalSet([(0, 3)])
    kept.copy().add(5, 8)
    assert list(kept) == [(0, 3)]
