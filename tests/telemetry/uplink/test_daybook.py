"""What went out today is never forgotten: not by a crash at any write, not by a start, not by a wrong clock."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecu.clock import SECOND_NS, SteppingClock
from ecu.crashdisk import CrashDisk
from ecu.disk import DiskFault
from telemetry.uplink.daybook import DAY_NS, DayBook

BUDGET = 10_000
NAME = "network"


def opened(disk: CrashDisk, clock: SteppingClock, boot: str = "one") -> DayBook:
    return DayBook.open(disk, NAME, clock, boot)


def spend(book: DayBook, size: int) -> None:
    """As a meter does it: counted, written down, and then sent."""
    book.add("metered", size)
    if not book.is_claimed("metered"):
        book.claim("metered", BUDGET)


@given(st.lists(st.integers(1, 900), max_size=30), st.sets(st.integers(0, 29)))
@settings(max_examples=60)
def test_a_kill_between_any_two_sends_refunds_nothing_and_costs_a_hundredth(sizes: list[int], kills: set[int]) -> None:
    # Mutation: writing down after sending; writing down what went and no claim.
    disk, clock = CrashDisk(), SteppingClock(boot_ns=5 * SECOND_NS)
    book, sent = opened(disk, clock), 0
    for number, size in enumerate(sizes):
        spend(book, size)
        sent += size
        if number in kills:
            book = opened(disk, clock)
        assert sent <= book.gone("metered", BUDGET) <= sent + (len(kills) + 1) * (BUDGET // 100)


def test_it_writes_a_hundred_times_a_day_at_most() -> None:
    disk, clock = CrashDisk(), SteppingClock()
    book, claims = opened(disk, clock), 0
    for _ in range(BUDGET // 10):
        book.add("metered", 10)
        if not book.is_claimed("metered"):
            book.claim("metered", BUDGET)
            claims += 1
    assert claims <= 100


def test_an_orderly_end_gives_back_what_was_only_claimed() -> None:
    disk, clock = CrashDisk(), SteppingClock()
    book = opened(disk, clock)
    spend(book, 1234)
    book.close()
    assert opened(disk, clock).gone("metered", BUDGET) == 1234


def test_a_day_is_24_hours_of_boot_time_over_all_starts_within_a_boot() -> None:
    disk, clock = CrashDisk(), SteppingClock(boot_ns=7 * SECOND_NS)
    spend(opened(disk, clock), 5000)
    clock.set_wall(0)  # what people call the time has no say
    for _ in range(5):
        clock.advance(clock.boot_ns() + DAY_NS // 6)
        assert opened(disk, clock).gone("metered", BUDGET) >= 5000
    clock.advance(clock.boot_ns() + DAY_NS // 6 + 1)
    book = opened(disk, clock)
    assert book.gone("metered", BUDGET) == 0
    assert book.ends_ns == clock.boot_ns() + DAY_NS


def test_another_boot_goes_on_with_the_day_and_counts_nothing_of_what_lay_between() -> None:
    disk, clock = CrashDisk(), SteppingClock(boot_ns=0)
    book = opened(disk, clock)
    spend(book, 5000)
    clock.advance(DAY_NS // 4)
    book.close()
    clock = SteppingClock(boot_ns=3 * SECOND_NS)
    again = opened(disk, clock, boot="two")
    assert again.gone("metered", BUDGET) == 5000
    assert again.ends_ns == clock.boot_ns() + DAY_NS * 3 // 4


def test_proven_wall_time_ends_the_day_of_a_car_that_was_off_overnight_and_no_other_time_does() -> None:
    wall_ns = 1_800_000_000 * SECOND_NS
    disk, clock = CrashDisk(), SteppingClock(boot_ns=0)
    book = opened(disk, clock)
    spend(book, 5000)
    book.proven(wall_ns)
    book.close()
    clock = SteppingClock(boot_ns=0)
    again = opened(disk, clock, boot="two")
    again.proven(wall_ns + DAY_NS - 1)
    assert again.gone("metered", BUDGET) == 5000
    again.proven(wall_ns + DAY_NS)
    assert again.gone("metered", BUDGET) == 0


def test_what_cannot_be_read_counts_as_all_used_up_until_the_day_ends_over_starts_too() -> None:
    # Mutation: taking lost twins for a new day gives the budget out again.
    disk, clock = CrashDisk(), SteppingClock()
    spend(opened(disk, clock), 100)
    for twin in (0, 1):
        disk.flip_bit(f"{NAME}.{twin}", 8 * 30)
    book = opened(disk, clock)
    assert (book.lost, book.gone("metered", BUDGET)) == (True, BUDGET)
    assert "used up" in book.fault
    spend(book, 50)
    assert "used up" in book.fault, "also once the disk writes again"
    clock.advance(DAY_NS - 1)
    again = opened(disk, clock)
    assert again.gone("metered", BUDGET) >= BUDGET
    assert "used up" in again.fault, "and after a restart"
    clock.advance(DAY_NS)
    assert again.gone("metered", BUDGET) == 0
    assert (again.lost, again.fault) == (False, "")


def test_a_disk_that_fails_is_said_and_stops_nothing() -> None:
    disk, clock = CrashDisk(), SteppingClock()
    book = opened(disk, clock)
    disk.fail(lambda call: True, DiskFault("worn"))
    spend(book, 100)
    assert "a restart may forget it" in book.fault
    disk.heal()
    spend(book, 100)
    assert (book.fault, book.gone("metered", BUDGET)) == ("", 200)


def test_a_clock_set_forward_within_a_boot_ends_no_day() -> None:
    # Mutation: a computer without a clock of its own boots in the past, is let in, and is then set: a second budget.
    disk, clock, wall_ns = CrashDisk(), SteppingClock(boot_ns=0), 1_800_000_000 * SECOND_NS
    book = opened(disk, clock)
    book.proven(wall_ns)
    spend(book, 5000)
    clock.advance(60 * SECOND_NS)
    book.proven(wall_ns + 3 * DAY_NS)
    assert book.gone("metered", BUDGET) >= 5000
    again = opened(disk, clock)
    again.proven(wall_ns + 3 * DAY_NS)
    assert again.gone("metered", BUDGET) >= 5000
    again.close()
    clock = SteppingClock(boot_ns=0)
    third = opened(disk, clock, boot="two")
    third.proven(wall_ns + 3 * DAY_NS + DAY_NS // 2)
    assert third.gone("metered", BUDGET) >= 5000
    third.proven(wall_ns + 4 * DAY_NS)
    assert third.gone("metered", BUDGET) == 0


def test_a_claim_that_takes_until_the_next_day_claims_nothing_of_that_one() -> None:
    # Mutation: what yesterday had claimed taken as claimed today: a kill then refunds today's bytes.
    disk, clock = CrashDisk(), SteppingClock(boot_ns=0)
    book = opened(disk, clock)
    spend(book, 9000)
    clock.advance(DAY_NS - 1)

    def midnight(_: object) -> bool:
        clock.advance(DAY_NS)
        book.gone("metered", BUDGET)
        return False

    book.add("metered", 500)
    disk.fail(midnight, DiskFault("never"))
    book.claim("metered", BUDGET)
    disk.heal()
    spend(book, 800)
    assert opened(disk, clock).gone("metered", BUDGET) >= 800


def test_of_a_day_that_cannot_be_read_p0_has_its_reserve_and_no_more() -> None:
    # Mutation: what goes after the loss counted within the budget that is already used up: P0 has all of it again.
    disk, clock = CrashDisk(), SteppingClock()
    spend(opened(disk, clock), 100)
    for twin in (0, 1):
        disk.flip_bit(f"{NAME}.{twin}", 8 * 30)
    book = opened(disk, clock)
    spend(book, 700)
    assert book.gone("metered", BUDGET) == BUDGET + 700
    assert opened(disk, clock).gone("metered", BUDGET) >= BUDGET + 700


@pytest.mark.parametrize("networks", [("wifi", "metered")])
def test_each_network_has_its_own_count(networks: tuple[str, str]) -> None:
    book = DayBook(None, SteppingClock(), "")
    book.add(networks[0], 77)
    assert [book.gone(name, BUDGET) for name in networks] == [77, 0]
