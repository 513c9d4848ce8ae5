"""The capture rules as laws over whole drives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ecu.clock import MILLISECOND_NS, SECOND_NS
from telemetry.capture import CaptureConfig, CaptureRules, TrackSeen, View
from telemetry.records import (
    HardBrake,
    Lane,
    LowConfidence,
    NewTrack,
    PerceptionSummary,
    Purpose,
    Record,
    VehicleSummary,
    encode_event,
)
from telemetry.signals import SignalState, vss

Step = tuple[int, dict[str, float]]

values = st.dictionaries(
    st.sampled_from([vss.SPEED, vss.LONGITUDINAL, vss.LATITUDE, "Vehicle.Secret"]),
    st.floats(-12, 12, allow_nan=False),
)
steps = st.lists(st.tuples(st.integers(0, 120 * MILLISECOND_NS), values), max_size=60)


sightings = st.dictionaries(
    st.integers(0, 5),
    st.tuples(st.sampled_from(["car", "person"]), st.sampled_from([0.1, 0.49, 0.5, 0.9]), st.integers(1, 9)),
    max_size=4,
)


def as_views(frames: Sequence[tuple[int, dict[int, tuple[str, float, int]]]]) -> list[View]:
    t_ns, views = 0, []
    for frame_id, (gap_ms, seen) in enumerate(frames):
        t_ns += gap_ms * MILLISECOND_NS
        views.append(View("front", frame_id, t_ns, tuple(a_track(i, *what) for i, what in seen.items())))
    return views


def a_track(track_id: int, label: str = "car", score: float = 0.9, hits: int = 3) -> TrackSeen:
    return TrackSeen(track_id, label, score, (0, 0, 1, 1), hits)


views = st.lists(st.tuples(st.integers(1, 90), sightings), max_size=40).map(as_views)


def drive(steps: Sequence[Step], config: CaptureConfig | None = None) -> list[Record]:
    rules, state, t_ns = CaptureRules(config), SignalState(), 0
    told: list[Record] = []
    for gap_ns, signals in steps:
        t_ns += gap_ns
        state.put(t_ns, signals)
        told += rules.on_signals(t_ns, state)
    return told


def events(records: Sequence[Record], kind: type[object]) -> list[Record]:
    return [record for record in records if isinstance(record.event, kind)]


def braking(*decelerations: float, gap_ms: int = 50) -> list[Step]:
    return [
        (gap_ms * MILLISECOND_NS, {vss.LONGITUDINAL: -d, vss.SPEED: 80.0, vss.LATITUDE: 1.0}) for d in decelerations
    ]


@given(steps, views)
def test_the_same_samples_give_the_same_records_however_the_streams_interleave(
    steps: list[Step], views: list[View]
) -> None:
    def tell(order: Sequence[str]) -> tuple[list[bytes], list[bytes]]:
        rules, state, t_ns = CaptureRules(), SignalState(), 0
        signals, seen = iter(steps), iter(views)
        of_signals, of_views = [], []
        for turn in order:
            if turn == "signals":
                gap_ns, sample = next(signals)
                t_ns += gap_ns
                state.put(t_ns, sample)
                of_signals += [encode_event(r.event) for r in rules.on_signals(t_ns, state)]
            else:
                of_views += [encode_event(r.event) for r in rules.on_view(next(seen))]
        return of_signals, of_views

    turns = ["signals"] * len(steps) + ["view"] * len(views)
    assert tell(turns) == tell(turns[::-1])


@given(steps)
def test_vehicle_summaries_come_once_a_period_on_sample_times_with_fresh_named_signals_only(steps: list[Step]) -> None:
    told = events(drive(steps), VehicleSummary)
    times = {sum(gap for gap, _ in steps[: i + 1]) for i in range(len(steps))}
    assert {r.captured_ns for r in told} <= times
    assert max(Counter(r.captured_ns // (50 * MILLISECOND_NS) for r in told).values(), default=0) <= 1
    for record in told:
        assert (record.lane, record.purpose) == (Lane.P2, Purpose.DRIVING)
        assert isinstance(record.event, VehicleSummary)
        assert record.event.signals
        assert "Vehicle.Secret" not in record.event.signals


def test_a_twenty_hertz_source_gives_a_summary_for_each_sample() -> None:
    assert len(events(drive(braking(*[0.0] * 100)), VehicleSummary)) == 100
    config = CaptureConfig(vehicle_summary_period_ms=200)
    assert len(events(drive(braking(*[0.0] * 100), config), VehicleSummary)) == 26


def test_a_hard_brake_is_told_at_its_onset_with_what_the_vehicle_said() -> None:
    told = events(drive(braking(0, 3.9, 4.0, 7.0, 5.0, 0)), HardBrake)
    assert told == [Record(Lane.P0, Purpose.SAFETY, 150 * MILLISECOND_NS, HardBrake(4.0, 80.0, {vss.LATITUDE: 1.0}))]


def test_a_brake_that_hovers_around_the_limit_is_one_brake() -> None:
    # Mutation: without the release threshold each crossing of the limit after the cooldown is a brake of its own.
    assert len(events(drive(braking(*[4.1, 3.9] * 100)), HardBrake)) == 1
    assert len(events(drive(braking(*([4.1] + [0.0] * 50) * 3)), HardBrake)) == 3


def test_two_brakes_within_the_cooldown_are_told_once_and_a_long_second_one_when_it_is_over() -> None:
    assert len(events(drive(braking(5, 0, 5, 0, 5, 0)), HardBrake)) == 1
    told = events(drive(braking(5, 0, *[5] * 60)), HardBrake)
    assert [r.captured_ns // MILLISECOND_NS for r in told] == [50, 2_050]


def test_a_stale_acceleration_brakes_nobody() -> None:
    assert events(drive(braking(8.0)), HardBrake)
    rules, state = CaptureRules(), SignalState()
    state.put(0, {vss.LONGITUDINAL: -8.0})
    assert events(rules.on_signals(SECOND_NS, state), HardBrake) == []


def test_a_brake_tells_no_speed_that_isnt_named() -> None:
    config = CaptureConfig(signals=(vss.LATITUDE,))
    (told,) = events(drive(braking(8.0), config), HardBrake)
    assert told.event == HardBrake(8.0, None, {vss.LATITUDE: 1.0})


def test_a_brake_at_an_unknown_speed_is_told_all_the_same() -> None:
    (told,) = events(drive([(1, {vss.LONGITUDINAL: -8.0})]), HardBrake)
    assert told.event == HardBrake(8.0, None, {})


@given(views)
def test_every_track_is_told_as_new_once_in_its_life_and_only_when_steady(views: list[View]) -> None:
    rules, told = CaptureRules(), set()
    hits: dict[int, int] = {}
    for view in views:
        for track in view.tracks:
            if track.hits < hits.get(track.track_id, 0):
                told.discard(track.track_id)
            hits[track.track_id] = track.hits
        new = events(rules.on_view(view), NewTrack)
        for record in new:
            assert (record.lane, record.purpose, record.captured_ns) == (Lane.P1, Purpose.PERCEPTION, view.t_ns)
            assert isinstance(record.event, NewTrack)
            assert record.event.track_id not in told
            told.add(record.event.track_id)
        assert {t.track_id for t in view.tracks if t.hits >= 3} <= told


@given(views)
def test_doubts_are_told_of_steady_unsure_tracks_and_not_too_often(views: list[View]) -> None:
    rules = CaptureRules(CaptureConfig(low_confidence_cooldown_ms=200))
    hits: dict[int, int] = {}
    told_ns: dict[int, int] = {}
    for view in views:
        told = {r.event.track_id for r in rules.on_view(view) if isinstance(r.event, LowConfidence)}
        for track in view.tracks:
            if track.hits < hits.get(track.track_id, 0):
                told_ns.pop(track.track_id, None)  # a new life
            hits[track.track_id] = track.hits
            cools = view.t_ns - told_ns.get(track.track_id, -(10**12)) < 200 * MILLISECOND_NS
            assert (track.track_id in told) == (track.hits >= 3 and track.score < 0.5 and not cools)
            if track.track_id in told:
                told_ns[track.track_id] = view.t_ns


def test_a_doubt_is_told_at_once_and_again_after_the_cooldown() -> None:
    rules = CaptureRules()
    told = []
    for frame_id in range(200):
        track = a_track(1, score=0.49, hits=frame_id + 1)
        told += events(rules.on_view(View("front", frame_id, frame_id * 40 * MILLISECOND_NS, (track,))), LowConfidence)
    assert [record.captured_ns // MILLISECOND_NS for record in told] == [80, 5_080]
    assert told[0].event == LowConfidence("front", 2, 1, "car", 0.49)


@given(views)
def test_perception_summaries_account_for_every_frame_up_to_the_last_one_told(views: list[View]) -> None:
    rules = CaptureRules()
    told = [r for view in views for r in events(rules.on_view(view), PerceptionSummary)]
    summaries = [r.event for r in told if isinstance(r.event, PerceptionSummary)]
    waiting = len(views) - sum(s.frames for s in summaries)
    assert waiting == sum(1 for v in views if summaries and v.frame_id > summaries[-1].last_frame_id)
    assert max(Counter(r.captured_ns // (100 * MILLISECOND_NS) for r in told).values(), default=0) <= 1
    start = 0
    for summary in summaries:
        window = [v for v in views if start <= v.frame_id <= summary.last_frame_id]
        seen = [track for view in window for track in view.tracks]
        assert summary.tracks == len({t.track_id for t in seen}) == sum(summary.classes.values())
        assert summary.mean_score == pytest.approx(sum(t.score for t in seen) / len(seen) if seen else 0.0)
        start = summary.last_frame_id + 1


def test_what_a_camera_remembers_is_bounded_and_what_it_forgets_is_counted() -> None:
    rules = CaptureRules(CaptureConfig(max_tracks=4, max_cameras=2))
    crowd = tuple(a_track(i) for i in range(10))
    told = rules.on_view(View("front", 0, 0, crowd))
    assert len(events(told, NewTrack)) == 10
    assert rules.forgotten == 6
    (summary,) = events(told, PerceptionSummary)
    assert isinstance(summary.event, PerceptionSummary)
    assert summary.event.tracks == 4
    # The four seen last are known still.
    assert events(rules.on_view(View("front", 1, 1, crowd[6:])), NewTrack) == []
    assert rules.on_view(View("rear", 0, 0, ()))
    assert rules.on_view(View("side", 0, 0, ())) == ()
    assert rules.ignored == 1


def test_the_object_unseen_for_longest_is_forgotten_first() -> None:
    rules = CaptureRules(CaptureConfig(max_tracks=3))
    for t_ns, track_id in enumerate([1, 2, 3, 2, 1]):
        rules.on_view(View("front", t_ns, t_ns, (a_track(track_id),)))
    assert rules.forgotten == 0
    rules.on_view(View("front", 8, 8, (a_track(4),)))
    told = events(rules.on_view(View("front", 9, 9, (a_track(1), a_track(2), a_track(3)))), NewTrack)
    assert [record.event.track_id for record in told if isinstance(record.event, NewTrack)] == [3]


def test_cameras_do_not_share_their_tracks() -> None:
    rules = CaptureRules()
    track = a_track(1)
    for camera in ("front", "rear"):
        assert len(events(rules.on_view(View(camera, 0, 0, (track,))), NewTrack)) == 1


def test_a_view_that_is_not_newer_tells_nothing() -> None:
    rules = CaptureRules()
    track = a_track(1)
    assert rules.on_view(View("front", 5, 1_000, (track,)))
    other = a_track(2)
    assert rules.on_view(View("front", 4, 900, (other,))) == ()
    assert rules.on_view(View("front", 5, 1_000, (other,))) == ()
    assert rules.on_view(View("front", 6, 1_001, (other,)))


def test_a_tracker_that_starts_anew_has_new_objects_under_old_numbers() -> None:
    rules = CaptureRules()
    lives = [(0, 3), (1, 4), (2, 1), (3, 2), (4, 3)]
    told = [
        frame_id
        for frame_id, hits in lives
        if events(rules.on_view(View("c", frame_id, frame_id, (a_track(1, hits=hits),))), NewTrack)
    ]
    assert told == [0, 4]


def test_the_config_is_closed_and_sensible() -> None:
    for wrong in ({"hard_brake": 3}, {"hard_brake_release_ms2": 4.1}, {"new_track_hits": 0}):
        with pytest.raises(ValidationError):
            CaptureConfig.model_validate(wrong)
    assert all(field.description for field in CaptureConfig.model_fields.values())
