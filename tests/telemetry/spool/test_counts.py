from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from telemetry.records import Lane
from telemetry.spool.counts import (
    LEDGER_NAMES,
    Counted,
    Dropped,
    Evicted,
    MemoryCounters,
    Quarantined,
    Totals,
    counted,
    counter,
    lane_counts,
    reconcile,
)

N = st.integers(0, 50)
DROPPED = st.dictionaries(st.sampled_from([reason.value for reason in Dropped]), st.integers(1, 9))
COUNTED = st.builds(Counted, offered=N, durable=N, dropped=DROPPED)
TOTALS = st.builds(
    Totals,
    acknowledged=N,
    evicted=st.dictionaries(st.sampled_from([reason.value for reason in Evicted]), N),
    quarantined=st.dictionaries(st.sampled_from([reason.value for reason in Quarantined]), N),
    erased=N,
    dropped=DROPPED,
    lost_in_crash=N,
)


@given(COUNTED, TOTALS, N, st.booleans())
def test_after_any_start_law_1_holds(ledger: Counted, totals: Totals, spooled: int, may_return: bool) -> None:
    opening = reconcile(ledger, totals, spooled, may_return)
    counters = Counted(opening.offered, opening.durable, opening.totals.dropped)
    assert lane_counts(Lane.P1, counters, 0, opening.totals, spooled, opening.unreadable).conservation.holds


@given(COUNTED, TOTALS, N)
def test_what_reads_again_leaves_no_trace_of_the_start_that_could_not_read_it(
    ledger: Counted, totals: Totals, spooled: int
) -> None:
    without = reconcile(ledger, totals, spooled, may_return=True)
    ledger_then = Counted(without.offered, without.durable, without.totals.dropped)
    again = reconcile(ledger_then, without.totals, spooled + without.unreadable)
    assert (again.offered, again.durable, again.totals) == (without.offered, without.durable, without.totals)


@given(COUNTED, TOTALS, N)
def test_a_start_forgets_nothing_that_was_counted(ledger: Counted, totals: Totals, spooled: int) -> None:
    opening = reconcile(ledger, totals, spooled)
    assert opening.offered >= ledger.offered
    assert opening.durable >= ledger.durable
    assert opening.totals.lost_in_crash >= totals.lost_in_crash
    assert sum(opening.totals.dropped.values()) >= max(sum(ledger.dropped.values()), sum(totals.dropped.values()))


@given(COUNTED, TOTALS, N)
def test_starting_again_changes_nothing(ledger: Counted, totals: Totals, spooled: int) -> None:
    once = reconcile(ledger, totals, spooled)
    twice = reconcile(Counted(once.offered, once.durable, once.totals.dropped), once.totals, spooled)
    assert (twice.offered, twice.durable, twice.totals, twice.behind) == (
        once.offered,
        once.durable,
        once.totals,
        False,
    )


def test_what_was_in_memory_is_lost_in_the_crash_and_what_flash_misses_is_missing() -> None:
    opening = reconcile(Counted(10, 7, {"queue_full": 1}), Totals(acknowledged=2), spooled=4)
    assert opening.totals.lost_in_crash == 2
    assert opening.totals.quarantined == {Quarantined.MISSING: 1}
    assert not opening.behind


def test_counters_that_a_power_cut_took_are_raised_to_what_flash_knows() -> None:
    opening = reconcile(Counted(0, 0, {}), Totals(acknowledged=2, lost_in_crash=1, dropped={"too_large": 3}), spooled=4)
    assert (opening.offered, opening.durable, opening.behind) == (10, 6, True)


def test_counters_have_a_name_for_everything_that_can_be_dropped() -> None:
    counters = MemoryCounters()
    counters.add(**dict.fromkeys(LEDGER_NAMES, 2))
    for lane in Lane:
        assert counted(counters.values(), lane) == Counted(2, 2, {reason.value: 2 for reason in Dropped})
    assert counter(Lane.P0, "offered") == "p0_offered"


def test_law_1_is_broken_by_any_single_count_that_is_off() -> None:
    whole = lane_counts(Lane.P1, Counted(20, 15, {"queue_full": 2}), 1, Totals(5, {"quota": 2}, {"corrupt": 1}, 3), 4)
    assert not whole.conservation.holds
    right = lane_counts(
        Lane.P1, Counted(20, 15, {"queue_full": 2}), 1, Totals(5, {"quota": 2}, {"corrupt": 1}, 3, {}, 2), 4
    )
    assert right.conservation.holds
    for off in (
        lane_counts(Lane.P1, Counted(20, 15, {}), 1, Totals(5, {"quota": 2}, {"corrupt": 1}, 3, {}, 2), 4),
        lane_counts(Lane.P1, Counted(20, 15, {"queue_full": 2}), 1, Totals(5, {}, {"corrupt": 1}, 3, {}, 2), 4),
        lane_counts(Lane.P1, Counted(20, 15, {"queue_full": 2}), 1, Totals(5, {"quota": 2}, {}, 3, {}, 2), 4),
        lane_counts(
            Lane.P1, Counted(20, 15, {"queue_full": 2}), 1, Totals(5, {"quota": 2}, {"corrupt": 1}, 3, {}, 2), 5
        ),
    ):
        assert not off.conservation.holds
