"""Last values of columns: age, validity, and what time does to them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecu.clock import MILLISECOND_NS, SECOND_NS, SteppingClock
from telemetry.signals.schema import Columns, Form, Group, Schema, SignalSpec
from telemetry.signals.state import SignalState, Validity
from telemetry.signals.values import LastValues, stale_after_ns

FAST = Group("FAST", (SignalSpec("A.Int", Form.INT, 0.5, -1.0), SignalSpec("A.Float")), 20_000)
UNKNOWN = Group("UNKNOWN", (SignalSpec("B.Big", Form.UINT), SignalSpec("A.Shared")))
SLOW = Group("SLOW", (SignalSpec("C.Slow", Form.INT), SignalSpec("A.Shared")), 60_000_000)
SCHEMA = Schema((FAST, UNKNOWN, SLOW))


def columns(group: int, t_ns: int, *values: float | None) -> Columns:
    kinds = [spec.form.dtype for spec in SCHEMA.groups[group].signals]
    arrays = [None if v is None else np.array([0, v], kind) for v, kind in zip(values, kinds, strict=True)]
    return Columns(group, np.array([t_ns - 1, t_ns], np.int64), tuple(arrays))


def test_the_last_row_counts_in_its_unit() -> None:
    values = LastValues(SCHEMA)
    values.put(columns(0, 1000, 10, 2.5), 1000)
    assert (values.value("A.Int", 1000), values.value("A.Float", 1000)) == (4.0, 2.5)
    assert values.fresh(1000) == {"A.Float": 2.5, "A.Int": 4.0}
    assert values.age_ns("A.Int", 1500) == 500


@pytest.mark.parametrize(
    ("period_us", "limit_ms"), [(1000, 100), (50_000, 150), (1_000_000, 3000), (60_000_000, 10_000), (None, 1000)]
)
def test_a_value_is_stale_after_three_periods_within_bounds(period_us: int | None, limit_ms: int) -> None:
    assert stale_after_ns(period_us) == limit_ms * MILLISECOND_NS


def test_a_path_may_have_an_age_of_its_own() -> None:
    values = LastValues(SCHEMA, {"A.Int": 7, "Not.There": 3})
    values.put(columns(0, 100, 1, 1.0), 100)
    assert [values.validity("A.Int", now) for now in (107, 108)] == [Validity.FRESH, Validity.STALE]
    assert values.validity("A.Float", 108) is Validity.FRESH


def test_nothing_is_missing_and_so_is_what_the_source_doesnt_know() -> None:
    values = LastValues(SCHEMA)
    assert values.validity("A.Float", 0) is values.validity("No.Such", 0) is Validity.MISSING
    values.put(columns(0, 5, 1, 1.0), 5)
    values.put(columns(0, 6, 1, math.nan), 6)
    assert values.validity("A.Float", 6) is Validity.MISSING
    assert values.value("A.Float", 6) is values.age_ns("A.Float", 6) is values.last("A.Float") is None


def test_a_signal_that_isnt_told_keeps_its_own_age() -> None:
    values = LastValues(SCHEMA)
    values.put(columns(0, 100, 1, 1.0), 100)
    values.put(columns(0, 300, None, 2.0), 300)
    assert (values.age_ns("A.Int", 300), values.age_ns("A.Float", 300)) == (200, 0)


def test_the_newest_of_several_groups_counts() -> None:
    values = LastValues(SCHEMA)
    values.put(columns(2, 500, 1, 5.0), 500)
    values.put(columns(1, 400, 1, 4.0), 500)
    assert values.value("A.Shared", 500) == 5.0
    values.put(columns(1, 600, 1, 6.0), 600)
    assert values.value("A.Shared", 600) == 6.0


def test_an_older_value_changes_nothing() -> None:
    values = LastValues(SCHEMA)
    values.put(columns(0, 300, 3, 3.0), 300)
    values.put(columns(0, 200, 2, 2.0), 300)
    assert values.value("A.Float", 300) == 3.0


def test_after_a_suspend_everything_is_stale_until_it_comes_again() -> None:
    clock = SteppingClock(boot_ns=SECOND_NS)
    values = LastValues(SCHEMA)
    for group in range(3):
        values.put(columns(group, clock.boot_ns(), 1, 1.0), clock.boot_ns())
    clock.advance(clock.boot_ns() + 30 * 86_400 * SECOND_NS)
    assert values.fresh(clock.boot_ns()) == {}
    assert values.last("A.Float") == 1.0
    values.put(columns(0, clock.boot_ns(), 1, 7.0), clock.boot_ns())
    assert set(values.fresh(clock.boot_ns())) == {"A.Int", "A.Float"}


def test_what_is_stamped_ahead_is_counted_and_makes_no_true_value_late() -> None:
    values = LastValues(SCHEMA)
    values.put(columns(0, 1000 * SECOND_NS, 9, 9.0), SECOND_NS)
    values.put(columns(0, SECOND_NS, 1, 1.0), SECOND_NS)
    assert (values.ahead, values.value("A.Float", SECOND_NS)) == (1, 1.0)


def test_an_empty_batch_and_an_empty_schema_are_nothing() -> None:
    values = LastValues(SCHEMA)
    values.put(Columns(0, np.empty(0, np.int64), (np.empty(0, np.int64), np.empty(0))), 0)
    assert values.fresh(0) == LastValues(Schema(())).fresh(0) == {}


@given(st.lists(st.tuples(st.integers(0, 10**9), st.floats()), max_size=30), st.integers(0, 2 * 10**9))
def test_it_says_what_the_store_of_samples_says(told: list[tuple[int, float]], now_ns: int) -> None:
    """telemetry/signals/state.py is the plain one."""
    values = LastValues(SCHEMA, {"A.Float": SECOND_NS})
    state = SignalState({"A.Float": SECOND_NS})
    for t_ns, value in told:
        values.put(columns(0, t_ns, None, value), 10**9)
        state.put(t_ns, {"A.Float": value})
    assert values.validity("A.Float", now_ns) is state.validity("A.Float", now_ns)
    assert values.value("A.Float", now_ns) == state.value("A.Float", now_ns)
    assert values.age_ns("A.Float", now_ns) == state.age_ns("A.Float", now_ns)
