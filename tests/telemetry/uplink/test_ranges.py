from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from telemetry.uplink.ranges import Range, size, without

ranges = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 6)), max_size=4).map(
    lambda pairs: [(low, low + length) for low, length in pairs]
)


def members(some: list[Range]) -> list[int]:
    return [number for low, high in some for number in range(low, high)]


@given(ranges, st.integers(0, 40), st.integers(1, 10))
def test_without_is_the_difference_of_sets(some: list[Range], start: int, length: int) -> None:
    left = list(without(some, start, start + length))
    assert members(left) == [n for n in members(some) if not start <= n < start + length]
    assert size(left) == len(members(left))
