"""What a light showed is named only where what the vehicle then did leaves no doubt; everything else is counted."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecu.clock import MILLISECOND_NS, SECOND_NS
from telemetry.federated.confirmation import Confirmation, ConfirmationRules, Confirmed, Phase, Unconfirmed
from telemetry.privacy.pictures import RedactedCrop

STEP_S = 0.25


def crop(at_s: float, track_id: int = 1) -> RedactedCrop:
    return RedactedCrop(b"x" * 12, 2, 0, round(at_s * SECOND_NS), track_id)


class Drive:
    """Speeds every quarter of a second, crops where the test has them."""

    def __init__(self, rules: ConfirmationRules | None = None) -> None:
        self.it = Confirmation(rules)
        self.now_s = 0.0
        self.told: list[Confirmed] = []

    def goes(self, seconds: float, kmh: float, crops_every_s: float = 0.0, track_id: int = 1) -> Drive:
        end_s, next_s = self.now_s + seconds, self.now_s
        while self.now_s < end_s:
            self.told += self.it.on_speed(round(self.now_s * SECOND_NS), kmh)
            if crops_every_s and self.now_s >= next_s:
                self.it.on_crop(crop(self.now_s, track_id))
                next_s += crops_every_s
            self.now_s += STEP_S
        assert self.it.offered == self.it.confirmed + self.it.dropped.total() + self.it.waiting
        assert self.it.confirmed == len(self.told)
        return self

    @property
    def named(self) -> list[tuple[float, str]]:
        return [(one.crop.captured_ns / SECOND_NS, one.label) for one in self.told]

    @property
    def dropped(self) -> dict[str, int]:
        return {why.value: number for why, number in self.it.dropped.items() if number}


def test_red_while_it_stood_green_once_it_drove_off_and_nothing_of_just_before() -> None:
    drive = Drive().goes(2, 30).goes(12, 0, 2.0).goes(1, 5, 0.5).goes(1, 20)
    # It stood from 2 s to 14 s; what was seen from 11 s on, the light may have changed before the driver did.
    assert drive.named == [
        (2.0, "red"), (4.0, "red"), (6.0, "red"), (8.0, "red"), (10.0, "red"), (14.5, "green"),
    ]  # fmt: skip
    assert drive.dropped == {"doubtful": 2}
    assert drive.it.phase is Phase.MOVING


def test_on_the_move_nothing_is_confirmed() -> None:
    assert Drive().goes(20, 30, 1.0).dropped == {"moving": 20}


def test_who_creeps_in_a_queue_confirms_nothing() -> None:
    drive = Drive().goes(10, 0, 2.0).goes(2, 5).goes(10, 0, 2.0)
    assert drive.named == []
    assert drive.dropped == {"crept": 5}
    drive.goes(1, 5).goes(1, 20)
    assert {label for _, label in drive.named} == {"red"}
    assert min(at for at, _ in drive.named) == 12.0


def test_who_takes_too_long_to_drive_off_confirms_nothing() -> None:
    drive = Drive().goes(10, 0, 2.0).goes(9, 8).goes(5, 30)
    assert (drive.named, drive.dropped) == ([], {"crept": 5})


def test_a_short_stop_confirms_nothing() -> None:
    drive = Drive().goes(3.75, 0, 2.0).goes(1, 5).goes(5, 30)
    assert (drive.named, drive.dropped) == ([], {"brief": 2})


def test_two_lights_confirm_nothing() -> None:
    drive = Drive().goes(6, 0, 2.0, track_id=1).goes(4, 0, 2.0, track_id=2).goes(1, 5).goes(1, 20)
    assert (drive.named, drive.dropped) == ([], {"ambiguous": 5})


def test_a_second_light_is_remembered_however_many_crops_of_the_other_follow() -> None:
    drive = Drive(ConfirmationRules(most=3)).goes(2, 0, 2.0, track_id=2).goes(12, 0, 2.0, track_id=1)
    drive.goes(1, 5).goes(1, 20)
    assert drive.named == []
    # All crops of the second one had been crowded out.
    assert drive.dropped == {"crowded": 4, "ambiguous": 3}
    # What was seen at the stop before says nothing about this one.
    assert drive.goes(12, 0, 2.0).goes(1, 5).goes(1, 20).named != []


def test_of_one_light_that_it_drives_away_from_few_are_told() -> None:
    drive = Drive().goes(12, 0, 2.0).goes(7, 10, 0.25).goes(1, 20)
    assert [label for _, label in drive.named].count("green") == 4


def test_what_isnt_confirmed_within_its_time_is_dropped() -> None:
    rules = ConfirmationRules(held_s=10.0)
    drive = Drive(rules).goes(1, 0, 2.0).goes(11, 0)
    assert (drive.it.waiting, drive.dropped) == (0, {"late": 1})
    # Also when the vehicle tells no speed any more: the next crop asks.
    drive = Drive(rules).goes(1, 0, 2.0)
    drive.it.on_crop(crop(10.5))
    assert drive.dropped == {"late": 1}


@pytest.mark.parametrize("unknown", [math.nan, math.inf])
def test_a_speed_that_the_vehicle_doesnt_know_confirms_nothing(unknown: float) -> None:
    drive = Drive().goes(10, 0, 2.0).goes(STEP_S, unknown).goes(1, 5).goes(1, 20)
    assert (drive.named, drive.dropped) == ([], {"unknown": 5})


def test_a_gap_in_what_is_known_confirms_nothing() -> None:
    drive = Drive().goes(10, 0, 2.0)
    drive.now_s += 0.5
    drive.goes(1, 0).goes(1, 5).goes(1, 20)
    assert (drive.named, drive.dropped) == ([], {"unknown": 5})


def test_of_a_long_stop_few_are_held() -> None:
    rules = ConfirmationRules(most=4, held_s=1000)
    drive = Drive(rules).goes(30, 0, 0.5)
    assert drive.it.waiting == 4
    assert drive.dropped == {"alike": 45, "crowded": 11}


def test_a_crop_that_comes_late_is_of_its_own_time() -> None:
    drive = Drive().goes(10, 0).goes(1, 5)
    drive.it.on_crop(crop(2.0))
    drive.it.on_crop(crop(10.75))
    assert drive.goes(1, 20).named == [(2.0, "red"), (10.75, "green")]


def test_speeds_that_run_backwards_say_nothing() -> None:
    drive = Drive().goes(10, 0, 2.0)
    assert drive.it.on_speed(5 * SECOND_NS, 50.0) == []
    assert drive.it.phase is Phase.STANDING


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("speed"), st.sampled_from([0.0, 0.0, 0.0, 5.0, 20.0, 20.0, math.nan])),
        st.tuples(st.just("crop"), st.sampled_from([1, 1, 1, 2])),
        st.tuples(st.just("time"), st.sampled_from([400, 400, 5000])),
    ),
    max_size=80,
)


@given(events=EVENTS)
def test_every_crop_is_confirmed_dropped_or_waits_and_red_only_while_it_stood(events: list[tuple[str, float]]) -> None:
    it, now_ns, offered = Confirmation(ConfirmationRules(stand_s=0.5, doubt_s=0.3, most=5)), 0, 0
    still_at: dict[int, bool] = {}
    for kind, value in events:
        now_ns += 100 * MILLISECOND_NS
        match kind:
            case "speed":
                for told in it.on_speed(now_ns, value):
                    before = max((t for t in still_at if t <= told.crop.captured_ns), default=None)
                    assert before is not None
                    assert still_at[before] == (told.label == "red")
                still_at[now_ns] = value == 0.0
            case "crop":
                offered += 1
                it.on_crop(RedactedCrop(b"", 0, 0, now_ns, int(value)))
            case _:
                now_ns += int(value) * MILLISECOND_NS
        assert it.offered == offered == it.confirmed + it.dropped.total() + it.waiting
        assert it.waiting <= 5


def test_what_is_forgotten_is_never_confirmed_and_the_next_light_is() -> None:
    drive = Drive().goes(10, 0, 2.0)
    drive.it.forget()
    assert drive.it.waiting == 0
    assert drive.dropped["purged"] == 5
    assert drive.goes(1, 5).goes(1, 20).named == []


def test_every_reason_has_a_way_to_come() -> None:
    told = {"moving", "late", "crept", "brief", "doubtful", "ambiguous", "alike", "crowded", "purged", "unknown"}
    assert {why.value for why in Unconfirmed} == told
