"""Other names and coarse time: what ties records together is forgotten in time, and order is kept."""

from __future__ import annotations

import itertools
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecu.clock import MILLISECOND_NS, SECOND_NS
from telemetry.privacy import Privacy, PrivacyPolicy
from telemetry.privacy.aliases import Aliases, same_each_time
from telemetry.privacy.policy import ROUNDINGS_MS
from telemetry.privacy.stage import rounded
from telemetry.records import (
    AnyEvent,
    Lane,
    LastKnownState,
    NewTrack,
    PerceptionSummary,
    PictureTaken,
    Purpose,
    Record,
    Triggered,
    record_of,
)

HOUR_NS = 3600 * SECOND_NS
EVERYTHING = frozenset(Purpose)
BOX = (0.0, 0.0, 1.0, 1.0)


def stage(**asked: object) -> Privacy:
    return Privacy(PrivacyPolicy.model_validate({"consents": EVERYTHING, **asked}), os.urandom)


def told(privacy: Privacy, record: Record) -> AnyEvent:
    outcome = privacy.apply(record)
    assert isinstance(outcome, Record)
    return outcome.event


def seen(privacy: Privacy, t_ns: int, frame_id: int = 70, track_id: int = 7) -> NewTrack:
    event = told(privacy, record_of(t_ns, NewTrack("front", frame_id, track_id, "car", 0.9, BOX)))
    assert isinstance(event, NewTrack)
    return event


def test_within_its_hours_a_picture_still_finds_its_track_and_after_them_nothing_does() -> None:
    privacy = stage(pseudonym_rotate_h=1.0)
    before, again, later = (seen(privacy, t_ns) for t_ns in (0, HOUR_NS - 1, HOUR_NS))
    assert before == again
    assert {before.frame_id, before.track_id, 70, 7}.isdisjoint({later.frame_id, later.track_id})
    picture = told(privacy, record_of(5, PictureTaken("front", 70, "ab" * 32, 1, 1, 1, 0, "new_track")))
    assert isinstance(picture, PictureTaken)
    assert picture.frame_id == before.frame_id
    summary = told(privacy, record_of(5, PerceptionSummary("front", 70, 1, 1, {"car": 1}, 0.9)))
    assert isinstance(summary, PerceptionSummary)
    assert summary.last_frame_id == before.frame_id


def test_each_start_and_each_kind_of_number_has_names_of_its_own() -> None:
    first, second = (seen(stage(pseudonym_rotate_h=24.0), 1, 7, 7) for _ in range(2))
    assert len({first.frame_id, first.track_id, second.frame_id, second.track_id, 7}) == 5


def test_a_key_that_was_forgotten_never_comes_back() -> None:
    # Mutation: keys that are derived from one that stays.
    aliases = Aliases(1.0, os.urandom)
    named = [aliases.of(hour * HOUR_NS, "frame", 1) for hour in (0, 1, 0, 2, 3, 0)]
    assert named[0] == named[2]
    assert len(set(named)) == 5
    assert len(aliases._keys) <= 3


def test_what_the_runtime_says_of_itself_keeps_its_numbers_and_triggers_are_told_apart_by_campaign() -> None:
    privacy = stage(pseudonym_rotate_h=1.0)
    numbers = set()
    for campaign in ("a", "b"):
        event = told(privacy, Record(Lane.P1, Purpose.DRIVING, 1, Triggered(campaign, 1, 7, "", {})))
        assert isinstance(event, Triggered)
        numbers.add(event.number)
    assert len(numbers | {7}) == 3


def test_in_lockstep_the_same_drive_has_the_same_names() -> None:
    policy = PrivacyPolicy(consents=EVERYTHING, pseudonym_rotate_h=1.0)
    assert seen(Privacy(policy, same_each_time), 1) == seen(Privacy(policy, same_each_time), 1)


def test_a_campaigns_picture_names_its_trigger_as_the_trigger_does() -> None:
    """Mutation: the number stays in the words, and counts on for as long as the campaign runs."""
    privacy = stage(pseudonym_rotate_h=1.0)
    event = told(privacy, Record(Lane.P1, Purpose.DRIVING, 1, Triggered("pot-holes", 1, 7, "", {})))
    assert isinstance(event, Triggered)
    for reason, expected in (("pot-holes 7", "pot-holes {}"), ("hard_brake, pot-holes 7", "hard_brake, pot-holes {}")):
        picture = told(privacy, record_of(5, PictureTaken("front", 70, "ab" * 32, 1, 1, 1, 0, reason)))
        assert isinstance(picture, PictureTaken)
        assert picture.reason == expected.format(event.number)


@pytest.mark.parametrize("asked", [{"pseudonym_rotate_h": 1.0}, {"time_round_ms": 10}])
def test_no_stage_gives_names_without_chance(asked: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="entropy"):
        Privacy(PrivacyPolicy.model_validate(asked))


@given(st.sampled_from(ROUNDINGS_MS), st.lists(st.integers(0, 10**15), min_size=1, max_size=20))
def test_stamps_are_no_finer_than_asked_and_keep_their_order(round_ms: int, stamps: list[int]) -> None:
    privacy = stage(time_round_ms=round_ms)
    outcomes = [privacy.apply(record_of(t_ns, PerceptionSummary("c", 1, 1, 1, {}, 0.5))) for t_ns in sorted(stamps)]
    rounded_ns = [outcome.captured_ns for outcome in outcomes if isinstance(outcome, Record)]
    assert rounded_ns == sorted(rounded_ns)
    for exact_ns, coarse_ns in zip(sorted(stamps), rounded_ns, strict=True):
        assert coarse_ns % (round_ms * MILLISECOND_NS or 1) == 0
        assert 0 <= exact_ns - coarse_ns < max(1, round_ms * MILLISECOND_NS)


def test_coarse_time_isnt_told_finer_by_a_frames_number_or_an_age() -> None:
    privacy = stage(time_round_ms=1000)
    assert seen(privacy, 1, frame_id=70).frame_id != 70
    state = told(privacy, Record(Lane.P2, Purpose.DRIVING, 5, LastKnownState("c", 1, {"Vehicle.A": (1.0, 1999)})))
    assert isinstance(state, LastKnownState)
    assert state.signals == {"Vehicle.A": (1.0, 1000)}


def test_each_rounding_divides_the_next() -> None:
    """Otherwise the coarser of two would tell something that the finer hides."""
    steps = [ms for ms in ROUNDINGS_MS if ms]
    assert all(coarse % fine == 0 for fine, coarse in itertools.pairwise(steps))
    assert rounded(1234, 0) == 1234
