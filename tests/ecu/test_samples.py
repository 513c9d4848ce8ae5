"""All samples have one total order, whatever order they came in and however they were split (law 7)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecu.samples import Order, Sample

CHANNELS = ("can", "imu", "front")
ORDER = Order(CHANNELS)

samples = st.builds(
    Sample,
    channel=st.sampled_from(CHANNELS),
    t_ns=st.integers(0, 5),
    seq=st.integers(0, 5),
    payload=st.integers(0, 3),
)
# A channel counts its samples, so no two have the same place.
distinct = st.lists(samples, unique_by=ORDER.key, max_size=20)


@given(distinct, st.randoms(use_true_random=False))
def test_the_order_does_not_depend_on_the_order_of_arrival(some: list[Sample[int]], chance: Random) -> None:
    shuffled = list(some)
    chance.shuffle(shuffled)
    assert ORDER.sort(shuffled) == ORDER.sort(some)


@given(distinct)
def test_time_decides_first_then_the_channel_named_earlier_then_its_count(some: list[Sample[int]]) -> None:
    ordered = ORDER.sort(some)
    for a, b in pairwise(ordered):
        assert a.t_ns <= b.t_ns
        if a.t_ns == b.t_ns:
            assert CHANNELS.index(a.channel) <= CHANNELS.index(b.channel)
            if a.channel == b.channel:
                assert a.seq < b.seq


@given(samples, samples, samples)
def test_any_two_places_compare_and_comparing_is_transitive(a: Sample[int], b: Sample[int], c: Sample[int]) -> None:
    ka, kb, kc = ORDER.key(a), ORDER.key(b), ORDER.key(c)
    assert (ka < kb) + (kb < ka) + (ka == kb) == 1
    assert not (ka <= kb <= kc) or ka <= kc


@given(distinct, st.lists(st.integers(0, 3), min_size=20, max_size=20))
def test_merging_sources_gives_the_order_of_all(some: list[Sample[int]], sources: list[int]) -> None:
    parts = [[s for s, source in zip(ORDER.sort(some), sources, strict=False) if source == n] for n in range(4)]
    assert list(ORDER.merge(*parts)) == ORDER.sort(some)


def test_merging_looks_no_further_ahead_than_one_sample_a_source() -> None:
    taken = []

    def source(channel: str) -> Iterator[Sample[int]]:
        for t_ns in range(100):
            taken.append((channel, t_ns))
            yield Sample(channel, t_ns, t_ns, 0)

    merged = ORDER.merge(source("can"), source("imu"))
    assert [next(merged).t_ns for _ in range(4)] == [0, 0, 1, 1]
    assert len(taken) <= 6


def test_the_ranks_are_the_names_as_given() -> None:
    front_first = Order(("front", "can"))
    a, b = Sample("can", 1, 0, None), Sample("front", 1, 9, None)
    assert front_first.sort([a, b]) == [b, a]
    assert ORDER.sort([b, a]) == [a, b]


def test_an_unknown_channel_has_no_place() -> None:
    with pytest.raises(KeyError):
        ORDER.key(Sample("rear", 0, 0, None))


def test_a_channel_has_one_rank() -> None:
    with pytest.raises(ValueError, match="twice"):
        Order(("can", "imu", "can"))
