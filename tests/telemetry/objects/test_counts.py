"""Objects are conserved: the arithmetic of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from telemetry.objects.counts import (
    LEDGER_NAMES,
    Counted,
    Damaged,
    Dropped,
    Totals,
    counted,
    reconcile,
)

numbers = st.integers(0, 1000)


def tallies(reasons: type[Dropped] | type[Damaged]) -> st.SearchStrategy[dict[str, int]]:
    return st.dictionaries(st.sampled_from([reason.value for reason in reasons]), st.integers(1, 1000))


ledgers = st.builds(
    lambda durable, dropped, pending: Counted(durable + sum(dropped.values()) + pending, durable, dropped),
    numbers,
    tallies(Dropped),
    numbers,
)
totals = st.builds(Totals, numbers, numbers, numbers, numbers, tallies(Damaged), tallies(Dropped))


@given(ledgers, totals, numbers)
def test_whatever_a_start_finds_both_lines_hold_and_nothing_known_is_forgotten(
    ledger: Counted, before: Totals, kept: int
) -> None:
    now, after = reconcile(ledger, before, kept)
    assert now.offered == now.durable + sum(now.dropped.values())
    assert now.durable == after.left + kept
    assert now.offered >= ledger.offered
    assert now.durable >= max(ledger.durable, before.left + kept)
    # Only what nobody can account for gets a new reason.
    assert after.left - before.left == after.damaged.get(Damaged.MISSING, 0) - before.damaged.get(Damaged.MISSING, 0)
    for why in Dropped:
        known = max(ledger.dropped.get(why, 0), before.dropped.get(why, 0))
        assert now.dropped.get(why, 0) == known or (why is Dropped.CUT_SHORT and now.dropped[why] > known)


@given(ledgers, totals, numbers)
def test_a_second_start_changes_nothing(ledger: Counted, before: Totals, kept: int) -> None:
    now, after = reconcile(ledger, before, kept)
    assert reconcile(now, after, kept) == (now, after)


@given(ledgers)
def test_the_counters_hold_what_they_are_given(ledger: Counted) -> None:
    values = ledger.as_values()
    assert set(values) == set(LEDGER_NAMES)
    assert counted(values) == ledger
