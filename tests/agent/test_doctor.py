"""The doctor finds each thing that can be wrong, says what to do, and lets a healthy agent go."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from agent.doctor import Gravity, diagnose
from agent.frames import FrameCounts
from agent.gallery import GalleryStatus
from agent.latency import Percentiles
from agent.learning.gates import Gate
from agent.learning.status import LearningStatus
from agent.perception import PerceptionStatus
from agent.redactor import PictureCounts, PictureStatus
from agent.signals.room import SignalRoomStatus
from agent.status import AgentStatus, ClockStatus, CloudStatus, PrivacyStatus, UpdatesStatus
from ecu.clock import SECOND_NS, SteppingClock
from ota.kinds import Kind
from ota.machine import State
from ota.updates import UpdateStatus
from telemetry.federated.examples import ExampleCounts
from telemetry.objects import ObjectCounts
from telemetry.records import Lane
from telemetry.signals import SignalStatus
from telemetry.spool.counts import LaneCounts, SpoolCounts
from telemetry.uplink.allowance import Held
from telemetry.uplink.meter import Meter
from telemetry.uplink.status import Counts, UplinkState, UplinkStatus

DAY_NS = 24 * 3600 * SECOND_NS
NOW_NS = 100 * SECOND_NS
LANES = tuple(
    LaneCounts(
        lane, offered=4, durable=4, pending=0, dropped={}, lost_in_crash=0, acknowledged=3, spooled=1, evicted={},
        quarantined={}, erased=0,
    )
    for lane in Lane
)  # fmt: skip
SPOOL = SpoolCounts(
    lanes=LANES, segments=1, free_segments=0, flash_bytes=4096, ledger_lost=False, books_lost=False,
    receipts_ignored=0, last_refusal=None, fault=None, why_full=None,
)  # fmt: skip
METER = Meter(SteppingClock(NOW_NS)).status()
UPLINK = UplinkStatus(UplinkState.CONNECTED, "", NOW_NS - SECOND_NS, True, 0, Counts(last_receipt_ns=NOW_NS), METER)
CLOUD = CloudStatus("receiver.example", "veh-1", "mqtt", 10 * DAY_NS, UPLINK)
FRAMES = FrameCounts(
    captured=9, received=9, processed=8, dropped_by_policy=1, dropped_late=0, lost_to_fault=0, in_flight=0
)
PERCEPTION = PerceptionStatus(
    camera="front", camera_pid=1, camera_fault=None, live_pid=2, standby_pid=3, model="drive-detect 2.0 (u8s8)",
    frames=FRAMES, law_2_holds=True, latency=Percentiles(9, 10.0, 20.0, 21.0), workers_replaced=0, cameras_replaced=0,
    trial=None,
)  # fmt: skip
HEALTHY = AgentStatus(
    version="0.1.0", pid=7, running_since_ns=0, lockstep=False, drive_ended=False,
    clock=ClockStatus(NOW_NS, 0, 0), perception=PERCEPTION, signals=SignalStatus(connected=True, reason=""),
    campaigns=SignalRoomStatus("", "", "", None),
    privacy=PrivacyStatus(4, {}, ("driving", "operation")), spool=SPOOL, law_1_holds=True, law_2_holds=True,
    law_6_holds=True, cloud=CLOUD, updates=None, gallery=None, learning=None, witness=None,
)  # fmt: skip


LONG_UP = replace(UPLINK, since_ns=NOW_NS - 3600 * SECOND_NS)


def uplink(state: UplinkState, reason: str = "because") -> CloudStatus:
    return replace(CLOUD, uplink=replace(UPLINK, state=state, reason=reason))


def silent_since(seconds: int) -> CloudStatus:
    return replace(CLOUD, uplink=replace(LONG_UP, counts=Counts(last_receipt_ns=NOW_NS - seconds * SECOND_NS)))


def test_a_healthy_agent_is_told_to_be() -> None:
    findings = diagnose(HEALTHY)
    assert findings
    assert {finding.gravity for finding in findings} == {Gravity.GOOD}


def test_what_is_held_back_is_said_with_when_it_goes() -> None:
    def found(until_ns: int | None) -> str:
        meter = replace(METER, held={"P2": Held("P2 waits.", until_ns)})
        told = replace(UPLINK, state=UplinkState.HELD_BACK, reason="P2 waits.", meter=meter)
        (finding,) = [one for one in diagnose(replace(HEALTHY, cloud=replace(CLOUD, uplink=told))) if one.advice]
        assert (finding.gravity, finding.subject, finding.words) == (Gravity.NOTE, "network", "P2 waits.")
        return finding.advice

    assert found(NOW_NS + DAY_NS // 2).startswith("It goes by itself in 12.0 hours")
    assert found(None).startswith("It goes by itself over a network that lets it")


@pytest.mark.parametrize(("until_ns", "when"), [(NOW_NS + DAY_NS // 4, "in 6.0 hours, or"), (None, "over a network")])
def test_a_release_that_waits_for_another_network_is_said_with_when_it_comes(until_ns: int | None, when: str) -> None:
    waits = UpdatesStatus((), "", 0, 0, 1, Held("Releases wait for another network.", until_ns))
    (finding,) = [one for one in diagnose(replace(HEALTHY, updates=waits)) if one.advice]
    assert (finding.gravity, finding.subject) == (Gravity.NOTE, "updates")
    assert finding.words == "Releases wait for another network."
    assert finding.advice.startswith(f"What is missing is fetched by itself {when}")


def test_a_count_of_the_days_bytes_that_is_not_kept_is_said() -> None:
    told = replace(UPLINK, meter=replace(METER, fault="can't be written down"))
    (finding,) = [one for one in diagnose(replace(HEALTHY, cloud=replace(CLOUD, uplink=told))) if one.advice]
    assert (finding.gravity, finding.subject) == (Gravity.BAD, "network")


def test_in_accepted_mode_no_receipt_is_missed_and_law_6_is_named() -> None:
    accepting = replace(CLOUD, uplink=replace(LONG_UP, law6_held=False))
    found = [finding for finding in diagnose(replace(HEALTHY, cloud=accepting)) if finding.gravity is not Gravity.GOOD]
    assert [(finding.gravity, finding.subject) for finding in found] == [(Gravity.NOTE, "law 6")]


COUNTS = PictureCounts(wanted=3, taken=2, pictures=4, dropped={"redactor_lost": 1}, waiting=0)
NO_FACES = PictureStatus(pid=None, model=None, counts=COUNTS, fault="the face model is refused", replaced=3)
KEPT = ObjectCounts(
    offered=4, durable=4, pending=0, dropped={}, stored=3, kept=1, unreadable=0, refused=0, evicted=0, erased=0,
    damaged={}, kept_bytes=100, ledger_lost=False, books_lost=False, last_refusal=None, fault=None,
)  # fmt: skip


def test_what_came_of_a_release_and_of_wanted_pictures_is_told() -> None:
    model = UpdateStatus(Kind.MODEL, State.ROLLED_BACK, None, None, "car: worse by more than the margin")
    told = replace(
        HEALTHY,
        updates=UpdatesStatus((model,), "rollback: offered release 3, installed 5", 0, 0),
        gallery=GalleryStatus(replace(NO_FACES, fault=""), 0, KEPT, None),
    )
    words = [finding.words for finding in diagnose(told) if finding.gravity is Gravity.NOTE]
    assert words == [
        "rollback: offered release 3, installed 5",
        "The last model was rolled_back: car: worse by more than the margin.",
        "1 wanted pictures were not taken (redactor_lost).",
    ]


EXAMPLES = ExampleCounts(found=10, offered=4, kept=12, kept_bytes=40_000, dropped={"expired": 2})
LEARNING = LearningStatus(
    plan="lights-1", closed=(), refusal="", fault="", source="drive", source_fault="", is_learning=False,
    examples={"green": 5, "red": 7}, store=EXAMPLES, unconfirmed={"crept": 3}, runs={}, told=0, waiting=False,
    first_loss=None, last_loss=None, last_cpu_ns=None,
)  # fmt: skip


def learns(**changes: Any) -> list[tuple[Gravity, str, str]]:
    found = diagnose(replace(HEALTHY, learning=replace(LEARNING, **changes)))
    return [(one.gravity, one.words, one.advice) for one in found if one.subject == "learning"]


def test_who_learns_without_a_hitch_has_nothing_to_be_told() -> None:
    assert learns() == []
    assert learns(is_learning=True) == []


@pytest.mark.parametrize("gate", Gate)
def test_each_gate_that_is_shut_is_named_with_what_opens_it(gate: Gate) -> None:
    ((gravity, words, advice),) = learns(closed=(gate.value,))
    assert gravity is Gravity.NOTE
    assert words == f"Plan lights-1 waits ({gate.value})."
    assert advice


def test_why_else_nothing_is_learned_is_told() -> None:
    told = learns(refusal="it ended", fault="the trainer died", source_fault="no sheet", waiting=True)
    assert [words for _, words, _ in told] == [
        "the trainer died", "no sheet", "it ended", "An update waits until the spool has it.",
    ]  # fmt: skip
    lost = replace(EXAMPLES, kept=11)
    assert learns(store=lost)[0][0] is Gravity.BAD


BAD = {
    "pairing": replace(HEALTHY, cloud=CloudStatus(None, None, "mqtt", None, None)),
    "clock": replace(HEALTHY, cloud=uplink(UplinkState.CLOCK_UNTRUSTED)),
    "link": replace(HEALTHY, cloud=uplink(UplinkState.WAITING)),
    "receipts": replace(HEALTHY, cloud=silent_since(31)),
    "certificate": replace(HEALTHY, cloud=replace(CLOUD, certificate_ends_ns=-1)),
    "law 1": replace(HEALTHY, law_1_holds=False),
    "flash": replace(HEALTHY, spool=replace(SPOOL, fault="the medium failed")),
    "law 2": replace(HEALTHY, perception=replace(PERCEPTION, law_2_holds=False)),
    "camera": replace(HEALTHY, perception=replace(PERCEPTION, camera_fault="unplugged")),
    "perception": replace(HEALTHY, perception=replace(PERCEPTION, live_pid=None)),
    "pictures": replace(HEALTHY, gallery=GalleryStatus(NO_FACES, 0, KEPT, None)),
    "objects": replace(HEALTHY, gallery=GalleryStatus(None, 0, replace(KEPT, stored=7), None)),
    "signals": replace(HEALTHY, signals=SignalStatus(connected=False, reason="nobody answers")),
}


@pytest.mark.parametrize("subject", BAD)
def test_each_thing_that_is_wrong_comes_first_and_alone(subject: str) -> None:
    findings = diagnose(BAD[subject])
    assert findings[0].subject == subject
    assert [finding.subject for finding in findings if finding.gravity is Gravity.BAD] == [subject]


@pytest.mark.parametrize("subject", sorted(BAD.keys() - {"camera", "signals"}))
def test_what_is_wrong_comes_with_what_to_do(subject: str) -> None:
    assert diagnose(BAD[subject])[0].advice


def test_a_wanted_picture_of_which_nobody_knows_what_became_is_wrong() -> None:
    lost = replace(NO_FACES, fault="", counts=replace(COUNTS, taken=1))
    finding = diagnose(replace(HEALTHY, gallery=GalleryStatus(lost, 0, KEPT, None)))[0]
    assert (finding.gravity, finding.subject) == (Gravity.BAD, "pictures")
    assert "accounted for" in finding.words
    assert finding.advice


def test_a_flash_that_takes_no_pictures_is_wrong() -> None:
    full = replace(KEPT, fault="the medium failed")
    finding = diagnose(replace(HEALTHY, gallery=GalleryStatus(None, 0, full, None)))[0]
    assert (finding.gravity, finding.subject, finding.words) == (Gravity.BAD, "flash", "the medium failed")


def test_a_link_that_has_only_just_come_back_owes_no_receipt_yet() -> None:
    since = replace(UPLINK, counts=Counts(last_receipt_ns=NOW_NS - 600 * SECOND_NS))
    assert {f.gravity for f in diagnose(replace(HEALTHY, cloud=replace(CLOUD, uplink=since)))} == {Gravity.GOOD}


def test_every_state_of_the_uplink_is_told() -> None:
    for state in UplinkState:
        assert any(
            f.subject in ("link", "clock", "network") for f in diagnose(replace(HEALTHY, cloud=uplink(state)))
        ), state


def test_a_revoked_vehicle_hears_whom_to_ask() -> None:
    finding = diagnose(replace(HEALTHY, cloud=uplink(UplinkState.UNAUTHORIZED)))[0]
    assert finding.gravity is Gravity.BAD
    assert "revoked" in finding.advice


def test_reasons_are_passed_on_in_the_words_they_came_in() -> None:
    findings = diagnose(replace(HEALTHY, cloud=uplink(UplinkState.WAITING, "localhost port 1 can't be reached")))
    assert "localhost port 1 can't be reached" in findings[0].words


def test_what_was_dropped_is_noted_with_its_reason() -> None:
    lanes = (replace(LANES[0], dropped={"queue_full": 7}), *LANES[1:])
    findings = diagnose(replace(HEALTHY, spool=replace(SPOOL, lanes=lanes)))
    assert any("7 records dropped (queue_full)" in finding.words for finding in findings)


def test_an_owner_who_consented_to_nothing_is_the_reason_why_nothing_leaves() -> None:
    findings = diagnose(replace(HEALTHY, privacy=PrivacyStatus(0, {"no_consent": 5}, ("operation",))))
    assert {finding.subject for finding in findings if finding.gravity is Gravity.NOTE} == {"privacy", "consent"}


def test_a_status_survives_its_own_json() -> None:
    assert msgspec.convert(msgspec.json.decode(msgspec.json.encode(HEALTHY)), AgentStatus) == HEALTHY
