from __future__ import annotations

import math
from types import MappingProxyType

from hypothesis import given
from hypothesis import strategies as st

from telemetry.signals import Reading, SignalState, Validity, vss
from telemetry.signals.state import STALE_AFTER_DEFAULT_NS, STALE_AFTER_NS

paths = st.sampled_from([vss.SPEED, vss.LONGITUDINAL, vss.LATITUDE, "Vehicle.Cabin.Seat"])
stamps = st.integers(0, 10**12)
numbers = st.floats(allow_nan=True, allow_infinity=True)


@given(st.lists(st.tuples(stamps, st.dictionaries(paths, numbers))), stamps)
def test_the_newest_value_of_each_path_is_held_whatever_the_order(
    puts: list[tuple[int, dict[str, float]]], now_ns: int
) -> None:
    state = SignalState()
    for t_ns, values in puts:
        state.put(t_ns, values)
    for path in {path for _, values in puts for path in values}:
        newest = max(t_ns for t_ns, values in puts if path in values)
        latest = [values[path] for t_ns, values in puts if path in values and t_ns == newest][-1]
        assert state.reading(path) == (Reading(latest, newest) if math.isfinite(latest) else None)


@given(paths, stamps, st.integers(0, 10 * STALE_AFTER_DEFAULT_NS))
def test_a_value_is_believed_until_its_own_age_and_not_a_nanosecond_longer(path: str, t_ns: int, age_ns: int) -> None:
    state = SignalState()
    state.put(t_ns, {path: 1.0})
    fresh = age_ns <= STALE_AFTER_NS.get(path, STALE_AFTER_DEFAULT_NS)
    now_ns = t_ns + age_ns
    assert state.validity(path, now_ns) is (Validity.FRESH if fresh else Validity.STALE)
    assert state.value(path, now_ns) == (1.0 if fresh else None)
    assert state.fresh(now_ns) == ({path: 1.0} if fresh else {})
    assert state.age_ns(path, now_ns) == age_ns


def test_what_was_never_told_or_is_not_known_any_more_is_missing() -> None:
    state = SignalState()
    assert state.validity(vss.SPEED, 0) is Validity.MISSING
    state.put(1, {vss.SPEED: 50.0})
    state.put(2, {vss.SPEED: math.nan})
    assert state.validity(vss.SPEED, 2) is Validity.MISSING
    assert state.value(vss.SPEED, 2) is None
    assert state.age_ns(vss.SPEED, 2) is None
    assert state.fresh(2) == {}


def test_a_chatty_source_cannot_fill_the_memory() -> None:
    state = SignalState(MappingProxyType({}), max_signals=10)
    for number in range(25):
        state.put(number, {f"Vehicle.Number{number}": 1.0, "Vehicle.Number0": float(number)})
    assert len(state.fresh(25)) == 10
    assert state.value("Vehicle.Number0", 25) == 24.0
    assert state.ignored == 15
