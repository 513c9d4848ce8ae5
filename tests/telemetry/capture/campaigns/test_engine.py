"""What the engine tells: exact to the sample, each once, within its budgets, over new sets and restarts too."""

from __future__ import annotations

import numpy as np
import pytest

from ecu.crashdisk import CrashDisk
from telemetry.capture.campaigns.book import CampaignBook, MemoryShelf, open_book
from telemetry.capture.campaigns.costs import Signals
from telemetry.capture.campaigns.rowring import RowRing
from telemetry.capture.campaigns.telling import ClipWanted
from telemetry.records import LastKnownState, SignalBlock, Triggered
from telemetry.signals.schema import Columns, Schema
from tests.telemetry.capture.campaigns.world import (
    BRAKES,
    CABIN,
    FLOOR,
    GEAR,
    MOTION,
    MS,
    PEDAL,
    SPEED,
    TEMPERATURE,
    Vehicle,
    anomaly,
    campaign,
    periodic,
    rows,
    when,
)

S = 1000
FAST = f"{SPEED} > 5"
ONCE = {"kind": "once", "id": 1, "pre_ms": 1000, "post_ms": 100}


def motion(t_ms: list[float], speeds: list[int]) -> Columns:
    return rows(MOTION, t_ms, speeds, [1] * len(t_ms))


def steady(from_ms: int, until_ms: int, speed: int) -> Columns:
    """One each 20 ms."""
    times = [float(t) for t in range(from_ms, until_ms, 20)]
    return motion(times, [speed] * len(times))


# --- what is told -------------------------------------------------------------------------------------


def test_a_periodic_campaign_tells_every_sample_of_each_period_once_it_is_over() -> None:
    vehicle = Vehicle().adopt(campaign("drive", periodic(1000), SPEED))
    vehicle.feed(900, motion([0, 500, 900], [1, 2, 3]))
    assert vehicle.records == []
    vehicle.feed(1000, motion([1000], [4]))
    assert vehicle.samples() == [(0, SPEED, 1), (500 * MS, SPEED, 2), (900 * MS, SPEED, 3)]
    vehicle.feed(2000)
    assert vehicle.times_ms(SPEED) == [0, 500, 900, 1000]


def test_only_what_was_wanted_is_told() -> None:
    vehicle = Vehicle().adopt(campaign("drive", periodic(1000), GEAR))
    vehicle.feed(1000, motion([5], [1]), rows(BRAKES, [7], [3]))
    assert vehicle.samples() == [(5 * MS, GEAR, 1)]
    assert set(vehicle.engine.wanted) == {MOTION}


def test_no_two_samples_of_a_signal_are_told_closer_than_was_wanted() -> None:
    vehicle = Vehicle().adopt(campaign("drive", periodic(1000), {"path": SPEED, "min_period_ms": 50}, GEAR))
    vehicle.feed(1000, motion([0, 20, 40, 60, 110, 115, 160], [1] * 7))
    assert vehicle.times_ms(SPEED) == [0, 60, 110, 160]
    assert vehicle.times_ms(GEAR) == [0, 20, 40, 60, 110, 115, 160]


def test_a_trigger_tells_the_window_around_its_exact_instant() -> None:
    vehicle = Vehicle().adopt(campaign("fast", when(FAST, pre_ms=100, post_ms=200), SPEED, PEDAL))
    vehicle.feed(2000, steady(0, 1000, 0), rows(BRAKES, [50.0 * i for i in range(40)], range(40)))
    vehicle.feed(3000, steady(2001, 3000, 100), rows(BRAKES, [2050.0 + 50 * i for i in range(18)], range(18)))
    assert vehicle.triggers_ms() == [2001]
    assert vehicle.times_ms(SPEED) == [2001 + 20.0 * i for i in range(11)]
    assert vehicle.times_ms(PEDAL) == [1950] + [2050 + 50.0 * i for i in range(4)]
    assert vehicle.told(Triggered) == [Triggered("fast", 1, 1, "condition", {SPEED: 10.0, PEDAL: 19.5})]


def test_windows_that_overlap_tell_each_sample_once() -> None:
    vehicle = Vehicle().adopt(campaign("fast", when(FAST, pre_ms=100, post_ms=100), SPEED))
    vehicle.feed(1000, *[motion([20.0 * i], [100 if i in (20, 23, 30) else 0]) for i in range(50)])
    assert vehicle.triggers_ms() == [400, 460, 600]
    assert vehicle.times_ms(SPEED) == [300 + 20.0 * i for i in range(21)]


def test_a_long_window_is_told_piece_by_piece() -> None:
    vehicle = Vehicle().adopt(campaign("fast", when(FAST, post_ms=25_000), SPEED))
    for second in range(30):
        vehicle.feed((second + 1) * S - 1, steady(second * S, (second + 1) * S, 100))
    assert [record.captured_ns // MS for record in vehicle.of(SignalBlock)] == [0, 10_020, 20_020]
    assert vehicle.times_ms(SPEED) == [20.0 * i for i in range(1251)]


def test_a_level_triggers_again_after_its_cooldown_and_an_edge_does_not() -> None:
    vehicle = Vehicle().adopt(
        campaign("level", when(FAST, edge="level", cooldown_ms=100)), campaign("edge", when(FAST, cooldown_ms=100))
    )
    vehicle.feed(1000, motion([10, 50, 110, 115, 300], [100] * 5))
    assert vehicle.triggers_ms("level") == [10, 110, 300]
    assert vehicle.triggers_ms("edge") == [10]


def test_an_edge_within_the_cooldown_is_counted() -> None:
    vehicle = Vehicle().adopt(campaign("edge", when(FAST, cooldown_ms=100)))
    vehicle.feed(1000, motion([10, 20, 30, 120, 130], [100, 0, 100, 0, 100]))
    assert vehicle.triggers_ms() == [10, 130]
    assert vehicle.untold("edge", "cooldown") == 1


def test_a_signal_that_stops_and_comes_back_is_no_edge() -> None:
    vehicle = Vehicle().adopt(campaign("edge", when(f"{SPEED} > 5 and {PEDAL} > 1")))
    pedal = rows(BRAKES, [0, 1000], [100, 100])  # missing between
    vehicle.feed(2000, steady(0, 2000, 100), pedal)
    assert vehicle.triggers_ms() == [0]


def test_a_cold_group_may_come_late() -> None:
    vehicle = Vehicle().adopt(campaign("fast", when(FAST, pre_ms=100, post_ms=200), SPEED, PEDAL))
    assert set(vehicle.engine.hot) == {MOTION}
    assert set(vehicle.engine.wanted) == {MOTION, BRAKES}
    vehicle.feed(1000, motion([980, 1000], [0, 100]), hot_only=True)
    assert vehicle.engine.behind_ns == 1000 * MS
    vehicle.feed(1000, rows(BRAKES, [950, 1000], [7, 9]))
    assert not vehicle.engine.behind_ns
    assert vehicle.told(Triggered)[0].signals == {SPEED: 10.0, PEDAL: 4.5}
    vehicle.feed(1300, motion([1200, 1201], [1, 1]), hot_only=True)
    assert not vehicle.of(SignalBlock)
    vehicle.feed(1300, rows(BRAKES, [1200, 1201], [7, 9]))
    assert vehicle.times_ms(SPEED) == [980, 1000, 1200]
    assert vehicle.times_ms(PEDAL) == [950, 1000, 1200]


def test_the_last_known_state_has_values_and_ages_and_a_silent_vehicle_tells_none() -> None:
    vehicle = Vehicle().adopt(campaign("state", {"kind": "last_known", "period_ms": 1000}, SPEED, TEMPERATURE))
    vehicle.feed(1000, motion([100, 600], [10, 20]), rows(CABIN, [300], [21.5]))
    vehicle.feed(5000, motion([2500], [30]))
    assert [state.signals for state in vehicle.told(LastKnownState)] == [
        {SPEED: (2.0, 400), TEMPERATURE: (21.5, 700)},
        {SPEED: (3.0, 500), TEMPERATURE: (21.5, 2700)},
    ]


def test_on_change_tells_what_moved_since_it_was_told_last() -> None:
    trigger = {"kind": "on_change", "beyond": 0.15, "min_interval_ms": 0}
    vehicle = Vehicle().adopt(campaign("changes", trigger, SPEED, GEAR))
    vehicle.feed(2000, motion([0, 20, 40, 60, 80], [10, 11, 12, 12, 5]))
    assert vehicle.times_ms(SPEED) == [0, 40, 80]
    assert vehicle.times_ms(GEAR) == [0]


def test_anomalies_trigger_at_the_first_sample_that_shows_them() -> None:
    expected = {"test": "residual", "expected": f"{PEDAL} * 2", "limit": 0.35, "for_ms": 40}
    vehicle = Vehicle().adopt(
        campaign("stuck", anomaly(SPEED, {"test": "stuck", "for_ms": 100})),
        campaign("range", anomaly(SPEED, {"test": "out_of_range"})),
        campaign("rate", anomaly(SPEED, {"test": "implausible_rate", "max_per_s": 100})),
        campaign("model", anomaly(SPEED, expected)),
    )
    speeds = [1, 2, 3, 4, 4, 4, 4, 4, 4, -5, 90, 91]
    vehicle.feed(
        1000, motion([20.0 * i for i in range(12)], speeds), rows(BRAKES, [50.0 * i for i in range(5)], [0] * 5)
    )
    assert vehicle.triggers_ms("stuck") == [160]
    assert vehicle.triggers_ms("range") == [180]
    assert vehicle.triggers_ms("rate") == [200]
    assert vehicle.triggers_ms("model") == [100]
    assert [event.why for event in vehicle.told(Triggered, "rate")] == ["implausible_rate"]


def test_what_is_not_a_number_is_no_value() -> None:
    nan = float("nan")
    vehicle = Vehicle().adopt(
        campaign("stuck", anomaly(TEMPERATURE, {"test": "stuck", "for_ms": 2500})),
        campaign("state", {"kind": "last_known", "period_ms": 10_000}, TEMPERATURE),
    )
    vehicle.feed(10_000, rows(CABIN, [0, 1000, 2000, 3000], [nan, 5, nan, nan]))
    assert not vehicle.records


def test_a_sample_that_comes_too_late_or_too_often_is_counted_and_not_told() -> None:
    vehicle = Vehicle().adopt(campaign("cabin", periodic(1000), TEMPERATURE))
    vehicle.feed(500, rows(CABIN, [100], [1]), rows(CABIN, [90, 110], [2, 3]))
    vehicle.feed(1000, rows(CABIN, [400, 1001], [4, 5]))
    assert vehicle.times_ms(TEMPERATURE) == [100, 110]
    assert vehicle.engine.counts()[""]["out_of_order"] == 3
    vehicle.feed(2000, rows(CABIN, [1001.0 + i for i in range(100)], [1] * 100))
    assert len(vehicle.samples()) == 2 + 10
    assert vehicle.engine.counts()[""]["too_fast"] == 90


def test_a_part_without_what_was_wanted_is_counted() -> None:
    vehicle = Vehicle().adopt(campaign("drive", periodic(1000), SPEED))
    told = motion([0, 20], [1, 2])
    vehicle.feed(1000, Columns(MOTION, told.t_ns, (None, told.values[1])))
    assert (vehicle.records, vehicle.untold("drive", "incomplete")) == ([], 2)


# --- budgets ------------------------------------------------------------------------------------------


def test_no_day_has_more_triggers_than_its_most() -> None:
    vehicle = Vehicle().adopt(campaign("level", when(FAST, edge="level", cooldown_ms=1000, max_per_day=3)))
    hour = 3600 * S
    for number in range(30 * 3600 // 600):
        vehicle.feed(number * 600 * S + 1, motion([number * 600 * S], [100]))
    times = vehicle.triggers_ms()
    assert times[:3] == [0, 600 * S, 1200 * S]
    assert all(later - first > 24 * hour for first, later in zip(times, times[3:], strict=False))
    assert len(times) > 3
    assert vehicle.untold("level", "max_per_day") == 180 - len(times)


def test_no_day_has_more_bytes_than_the_campaigns_budget() -> None:
    small = campaign("drive", {"kind": "on_change"}, SPEED, budget={"bytes_per_day": 1 << 34})
    vehicle = Vehicle().adopt(small)
    vehicle.feed(1001, steady(0, 1000, 1))
    amount = vehicle.engine.counts()["drive"]["bytes"]
    cheap = campaign("cheap", when(FAST, edge="level", cooldown_ms=1000), SPEED, budget={"bytes_per_day": 1024})
    vehicle = Vehicle().adopt(cheap)
    for second in range(100):
        vehicle.feed(second * S + 999, motion([second * S], [100]))
    told = vehicle.engine.counts()["cheap"]
    assert 1024 - amount - 200 < told["bytes"] <= 1024
    assert told["untold_campaign_budget"] > 0
    vehicle.feed(29 * 3600 * S, motion([29 * 3600 * S - 1], [100]))
    assert vehicle.engine.counts()["cheap"]["bytes"] > told["bytes"]


def test_all_campaigns_together_tell_no_more_than_the_vehicle_allows() -> None:
    floor = FLOOR.model_copy(update={"bytes_per_day": 4000})
    those = [
        campaign(f"c{n}", when(FAST, edge="level", cooldown_ms=1000), SPEED, budget={"bytes_per_day": 1300})
        for n in range(3)
    ]
    vehicle = Vehicle(floor).adopt(*those)
    for second in range(60):
        vehicle.feed(second * S + 999, motion([second * S], [100]))
    # Others by other names have no more.
    vehicle.adopt(*[{**one, "name": "x" + one["name"]} for one in those])
    for second in range(60, 120):
        vehicle.feed(second * S + 999, motion([second * S], [100]))
    told = {name: counts["bytes"] for name, counts in vehicle.engine.counts().items() if name}
    spent = vehicle.book.bytes_used("", vehicle.now_ns)
    assert 3500 < spent <= 4000
    assert sum(told.values()) <= spent
    assert sum(vehicle.untold(name, "vehicle_budget") for name in told) > 0


def test_clips_are_wanted_at_once_and_within_their_share() -> None:
    budget, floor = {"bytes_per_day": 8000}, FLOOR.model_copy(update={"picture_bytes": 1000})
    fast = when(FAST, edge="level", cooldown_ms=100, max_per_day=100)
    vehicle = Vehicle(floor).adopt(campaign("fast", fast, clip={"before": 1, "after": 2}, budget=budget))
    vehicle.feed(1000, steady(0, 1000, 100), hot_only=True)
    assert vehicle.clips == [ClipWanted("fast", 1, n + 1, n * 100 * MS, 1, 2) for n in range(2)]
    assert vehicle.untold("fast", "clip_budget") == 8


def test_a_clip_that_nobody_can_take_is_counted_and_uses_up_nothing() -> None:
    vehicle = Vehicle(has_camera=False).adopt(campaign("fast", when(FAST), clip={"before": 1, "after": 2}))
    vehicle.feed(1000, steady(0, 1000, 100))
    assert vehicle.clips == []
    assert vehicle.untold("fast", "no_camera") == vehicle.engine.counts()["fast"]["triggers"] == 1
    assert all(vehicle.book.bytes_used(account, vehicle.now_ns) == 0 for account in (":clips", "fast:clips"))


def test_a_restart_refunds_nothing() -> None:
    shelf = MemoryShelf()
    level = campaign("level", when(FAST, edge="level", cooldown_ms=0, max_per_day=5))
    once = campaign("fetch", {"kind": "once", "id": 7}, SPEED)
    triggers, fetches, now_ns = 0, 0, -1
    for _ in range(5):
        vehicle = Vehicle(book=CampaignBook(shelf.page, shelf, now_ns), now_ns=now_ns).adopt(level, once)
        vehicle.feed(now_ns / MS + 40, motion([now_ns / MS + 20, now_ns / MS + 30], [100, 100]))
        triggers += len(vehicle.triggers_ms("level"))
        fetches += len(vehicle.triggers_ms("fetch"))
    assert (triggers, fetches) == (5, 1)
    assert vehicle.untold("fetch", "fetched") == 1


def test_while_the_book_is_lost_nothing_is_told_and_the_reason_is_counted() -> None:
    disk = CrashDisk()
    open_book(disk, -1).take_trigger("c", 1, 0)
    for twin in (0, 1):
        disk.write_at(f"campaigns.{twin}", 0, b"lost")
    vehicle = Vehicle(book=open_book(disk, -1)).adopt(
        campaign("fast", when(FAST), SPEED), campaign("drive", periodic(1000), SPEED), campaign("fetch", ONCE, SPEED)
    )
    vehicle.feed(1000, motion([500], [100]))
    assert not vehicle.records
    assert [vehicle.untold(name, "book") for name in ("fast", "drive", "fetch")] == [1, 1, 1]


# --- time and sets ------------------------------------------------------------------------------------


def test_a_campaign_ends_at_its_wall_time_and_not_while_that_is_unknown() -> None:
    ends = {"not_after": 1_000_000}
    vehicle = Vehicle().adopt(campaign("drive", periodic(1000), SPEED, **ends), campaign("fast", when(FAST), **ends))
    vehicle.feed(1000, motion([500, 999], [0, 0]))
    vehicle.engine.set_wall(1_000_000 * 1000 * MS - 1500 * MS)
    vehicle.feed(3000, motion([1499, 1500, 1501], [0, 100, 0]))
    assert vehicle.times_ms(SPEED) == [500, 999, 1499]
    assert vehicle.triggers_ms() == []
    assert vehicle.untold("drive", "ended") == 2
    vehicle.engine.set_wall(None)
    vehicle.feed(4000, motion([3500], [100]))
    assert vehicle.times_ms(SPEED)[-1] == 3500
    assert vehicle.triggers_ms() == [3500]


def test_a_campaign_that_did_not_change_goes_on_over_a_new_set() -> None:
    fast = campaign("fast", when(FAST, pre_ms=500, post_ms=500, cooldown_ms=100_000), SPEED)
    vehicle = Vehicle().adopt(fast)
    vehicle.feed(1000, steady(500, 1000, 0))
    vehicle.adopt(fast, campaign("more", periodic(1000), GEAR))
    vehicle.feed(1100, motion([1001], [100]))
    vehicle.adopt(fast)
    vehicle.feed(2000, steady(1101, 2000, 0))
    assert vehicle.triggers_ms() == [1001]
    assert vehicle.times_ms(SPEED)[0] == 520
    assert vehicle.times_ms(SPEED)[-1] == 1501
    assert vehicle.engine.counts()["fast"]["triggers"] == 1


def test_a_new_revision_tells_what_the_old_one_had_and_begins_with_nothing() -> None:
    vehicle = Vehicle().adopt(campaign("drive", periodic(10_000), SPEED))
    vehicle.feed(500, motion([100, 200], [1, 2]))
    vehicle.adopt(campaign("drive", periodic(10_000), SPEED, revision=2))
    assert vehicle.times_ms(SPEED) == [100, 200]
    vehicle.feed(10_000, motion([600], [3]))
    assert vehicle.times_ms(SPEED) == [100, 200, 600]
    assert [block.revision for block in vehicle.told(SignalBlock)] == [1, 2]


def test_an_open_window_of_a_campaign_that_goes_is_told_as_far_as_it_got() -> None:
    vehicle = Vehicle().adopt(campaign("fast", when(FAST, post_ms=5000), SPEED))
    vehicle.feed(1000, steady(0, 1000, 100))
    vehicle.adopt()
    assert vehicle.times_ms(SPEED) == [20.0 * i for i in range(50)]
    vehicle.feed(9000, steady(1001, 5000, 100))
    assert len(vehicle.samples()) == 50


def test_a_fetch_begins_with_what_rings_hold() -> None:
    drive = campaign("drive", periodic(60_000), SPEED, GEAR)
    vehicle = Vehicle().adopt(drive)
    vehicle.feed(2000, steady(0, 2000, 5))
    vehicle.adopt(drive, campaign("fetch", ONCE, SPEED))
    vehicle.feed(2500, steady(2020, 2500, 6))
    assert vehicle.triggers_ms("fetch") == [2000]
    assert [event.why for event in vehicle.told(Triggered)] == ["fetch 1"]
    assert vehicle.times_ms(SPEED, "fetch") == [1000 + 20.0 * i for i in range(50)] + [
        2020 + 20.0 * i for i in range(5)
    ]


def test_an_orderly_end_tells_what_is_retained() -> None:
    vehicle = Vehicle().adopt(campaign("drive", periodic(60_000), SPEED))
    vehicle.feed(100, motion([50], [1]))
    vehicle.close()
    assert vehicle.times_ms(SPEED) == [50]


def test_records_come_in_one_order() -> None:
    vehicle = Vehicle().adopt(
        campaign("b", when(FAST), SPEED), campaign("a", when(FAST), SPEED), campaign("c", periodic(1000), SPEED)
    )
    vehicle.feed(3000, motion([100, 200, 1100, 1200], [0, 100, 0, 100]))
    kinds = [(type(record.event).__name__, getattr(record.event, "campaign", "")) for record in vehicle.records]
    event = [("Triggered", "b"), ("SignalBlock", "b"), ("Triggered", "a"), ("SignalBlock", "a")]
    assert kinds == [*event, ("SignalBlock", "c"), *event, ("SignalBlock", "c")]


def test_a_record_says_for_how_long_its_campaign_wants_it() -> None:
    budget = {"bytes_per_day": 1 << 34, "keep_s": 3600}
    vehicle = Vehicle().adopt(campaign("drive", periodic(1000), SPEED, budget=budget), campaign("fast", when(FAST)))
    vehicle.feed(1000, motion([500], [100]))
    assert [record.keep_s for record in vehicle.records] == [30 * 86_400, 3600]


def test_time_in_which_nothing_comes_is_one_step() -> None:
    vehicle = Vehicle().adopt(
        campaign("state", {"kind": "last_known", "period_ms": 100}, SPEED), campaign("drive", periodic(100), SPEED)
    )
    vehicle.feed(1, motion([0], [1]))
    vehicle.feed(30 * 86_400 * S, motion([30 * 86_400 * S - 5], [2]))
    assert len(vehicle.records) == 4


def test_a_set_for_other_signals_is_a_mistake() -> None:
    admitted = Vehicle().admitted(campaign("drive", periodic(1000), SPEED))
    vehicle = Vehicle()
    object.__setattr__(admitted, "signals", Signals(Schema(()), FLOOR))
    with pytest.raises(ValueError, match="other signals"):
        vehicle.engine.adopt(admitted, 0)


def test_of_two_campaigns_the_earlier_trigger_wants_its_pictures_first() -> None:
    budget = {"bytes_per_day": 1 << 40}
    vehicle = Vehicle().adopt(
        campaign("late", when(f"{SPEED} > 5"), clip={}, budget=budget),
        campaign("early", when(f"{PEDAL} > 5"), clip={}, budget=budget),
    )
    vehicle.feed(900, rows(MOTION, [100, 800], [0, 900], [0, 0]), rows(BRAKES, [200], [90]))
    assert [clip.campaign for clip in vehicle.clips] == ["early", "late"]


def test_a_ring_counts_what_was_needed_and_had_to_go() -> None:
    ring = RowRing([np.dtype(np.int64)], 10)
    ring.keep_from_ns = 5
    times = np.arange(10, dtype=np.int64)
    ring.append(times, [times])
    ring.append(times + 10, [times])
    assert (len(ring), ring.cut) == (10, 5)
