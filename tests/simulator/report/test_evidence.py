"""A ledger's balance comes from its own numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.report.evidence import Equation, Fault, Ledger, LedgerRow
from tests.simulator.report.synthetic import SECONDS, evidence

parts = st.lists(st.integers(0, 10**9), min_size=1, max_size=6).map(tuple)


@given(parts)
def test_what_the_parts_account_for_balances(numbers: tuple[int, ...]) -> None:
    assert _equation(LedgerRow("P0", sum(numbers), numbers)).balances


@given(parts, st.integers(-5, 5).filter(bool))
def test_one_record_more_or_less_does_not(numbers: tuple[int, ...], off: int) -> None:
    row = LedgerRow("P0", sum(numbers) + off, numbers)
    assert row.missing == off
    assert not _equation(row).balances
    assert not Ledger("law", "", (_equation(LedgerRow("P1", sum(numbers), numbers)), _equation(row))).balances


def test_nothing_is_proved_without_rows() -> None:
    assert not Equation("offered", ("durable",), ()).balances
    assert not Ledger("law", "", ()).balances


def test_a_row_with_other_parts_is_a_bug() -> None:
    with pytest.raises(ValueError, match="offered"):
        Equation("offered", ("durable",), (LedgerRow("P0", 1, (1, 0)),))


def test_the_time_axis_ends_with_the_last_thing_that_happened() -> None:
    assert evidence().end_s == SECONDS
    assert replace(evidence(), faults=(Fault("late", 70, 75),)).end_s == 75


def _equation(row: LedgerRow) -> Equation:
    return Equation("total", tuple(f"part {i}" for i in range(len(row.parts))), (row,))
