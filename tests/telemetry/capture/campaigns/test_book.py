"""The book of campaigns: budgets hold in any 24 hours of powered time, over crashes at any instant, and nothing is
fetched twice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecu.crashdisk import CrashDisk, CrashState, unnoticed_without, violation
from ecu.disk import Disk, DiskFull
from telemetry.capture.campaigns.book import (
    CHECKPOINT_NS,
    MOST_ACCOUNTS,
    PERIOD_NS,
    BookLost,
    CampaignBook,
    MemoryShelf,
    open_book,
)

HOUR_NS = PERIOD_NS // 4
DAY_NS = 24 * HOUR_NS


def book(disk: Disk, now_ns: int = 0) -> CampaignBook:
    return open_book(disk, now_ns)


@given(
    st.lists(st.tuples(st.integers(0, 3 * HOUR_NS), st.integers(1, 400), st.booleans()), max_size=80),
    st.integers(0, 1 << 62),
)
def test_in_any_day_no_more_is_granted_than_the_most(asked: list[tuple[int, int, bool]], boot_ns: int) -> None:
    shelf, t_ns = MemoryShelf(), boot_ns
    told = CampaignBook(None, shelf, boot_ns)
    granted: list[tuple[int, int]] = []
    fired: list[int] = []
    for after_ns, amount, restarts in asked:
        t_ns += after_ns
        told.tick(t_ns)
        if restarts:
            told = CampaignBook(shelf.page, shelf, t_ns)
        if told.take_bytes("c", 1000, amount, t_ns):
            granted.append((t_ns, amount))
        if told.take_trigger("c", 5, t_ns) is not None:
            fired.append(t_ns)
        assert sum(amount for at_ns, amount in granted if at_ns > t_ns - DAY_NS) <= 1000
        assert sum(at_ns > t_ns - DAY_NS for at_ns in fired) <= 5


def test_without_restarts_all_of_a_budget_is_granted_and_comes_back() -> None:
    told = CampaignBook(None, MemoryShelf(), 0)
    assert [told.take_bytes("c", 1000, 100, 0) for _ in range(11)] == [True] * 10 + [False]
    assert [told.take_trigger("c", 3, 0) for _ in range(4)] == [1, 2, 3, None]
    assert told.bytes_left("c", 1000, 27 * HOUR_NS) == 0
    assert told.bytes_left("c", 1000, 28 * HOUR_NS) == 1000
    assert told.take_trigger("c", 3, 28 * HOUR_NS) == 4


def test_a_crash_costs_little_and_an_orderly_end_nothing() -> None:
    shelf = MemoryShelf()
    told = CampaignBook(None, shelf, 0)
    told.take_bytes("c", 6400, 10, 0)
    told.take_trigger("c", 64, 0)
    crashed = CampaignBook(shelf.page, MemoryShelf(), 0)
    assert 6400 - 110 <= crashed.bytes_left("c", 6400, 0) < 6390
    assert crashed.take_trigger("c", 64, 0) == 3
    told.close(0)
    ended = CampaignBook(shelf.page, MemoryShelf(), 0)
    assert ended.bytes_left("c", 6400, 0) == 6390
    assert ended.take_trigger("c", 64, 0) == 2


def test_many_small_grants_write_seldom() -> None:
    disk = CrashDisk()
    told = book(disk)
    before = disk.syncs
    for number in range(1000):
        told.take_trigger("c", 1000, number)
        told.take_bytes("c", 1 << 20, 1000, number)
    assert disk.syncs - before < 250


def test_a_fetch_is_granted_once_in_rising_order() -> None:
    told = CampaignBook(None, MemoryShelf(), 0)
    assert [told.take_fetch("c", number, 0) for number in (3, 3, 2, 4)] == [True, False, False, True]
    assert told.take_fetch("other", 1, 0)
    assert (told.has_fetched("c", 4), told.has_fetched("c", 5)) == (True, False)


def test_short_journeys_bring_a_budget_back_too() -> None:
    disk = CrashDisk()
    told = book(disk)
    assert told.take_bytes("c", 1000, 1000, 0)
    for _ in range(28 * 6 + 1):  # each boots at 0, and is cut off
        told = book(disk)
        told.tick(CHECKPOINT_NS)
    assert told.bytes_left("c", 1000, CHECKPOINT_NS) == 1000


def test_where_the_flash_fails_nothing_is_granted_and_nothing_is_used_up() -> None:
    disk = CrashDisk()
    told = book(disk)
    assert told.take_trigger("c", 1000, 0) == 1
    disk.fail(lambda call: call.act in ("create", "write_at"), DiskFull("full"))
    assert told.take_bytes("c", 1000, 1, 0) is False
    assert told.take_fetch("c", 1, 0) is False
    assert told.take_trigger("d", 1, 0) is None
    assert told.failures == 3
    disk.heal()
    assert told.take_bytes("c", 1000, 1000, 0)
    assert told.take_fetch("c", 1, 0)
    assert told.take_trigger("d", 1, 0) == 1


def test_accounts_that_were_used_long_ago_make_room_and_the_vehicles_does_not() -> None:
    disk = CrashDisk()
    told = book(disk)
    told.take_bytes("", 1000, 10, 0)
    for number in range(MOST_ACCOUNTS + 10):
        told.take_trigger(f"{'n' * 40}-{number}", 1000, 0)
    again = book(disk)
    assert again.bytes_used("", 0) >= 10
    assert again.take_trigger(f"{'n' * 40}-5", 1, 0) == 1
    assert again.take_trigger(f"{'n' * 40}-{MOST_ACCOUNTS + 5}", 1, 0) is None


def test_a_lost_book_counts_as_used_up_for_a_day_and_is_well_again_then() -> None:
    disk = CrashDisk()
    told = book(disk)
    told.take_trigger("c", 1000, 0)
    for twin in (0, 1):
        disk.write_at(f"campaigns.{twin}", 0, b"lost")
    told = book(disk)
    assert told.take_trigger("c", 1000, 0) is None
    assert told.take_fetch("c", 1, 0) is False
    assert told.take_bytes("c", 1000, 1, 27 * HOUR_NS) is False
    assert told.take_bytes("c", 1000, 1, 28 * HOUR_NS)
    assert book(disk).take_trigger("c", 1000, 0) == 1


def test_what_is_no_page_is_said() -> None:
    with pytest.raises(BookLost, match="can't be read"):
        CampaignBook(b"\xff", MemoryShelf(), 0)


# --- power cuts ---------------------------------------------------------------------------------------


def test_after_a_loss_nothing_goes_by_who_was_asked_first() -> None:
    """Triggers are asked for ahead of the samples of a little before."""
    disk = CrashDisk()
    book(disk).take_trigger("c", 9, 1)
    for name in disk.names(""):
        disk.flip_bit(name, 100)
    told = book(disk)
    end_ns = 7 * PERIOD_NS
    assert told.take_trigger("c", 9, end_ns) is not None
    assert told.withholds(end_ns - 1)
    assert told.take_trigger("d", 9, end_ns - 1) is None
    assert not told.take_bytes("c", 100, 1, end_ns - 1)


def journey(disk: CrashDisk) -> None:
    """Each grant is marked once it was given."""
    told = book(disk)
    for number in range(4):
        if told.take_trigger("c", 3, number) is not None:
            disk.mark(f"trigger {number}")
        if told.take_bytes("c", 100, 30, number):
            disk.mark(f"bytes {number}")
    for number in (5, 6):
        if told.take_fetch("c", number, 9):
            disk.mark(f"fetch {number}")
    told.close(10)


def nothing_is_refunded(state: CrashState) -> None:
    told = book(state.disk, 10)
    for what, most in (("trigger", 3), ("bytes", 3)):
        before = sum(mark.startswith(what) for mark in state.acknowledged)
        ask = told.take_trigger if what == "trigger" else lambda name, _, t_ns: told.take_bytes(name, 100, 30, t_ns)
        more = sum(bool(ask("c", 3, 11)) for _ in range(5))
        assert before + more <= most, f"{before} {what} before the cut and {more} after it"
    for number in (5, 6):
        if f"fetch {number}" in state.acknowledged:
            assert not told.take_fetch("c", number, 11), f"fetch {number} was granted twice"


def test_no_power_cut_refunds_anything() -> None:
    assert violation(journey, nothing_is_refunded, CrashDisk()) is None


def test_no_sync_of_a_grant_could_be_left_out() -> None:
    """The first write makes two twins that cover each other, and the last one only gives back."""
    unnoticed = [line.partition(":")[0] for line in unnoticed_without(journey, nothing_is_refunded)]
    disk = CrashDisk()
    journey(disk)
    assert unnoticed == ["sync 0", "sync 1", "sync 2", f"sync {disk.syncs - 1}"]


def test_a_book_that_grants_before_it_writes_is_noticed() -> None:
    class Hasty(CampaignBook):
        def _write(self) -> bool:
            return True

    def hasty(disk: CrashDisk) -> None:
        told = book(disk)
        told.__class__ = Hasty
        if told.take_fetch("c", 5, 0):
            disk.mark("fetch 5")

    assert "granted twice" in str(violation(hasty, nothing_is_refunded, CrashDisk()))
