"""The vehicle's own ledger: no plan gets more than its budget, and no power cut parts an update from what it owes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecu.crashdisk import CrashDisk, CrashState, violation
from ecu.keys import MemoryKeyStore
from telemetry.federated.book import BUDGET_DAYS, MOST_PLANS, BookLost, BudgetSpent, LearningBook
from telemetry.federated.plan import LearningFloor, Plan
from telemetry.federated.update import ModelUpdate
from tests.telemetry.federated.test_admission import BASE, PLAN

FLOOR = LearningFloor(enabled=True, updates=3)
KEYS = MemoryKeyStore()
TODAY = 20_000


def update(seq: int, plan: Plan = PLAN) -> ModelUpdate:
    return ModelUpdate(plan.name, BASE, plan.graph, plan.layout, seq, b"payload %d" % seq, b"signature")


def book(disk: CrashDisk) -> LearningBook:
    return LearningBook(disk, KEYS)


def tells(told: LearningBook, seq: int, plan: Plan = PLAN, today: int = TODAY) -> None:
    told.demand_budget(plan, FLOOR, today)
    told.commit(plan, update(seq, plan), b"owed %d" % seq, today)
    told.handed_on()


def test_an_update_what_it_owes_and_its_count_come_back_together() -> None:
    disk = CrashDisk()
    book(disk).commit(PLAN, update(1), b"owed", TODAY)
    again = book(disk)
    assert (again.waiting, again.owed(PLAN), again.last_seq(PLAN)) == (update(1), b"owed", 1)
    again.handed_on()
    assert book(disk).waiting is None
    assert book(disk).owed(PLAN) == b"owed"


def test_what_is_owed_lies_sealed() -> None:
    disk = CrashDisk()
    book(disk).commit(PLAN, update(1), b"a secret of this vehicle", TODAY)
    assert not any(b"a secret" in disk.read(f"learning.{twin}") for twin in (0, 1))


def test_what_was_sealed_under_a_key_that_is_gone_is_never_said_and_stops_nothing() -> None:
    disk = CrashDisk()
    tells(book(disk), 1)
    again = LearningBook(disk, MemoryKeyStore())
    assert again.owed(PLAN) == b""
    tells(again, 2)
    assert again.owed(PLAN) == b"owed 2"


def test_what_is_owed_belongs_to_its_plan_and_layout() -> None:
    told = book(CrashDisk())
    tells(told, 1)
    assert told.owed(PLAN) == b"owed 1"
    assert told.owed(PLAN.model_copy(update={"layout": "9" * 64})) == b""
    assert told.owed(PLAN.model_copy(update={"name": "other"})) == b""


def test_a_plan_gets_no_more_updates_than_it_says() -> None:
    told, twice = book(CrashDisk()), PLAN.model_copy(update={"updates": 2})
    tells(told, 1, twice)
    tells(told, 2, twice)
    with pytest.raises(BudgetSpent, match="plan lights-1 has had its 2 updates"):
        told.demand_budget(twice, FLOOR, TODAY)


def test_all_plans_together_get_no_more_than_the_vehicles_own_most() -> None:
    disk = CrashDisk()
    for number in range(3):
        tells(book(disk), 1, PLAN.model_copy(update={"name": f"plan-{number}"}))
    with pytest.raises(BudgetSpent, match="3 updates within 30 days, the most of this vehicle are 3"):
        book(disk).demand_budget(PLAN.model_copy(update={"name": "one-more"}), FLOOR, TODAY)


@given(days=st.lists(st.integers(0, 90), min_size=1, max_size=30).map(sorted))
def test_within_no_thirty_days_is_more_told_than_the_most(days: list[int]) -> None:
    told = book(CrashDisk())
    done: list[int] = []
    plan = PLAN.model_copy(update={"updates": 1000})
    for seq, day in enumerate(days, 1):
        try:
            tells(told, seq, plan, TODAY + day)
        except BudgetSpent:
            assert sum(day - BUDGET_DAYS < other for other in done) == FLOOR.updates, "refused too early"
        else:
            done.append(day)
        assert sum(day - BUDGET_DAYS < other for other in done) <= FLOOR.updates


def test_a_clock_that_went_back_counts_nothing_anew() -> None:
    told = book(CrashDisk())
    for seq in (1, 2, 3):
        tells(told, seq, today=TODAY)
    with pytest.raises(BudgetSpent):
        told.demand_budget(PLAN, FLOOR, TODAY - 20)


def test_one_update_at_a_time_is_on_its_way() -> None:
    told = book(CrashDisk())
    told.commit(PLAN, update(1), b"", TODAY)
    with pytest.raises(BudgetSpent, match="still on its way"):
        told.demand_budget(PLAN, FLOOR, TODAY)


def test_of_many_plans_those_used_last_are_remembered() -> None:
    told = book(CrashDisk())
    for number in range(MOST_PLANS + 5):
        plan = PLAN.model_copy(update={"name": f"plan-{number}"})
        told.commit(plan, update(number + 1, plan), b"", TODAY + number * BUDGET_DAYS)
    assert told.last_seq(PLAN.model_copy(update={"name": "plan-4"})) == 0
    assert told.last_seq(PLAN.model_copy(update={"name": "plan-5"})) == 6


def test_a_purge_leaves_nothing_but_the_count() -> None:
    disk = CrashDisk()
    book(disk).commit(PLAN, update(1), b"owed", TODAY)
    book(disk).forget()
    again = book(disk)
    assert (again.waiting, again.owed(PLAN), again.last_seq(PLAN)) == (None, b"", 1)
    assert not any(b"payload" in disk.read(f"learning.{twin}") for twin in (0, 1))


def test_a_purge_of_a_lost_book_leaves_nothing_to_read_and_doesnt_begin_it_anew() -> None:
    disk = CrashDisk()
    book(disk).commit(PLAN, update(1), b"owed", TODAY)
    for twin in (0, 1):
        disk.write_at(f"learning.{twin}", 0, b"lost")
    LearningBook.purge(disk, KEYS)
    assert not any(b"payload" in disk.read(f"learning.{twin}") for twin in (0, 1))
    with pytest.raises(BookLost):
        book(disk)
    LearningBook.purge(disk, KEYS)


def test_a_book_that_cant_be_read_teaches_nothing() -> None:
    disk = CrashDisk()
    tells(book(disk), 1)
    for twin in (0, 1):
        disk.truncate(f"learning.{twin}", 3)
    with pytest.raises(BookLost, match="Nothing is learned until"):
        book(disk)


# --- power cuts ---------------------------------------------------------------------------------------


def life(disk: CrashDisk) -> None:
    told = book(disk)
    for seq in (1, 2, 3):
        disk.mark(f"begun {seq}")
        told.commit(PLAN, update(seq), b"owed %d" % seq, TODAY)
        disk.mark(f"told {seq}")
        disk.mark(f"handing {seq}")
        told.handed_on()
        disk.mark(f"handed {seq}")


def marked(state: CrashState, kind: str) -> int:
    return max((int(number) for name, number in map(str.split, state.acknowledged) if name == kind), default=0)


def nothing_is_parted(state: CrashState) -> None:
    after = book(state.disk)
    seq = after.last_seq(PLAN)
    assert marked(state, "told") <= seq <= marked(state, "begun")
    assert after.owed(PLAN) == (b"owed %d" % seq if seq else b"")
    if seq > marked(state, "handing"):
        assert after.waiting == update(seq), "told, and not yet in the spool"
    if seq == marked(state, "handed"):
        assert after.waiting is None, "in the spool, and told once"


def test_a_power_cut_at_any_instant_parts_nothing() -> None:
    assert violation(life, nothing_is_parted, CrashDisk()) is None


def test_the_law_would_notice_an_update_that_is_written_after_what_it_owes() -> None:
    def in_two_writes(disk: CrashDisk) -> None:
        told = book(disk)
        disk.mark("begun 1")
        told.commit(PLAN, update(1), b"owed 1", TODAY)
        told.forget()
        disk.mark("told 1")

    assert violation(in_two_writes, nothing_is_parted, CrashDisk()) is not None
