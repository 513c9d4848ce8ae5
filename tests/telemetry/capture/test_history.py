from __future__ import annotations

import itertools
import math
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry.capture.expressions import parse
from telemetry.capture.history import History, Keep, sample_ring_bytes
from telemetry.capture.samplering import SampleRing
from telemetry.signals.schema import Columns, Form, Group, Schema, SignalSpec
from tests.telemetry.capture.expressiongen import MILLISECOND_NS, PATHS, SCHEMA, SILENT, Grower, scene
from tests.telemetry.capture.reference import Past, _sum

SECOND_NS = 1000 * MILLISECOND_NS
ONE = Schema((Group("one", (SignalSpec("x"),)), Group("other", (SignalSpec("y", Form.INT, 0.5, 1.0),))))
PLENTY = Keep(4096, 500 * MILLISECOND_NS)


def columns(*samples: tuple[int, float], group: int = 0) -> Columns:
    """Samples by milliseconds."""
    stamps = np.array([ms * MILLISECOND_NS for ms, _ in samples], np.int64)
    told = [value for _, value in samples]
    return Columns(group, stamps, (np.array(told) if group == 0 else np.array(told, np.int64),))


def history(*samples: tuple[int, float], keep: Keep = PLENTY) -> History:
    made = History(ONE, {"x": keep, "y": keep})
    if samples:
        made.put([columns(*samples)])
    return made


def asked(text: str, of: History, *at_ms: float) -> list[bool | float | None]:
    """What it says at these instants, one by one and at once."""
    condition = parse(text)
    instants = [round(ms * MILLISECOND_NS) for ms in at_ms]
    one_by_one = [condition.at(of, t_ns) for t_ns in instants]
    at_once = condition.over(of, np.array(instants, np.int64)).tolist()
    words: dict[float, bool | float | None] = {1: True, 0: False, -1: None}
    truth = condition.kind == "truth"
    assert one_by_one == [words[each] if truth else None if math.isnan(each) else each for each in at_once]
    return one_by_one


def test_a_value_holds_until_the_next_one_and_not_a_nanosecond_beyond_its_limit() -> None:
    of = history((0, 1.0), (100, 2.0))
    assert asked("x", of, -1, 0, 99.999999, 100, 600, 600.000001) == [None, 1.0, 1.0, 2.0, 2.0, None]
    assert asked("age(x)", of, -1, 0, 50, 100, 5100) == [None, 0.0, 50.0, 0.0, 5000.0]


def test_of_two_groups_at_one_instant_the_first_counts_whichever_is_put_first() -> None:
    both = Schema((Group("one", (SignalSpec("x"),)), Group("other", (SignalSpec("x"),))))
    for order in (1, -1):
        of = History(both, {"x": PLENTY})
        told = [Columns(group, np.array([5]), (np.array([value]),)) for group, value in ((0, 1.0), (1, 2.0))]
        of.put(told[::order])
        assert (parse("x").at(of, 5), of.dropped) == (1.0, 1)


def test_a_value_that_the_vehicle_does_not_know_is_missing_whatever_was_before() -> None:
    for unknown in (math.nan, math.inf, -math.inf):
        of = history((0, 1.0), (100, unknown), (200, 3.0))
        assert asked("x", of, 50, 100, 150, 200) == [1.0, None, None, 3.0]
        assert asked("age(x)", of, 50, 150, 250) == [50.0, None, 50.0]
        assert asked("count(x, 1000)", of, 250) == [2.0]
        assert asked("avg(x, 1000)", of, 150, 250) == [1.0, 2.0]


def test_a_window_begins_behind_its_first_instant_and_ends_with_its_last() -> None:
    of = history((0, 4.0), (100, 1.0), (200, 7.0))
    assert asked("avg(x, 100)", of, 100, 199, 200, 300) == [1.0, 1.0, 7.0, None]
    assert asked("low(x, 200)", of, -1, 100, 199, 200) == [None, 1.0, 1.0, 1.0]
    assert asked("high(x, 201)", of, 0, 200) == [4.0, 7.0]
    assert asked("count(x, 100)", of, -5, 0, 100, 300) == [0.0, 1.0, 1.0, 0.0]
    assert asked("rate(x, 200)", of, 0, 100, 200) == [None, -30.0, 60.0]


def test_a_change_is_one_from_the_value_before_even_where_that_lies_outside() -> None:
    of = history((0, 1.0), (100, 1.0), (200, 2.0), (300, math.nan), (400, 2.0), (500, 3.0))
    assert asked("changed(x, 50)", of, 0, 100, 200, 249, 250) == [False, False, True, True, None]
    assert asked("changed(x, 50)", of, 300, 400, 500) == [None, False, True]


@pytest.mark.parametrize("count", [200, 5000])
def test_a_sum_is_cut_into_pieces_and_these_into_pieces_again(count: int) -> None:
    rng = Random(3)
    values = [rng.gauss(80, 30) for _ in range(count)]
    of = history(*enumerate(values), keep=Keep(count, 1))
    for instant, ms in ((count - 1, count), (count - 1, 70), (count - 5, count - 40), (150, 120), (130, 33), (64, 32)):
        past = Past(count, 1, [(index, value) for index, value in enumerate(values)])
        inside = list(range(instant - min(ms, instant + 1) + 1, instant + 1))
        assert asked(f"avg(x, {ms})", of, instant) == [_sum(past, inside) / len(inside)]
    plain = list(itertools.accumulate(values))[-1]
    assert asked(f"avg(x, {count})", of, count - 1) != [plain / count]


@given(st.integers(0, 10**6))
def test_no_cut_of_the_samples_into_batches_changes_what_is_said(seed: int) -> None:
    rng = Random(seed)
    there = scene(rng, batches=2)
    conditions = [parse(f"{Grower(rng).truth(2)} or gear == 3") for _ in range(3)]
    stamps = sorted({int(t) for batch in there.batches for part in batch for t in part.t_ns})
    whole = _told(conditions, [[part for batch in there.batches for part in batch]])
    cuts = sorted(rng.sample(stamps, min(3, len(stamps))))
    assert _told(conditions, _cut(there.batches, [*cuts, stamps[-1]])) == whole


def test_asking_before_every_group_of_an_instant_was_put_is_noticed() -> None:
    """The planted fault: a batch is told group by group, and conditions are asked in between."""
    differs = 0
    for seed in range(20):
        there = scene(Random(seed), batches=1)
        conditions = [parse("Vehicle.Speed > 10 and gear > 0 or a.b_1.C2 > 3")]
        differs += _told(conditions, [[part] for part in there.batches[0]]) != _told(conditions, there.batches)
    assert differs > 10


@given(st.integers(0, 10**6))
def test_what_is_dropped_and_what_is_an_instant_is_what_a_list_says(seed: int) -> None:
    there = scene(Random(seed))
    assert there.history.dropped == sum(past.dropped for past in there.pasts.values())
    told = {int(t_ns) for part in there.batches[-1] for t_ns in part.t_ns}
    taken = {t_ns for past in there.pasts.values() for t_ns, _ in past.samples}
    instants = there.history.instants(there.pasts).tolist()
    assert instants == sorted(instants)
    assert set(instants) <= told & taken


def _cut(batches: list[list[Columns]], cuts_ns: list[int]) -> list[list[Columns]]:
    parts, from_ns = [], -(1 << 62)
    for to_ns in cuts_ns:
        chosen = [_between(part, from_ns, to_ns) for batch in batches for part in batch]
        parts.append([part for part in chosen if len(part)])
        from_ns = to_ns
    return parts


def _between(part: Columns, from_ns: int, to_ns: int) -> Columns:
    mine = (part.t_ns > from_ns) & (part.t_ns <= to_ns)
    values: tuple[Any, ...] = tuple(None if column is None else column[mine] for column in part.values)
    return replace(part, t_ns=part.t_ns[mine], values=values)


def _told(conditions: list[Any], batches: list[list[Columns]]) -> list[list[tuple[int, int]]]:
    of = History(SCHEMA, dict.fromkeys((*PATHS, SILENT), PLENTY))
    told: list[list[tuple[int, int]]] = [[] for _ in conditions]
    for batch in batches:
        of.put(batch)
        for condition, said in zip(conditions, told, strict=True):
            instants = of.instants(condition.paths)
            said += zip(instants.tolist(), condition.over(of, instants).tolist(), strict=True)
    return told


def test_a_stamp_that_is_not_later_is_dropped_and_counted_and_is_no_instant() -> None:
    of = history((0, 1.0), (10, 2.0), (10, 3.0), (20, 4.0))
    of.put([columns((15, 9.0), (20, 9.0), (21, 5.0))])
    assert of.dropped == 3
    assert of.instants(["x"]).tolist() == [21 * MILLISECOND_NS]
    assert asked("x", of, 10, 20, 21) == [2.0, 4.0, 5.0]


def test_one_path_of_two_groups_is_one_signal() -> None:
    schema = Schema((Group("a", (SignalSpec("x"),)), Group("b", (SignalSpec("x"),))))
    of = History(schema, {"x": PLENTY})
    of.put([replace(columns((5, 1.0), (15, 3.0)), group=1), columns((0, 0.0), (10, 2.0), (15, 9.0))])
    assert asked("x", of, 0, 5, 10, 15) == [0.0, 1.0, 2.0, 9.0]
    assert of.dropped == 1


def test_the_instants_of_a_condition_are_those_of_its_paths_each_once() -> None:
    of = history()
    assert of.instants(["x", "y"]).tolist() == []
    of.put([columns((0, 1.0), (10, 1.0)), columns((5, 1), (10, 1), group=1)])
    assert of.instants(["x", "y"]).tolist() == [t * MILLISECOND_NS for t in (0, 5, 10)]
    assert of.instants(["y", "z"]).tolist() == [t * MILLISECOND_NS for t in (5, 10)]
    of.put([columns((20, 1.0))])
    assert of.instants(["y"]).tolist() == []


def test_values_are_in_the_signals_unit() -> None:
    of = history()
    of.put([columns((0, 7), group=1)])
    assert asked("y", of, 0) == [4.5]


def test_what_reaches_back_to_a_sample_that_was_forgotten_is_missing() -> None:
    keep = Keep(3, 10**12)
    of = history((0, 1.0), (10, 2.0), (20, 3.0), (30, 4.0), (40, 5.0), keep=keep)
    assert asked("x", of, 10, 19, 20, 40) == [None, None, 3.0, 5.0]
    assert asked("count(x, 29)", of, 40) == [3.0]
    assert asked("count(x, 30)", of, 40) == [3.0]
    assert asked("count(x, 31)", of, 40) == [None]
    assert asked("avg(x, 31)", of, 40) == [None]


@given(st.integers(1, 30), st.lists(st.integers(0, 70), max_size=12))
def test_a_ring_is_the_end_of_a_list(samples: int, batches: list[int]) -> None:
    ring, told = SampleRing(samples, SECOND_NS), list[int]()
    for size in batches:
        coming = np.arange(len(told), len(told) + size, dtype=np.int64)
        ring.put(coming, coming.astype(np.float64))
        told += coming.tolist()
        assert ring.t_ns.tolist() == told[-samples:]
        assert ring.values.tolist() == told[-samples:]
        assert ring.first == max(0, len(told) - samples)
        assert len(told) <= samples or ring.forgotten_ns == told[-samples - 1]


def test_memory_is_what_was_reckoned_and_stays_so() -> None:
    samples = 602
    of = history(keep=Keep(samples, SECOND_NS))
    before = _held_bytes(of)
    for batch in range(30):
        of.put([columns(*((batch * 1000 + ms, 1.0) for ms in range(0, 1000, 10)))])
    assert _held_bytes(of) == before == 2 * sample_ring_bytes(samples)


def _held_bytes(of: History) -> int:
    rings = of._rings.values()
    return sum(value.nbytes for ring in rings for value in vars(ring).values() if isinstance(value, np.ndarray))


def test_a_ring_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        SampleRing(0, SECOND_NS)


def test_a_condition_on_a_path_that_is_not_kept_is_a_bug_that_shows() -> None:
    of = history((0, 1.0))
    with pytest.raises(KeyError):
        parse("z > 1").at(of, 0)
    with pytest.raises(KeyError):
        parse("z > 1").over(of, np.array([0], np.int64))


def test_a_number_without_a_path_is_said_at_every_instant() -> None:
    assert asked("2 * 3", history(), 0, 1, 2) == [6.0, 6.0, 6.0]
    assert asked("1 / 0", history(), 0, 1) == [None, None]
    assert parse("x > 1").over(history(), np.empty(0, np.int64)).tolist() == []
    assert parse("low(x, 5) > avg(x, 5)").over(history(), np.empty(0, np.int64)).tolist() == []
