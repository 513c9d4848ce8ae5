"""What nobody wants any more leaves, never early: not by wall time, not by another boot, not by a power cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecu.clock import SECOND_NS, SteppingClock
from ecu.crashdisk import CrashDisk
from telemetry.records import Lane, Purpose
from telemetry.spool.aging import FOR_EVER, UNIT_NS, Aged, due_code, due_ns
from telemetry.spool.counts import Evicted
from telemetry.spool.limits import PAGE_BYTES, SpoolLimits
from tests.telemetry.spool.rig import ROOMY, WIDE, Rig, record

DAY_S = 86_400
TIMES = st.integers(0, 40 * 365 * DAY_S * SECOND_NS)


@pytest.fixture
def rig() -> Rig:
    return Rig(CrashDisk(), limits=ROOMY)


def pass_time(rig: Rig, seconds: int) -> None:
    rig.clock.advance(rig.clock.boot_ns() + seconds * SECOND_NS)
    rig.spool.expire()


def boot_again(rig: Rig) -> None:
    """The power was off for nobody knows how long."""
    rig.clock = SteppingClock(0, rig.clock.wall_ns())
    rig.open()


def spooled(rig: Rig) -> int:
    return sum(lane.spooled for lane in rig.spool.counts().lanes)


@given(TIMES, TIMES, st.integers(1, 366 * DAY_S))
def test_a_block_is_due_within_a_unit_after_it_should_and_never_before(begun: int, later: int, keep_s: int) -> None:
    now_ns = begun + later
    at_ns = due_ns(begun, due_code(begun, now_ns, keep_s))
    wanted_until_ns = now_ns + keep_s * SECOND_NS
    assert at_ns is None or wanted_until_ns <= at_ns < wanted_until_ns + UNIT_NS
    assert at_ns is not None or later + keep_s * SECOND_NS > 5 * 365 * DAY_S * SECOND_NS


def test_what_is_wanted_for_ever_is_never_due() -> None:
    assert due_code(0, 5, None) == FOR_EVER
    assert due_ns(0, FOR_EVER) is None


@given(TIMES, TIMES, TIMES, st.booleans())
def test_spool_time_never_runs_ahead_of_powered_time(spool_ns: int, before_ns: int, now_ns: int, same: bool) -> None:
    passed_ns = now_ns - before_ns if same else now_ns
    if passed_ns >= 0:
        assert spool_ns <= Aged(spool_ns, before_ns).at_least(now_ns) <= spool_ns + passed_ns


def test_a_record_leaves_when_its_time_is_up_and_is_counted(rig: Rig) -> None:
    rig.put(record(1, keep_s=60), record(2))
    pass_time(rig, 59)
    assert spooled(rig) == 2
    pass_time(rig, 11)
    p1 = rig.spool.counts().lanes[Lane.P1]
    assert (p1.evicted, p1.spooled) == ({Evicted.EXPIRED: 1}, 1)
    assert rig.spool.counts().holds


def test_a_lane_keeps_its_records_as_long_as_it_is_told_unless_they_say_so_themselves() -> None:
    rig = Rig(CrashDisk(), limits=ROOMY.model_copy(update={"keep_s": (0, 100, 0, 0)}))
    rig.put(record(1), record(2, keep_s=1000), record(3, Lane.P2))
    pass_time(rig, 110)
    assert [lane.spooled for lane in rig.spool.counts().lanes] == [0, 1, 1, 0]


@pytest.mark.parametrize("years", [-56, -10, 10])
def test_wall_time_expires_nothing(rig: Rig, years: int) -> None:
    rig.put(record(1, keep_s=60))
    rig.clock.set_wall(rig.clock.wall_ns() + years * 365 * DAY_S * SECOND_NS)
    pass_time(rig, 30)
    rig.open()
    pass_time(rig, 20)
    assert spooled(rig) == 1


def test_thirty_days_of_suspend_count_and_what_was_wanted_for_longer_stays(rig: Rig) -> None:
    rig.put(record(1, keep_s=29 * DAY_S), record(2, keep_s=31 * DAY_S))
    pass_time(rig, 30 * DAY_S)
    assert spooled(rig) == 1


def test_age_is_kept_over_restarts_and_boots_and_no_time_is_made_up(rig: Rig) -> None:
    rig.put(record(1, keep_s=100))
    pass_time(rig, 60)
    rig.spool.close()
    rig.open()
    pass_time(rig, 20)
    rig.spool.close()
    boot_again(rig)
    pass_time(rig, 15)
    assert spooled(rig) == 1
    pass_time(rig, 15)
    assert spooled(rig) == 0


def test_a_power_cut_makes_nothing_younger_by_more_than_ten_minutes(rig: Rig) -> None:
    rig.put(record(1, keep_s=10 * 3600))
    for _ in range(9 * 60):
        pass_time(rig, 60)
    boot_again(rig)
    pass_time(rig, 3600 + 600 + 10)
    assert spooled(rig) == 0


def test_commits_that_keep_coming_do_not_put_off_writing_down_how_old_all_is() -> None:
    large = {"segment_bytes": 64 * PAGE_BYTES, "max_bytes": 16 * 64 * PAGE_BYTES}
    rig = Rig(CrashDisk(), limits=ROOMY.model_copy(update=large))
    rig.put(record(0, keep_s=10 * 3600))
    for number in range(1, 9 * 6):
        rig.clock.advance(rig.clock.boot_ns() + 600 * SECOND_NS)
        if (look_ns := rig.spool.look_ns()) is not None and look_ns <= rig.clock.boot_ns():
            rig.spool.expire()
        rig.put(record(number, Lane.P2, keep_s=99 * 3600))
    there = spooled(rig)
    boot_again(rig)
    pass_time(rig, 2 * 3600 + 600)
    assert there - spooled(rig) == 1


def test_a_vehicle_whose_power_is_cut_after_every_short_drive_keeps_nothing_for_ever(rig: Rig) -> None:
    rig.put(record(1, keep_s=10 * 3600))
    for _ in range(15):
        for _ in range(45):
            rig.clock.advance(rig.clock.boot_ns() + 60 * SECOND_NS)
            if (look_ns := rig.spool.look_ns()) is not None and look_ns <= rig.clock.boot_ns():
                rig.spool.expire()
        boot_again(rig)
    pass_time(rig, 0)
    assert spooled(rig) == 0


def test_commits_that_keep_coming_do_not_put_off_what_is_due(rig: Rig) -> None:
    """Mutation: each commit says anew when the next look is, a unit from now at the earliest."""
    rig.put(record(0, keep_s=60))
    for number in range(1, 90):
        rig.clock.advance(rig.clock.boot_ns() + SECOND_NS)
        if (look_ns := rig.spool.look_ns()) is not None and look_ns <= rig.clock.boot_ns():
            rig.spool.expire()
        rig.put(record(number, Lane.P2, keep_s=3600))
    assert rig.spool.counts().lanes[Lane.P1].evicted == {Evicted.EXPIRED: 1}


def test_a_block_found_by_searching_is_due_as_the_index_says(rig: Rig) -> None:
    rig.put(record(1, keep_s=60))
    rig.open()
    pass_time(rig, 70)
    assert spooled(rig) == 0


def test_the_next_look_is_when_the_first_block_is_due_and_none_while_nothing_grows_old(rig: Rig) -> None:
    assert rig.spool.look_ns() is None
    rig.put(record(1))
    assert rig.spool.look_ns() is None
    rig.put(record(2, keep_s=120), record(3, keep_s=60))
    assert rig.spool.look_ns() == 60 * SECOND_NS
    pass_time(rig, 60)
    assert rig.spool.look_ns() == 120 * SECOND_NS
    pass_time(rig, 60)
    assert rig.spool.look_ns() is None


def test_a_segment_of_which_all_expired_is_used_again(rig: Rig) -> None:
    rig.put(*(record(n, size=3000, keep_s=60) for n in range(4)))
    rig.spool.close()
    rig.open()
    pass_time(rig, 70)
    assert rig.spool.counts().segments == 0
    assert rig.spool.counts().free_segments > 0


def test_a_late_receipt_for_what_expired_changes_nothing(rig: Rig) -> None:
    rig.put(record(1, keep_s=60), record(2))
    late, _ = rig.blocks()[0], rig.blocks()[1]
    rig.send(late)
    pass_time(rig, 70)
    assert rig.spool.counts().lanes[Lane.P1].evicted == {Evicted.EXPIRED: 1}
    assert rig.spool.holds(Purpose.PERCEPTION)
    assert rig.spool.counts().holds


def test_times_to_live_are_checked() -> None:
    with pytest.raises(ValueError, match="keep_s"):
        SpoolLimits(**{**WIDE.model_dump(), "keep_s": (-1, 0, 0, 0)})
