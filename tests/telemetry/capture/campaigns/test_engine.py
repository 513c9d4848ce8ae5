"""What the engine tells: exact to the sample, each once, and the same however its samples were cut."""

from __future__ import annotations

from tests.telemetry.capture.campaigns.world import (
    BRAKES, CABIN, GEAR, MOTION, PEDAL, SPEED, TEMPERATURE, LastKnownState, SignalBlock, Triggered, Vehicle, anomaly,
    campaign, periodic, rows, when,
)  # fmt: skip


def motion(t_ms: list[float], speeds: list[int]):
    return rows(MOTION, t_ms, speeds, [1] * len(t_ms))


def test_a_periodic_campaign_tells_every_sample_of_each_period_once_it_is_over() -> None:
    vehicle = Vehicle().adopt(campaign("drive", periodic(1000), SPEED))
    vehicle.feed(900, motion([0, 500, 900], [1, 2, 3]))
    assert vehicle.records == []
    vehicle.feed(1000, motion([1000], [4]))
    assert vehicle.samples() == [(0, SPEED, 1), (500_000_000, SPEED, 2), (900_000_000, SPEED, 3)]
    vehicle.feed(2000)
    assert vehicle.times_ms(SPEED) == [0, 500, 900, 1000]


def test_only_what_was_wanted_is_told() -> None:
    vehicle = Vehicle().adopt(campaign("drive", periodic(1000), GEAR))
    vehicle.feed(1000, motion([5], [1]), rows(BRAKES, [7], [3]))
    assert vehicle.samples() == [(5_000_000, GEAR, 1)]
    assert vehicle.engine.wanted == {MOTION}


def test_a_trigger_tells_the_window_around_its_exact_instant() -> None:
    vehicle = Vehicle().adopt(campaign("fast", when(f"{SPEED} > 5", pre_ms=100, post_ms=200), SPEED, PEDAL))
    times = [20.0 * i for i in range(100)]
    vehicle.feed(2000, motion(times, [0] * 50 + [100] * 50), rows(BRAKES, [50.0 * i for i in range(40)], range(40)))
    assert vehicle.triggers_ms() == [1000]
    assert vehicle.times_ms(SPEED) == [900 + 20.0 * i for i in range(16)]
    assert vehicle.times_ms(PEDAL) == [900 + 50.0 * i for i in range(7)]
    (triggered,) = vehicle.of(Triggered)
    assert triggered.event == Triggered("fast", 1, 1, "condition", {SPEED: 10.0, PEDAL: 10.0})


def test_a_cold_group_may_come_late() -> None:
    vehicle = Vehicle().adopt(campaign("fast", when(f"{SPEED} > 5", pre_ms=100, post_ms=200), SPEED, PEDAL))
    assert (vehicle.engine.hot, vehicle.engine.wanted) == ({MOTION}, {MOTION, BRAKES})
    vehicle.feed(1000, motion([980, 1000], [0, 100]), hot_only=True)
    assert vehicle.engine.behind_ns == 1_000_000_000
    vehicle.feed(1000, rows(BRAKES, [950, 1000], [7, 9]))
    assert vehicle.engine.behind_ns is None
    assert vehicle.of(Triggered)[0].event.signals == {SPEED: 10.0, PEDAL: 4.5}
    vehicle.feed(1300, motion([1200, 1201], [1, 1]), hot_only=True)
    assert not vehicle.of(SignalBlock)
    vehicle.feed(1300, rows(BRAKES, [1200, 1201], [7, 9]))
    assert vehicle.times_ms(SPEED) == [980, 1000, 1200]
    assert vehicle.times_ms(PEDAL) == [950, 1000, 1200]


def test_the_last_known_state_has_values_and_ages() -> None:
    vehicle = Vehicle().adopt(campaign("state", {"kind": "last_known", "period_ms": 1000}, SPEED, TEMPERATURE))
    vehicle.feed(1000, motion([100, 600], [10, 20]), rows(CABIN, [300], [21.5]))
    vehicle.feed(5000, motion([2500], [30]))
    states = [record.event for record in vehicle.of(LastKnownState)]
    assert [state.signals for state in states] == [
        {SPEED: (2.0, 400), TEMPERATURE: (21.5, 700)},
        {SPEED: (3.0, 500), TEMPERATURE: (21.5, 2700)},
    ]


def test_on_change_tells_what_moved() -> None:
    trigger = {"kind": "on_change", "beyond": 0.15, "min_interval_ms": 0}
    vehicle = Vehicle().adopt(campaign("changes", trigger, SPEED, GEAR))
    vehicle.feed(2000, motion([0, 20, 40, 60, 80], [10, 11, 12, 12, 5]))
    assert vehicle.times_ms(SPEED) == [0, 40, 80]
    assert vehicle.times_ms(GEAR) == [0]


def test_anomalies() -> None:
    vehicle = Vehicle().adopt(
        campaign("stuck", anomaly(SPEED, {"test": "stuck", "for_ms": 100})),
        campaign("range", anomaly(SPEED, {"test": "out_of_range"})),
        campaign("rate", anomaly(SPEED, {"test": "implausible_rate", "max_per_s": 100})),
        campaign("model", anomaly(SPEED, {"test": "residual", "expected": f"{PEDAL} * 2", "limit": 1, "for_ms": 40})),
    )
    vehicle.feed(
        1000,
        motion([20.0 * i for i in range(12)], [1, 2, 3, 4, 4, 4, 4, 4, 4, -5, 90, 91]),
        rows(BRAKES, [0, 50, 100, 150, 200], [0, 0, 0, 0, 0]),
    )
    assert vehicle.triggers_ms("stuck") == [160]
    assert vehicle.triggers_ms("range") == [180]
    assert vehicle.triggers_ms("rate") == [200]
    assert vehicle.triggers_ms("model") == []
