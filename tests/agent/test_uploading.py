"""Why nothing is uploading: each cause is named once, with what to do, and before what follows from it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.doctor import Finding, Gravity, diagnose
from agent.gallery import GalleryStatus
from agent.signals.room import SignalRoomStatus
from agent.status import AgentStatus, CloudStatus, PrivacyStatus
from agent.uploading import _DROPPED, _EVICTED, _QUARANTINED, _WITHHELD
from telemetry.objects.status import Counts as ObjectUplinkCounts
from telemetry.objects.status import ObjectUplinkState, ObjectUplinkStatus
from telemetry.privacy.stage import Reason
from telemetry.records import Lane
from telemetry.spool.counts import Dropped, Evicted, LaneCounts, Quarantined
from telemetry.uplink.status import UplinkState
from tests.agent.test_doctor import HEALTHY, KEPT, LANES, SPOOL, silent_since, uplink

UNPAIRED = CloudStatus(None, None, "mqtt", None, None)


def withheld(reason: str, **more: object) -> PrivacyStatus:
    return replace(PrivacyStatus(0, {reason: 7}, ("driving", "operation")), **more)  # type: ignore[arg-type]


def lane(number: Lane, **changes: object) -> tuple[LaneCounts, ...]:
    return tuple(replace(one, **changes) if one.lane is number else one for one in LANES)  # type: ignore[arg-type]


def sends_pictures(state: ObjectUplinkState, reason: str) -> GalleryStatus:
    return GalleryStatus(None, 0, KEPT, ObjectUplinkStatus(state, reason, 0, None, 0, ObjectUplinkCounts()))


CAUSES: dict[str, tuple[AgentStatus, Gravity, str, str, str]] = {
    "link none": (
        replace(HEALTHY, cloud=CloudStatus(None, None, "none", None, None)),
        Gravity.NOTE, "link", "switched off", "[link] kind",
    ),
    "never paired": (replace(HEALTHY, cloud=UNPAIRED), Gravity.BAD, "pairing", "nobody to send to", "outrider pair"),
    "clock": (
        replace(HEALTHY, cloud=uplink(UplinkState.CLOCK_UNTRUSTED)), Gravity.BAD, "clock", "because", "GNSS",
    ),
    "unauthorized": (
        replace(HEALTHY, cloud=uplink(UplinkState.UNAUTHORIZED)), Gravity.BAD, "link", "doesn't let", "revoked",
    ),
    "no network": (
        replace(HEALTHY, cloud=uplink(UplinkState.WAITING)), Gravity.BAD, "link", "Not connected", "wait on flash",
    ),
    "throttled": (
        replace(HEALTHY, cloud=uplink(UplinkState.THROTTLED)), Gravity.NOTE, "link", "patience", "by itself",
    ),
    "no consent": (
        replace(HEALTHY, privacy=withheld(Reason.NO_CONSENT)),
        Gravity.NOTE, "privacy", "Nothing passed; all 7 records were dropped for want of consent", "consents",
    ),
    "everything denied": (
        replace(HEALTHY, privacy=withheld(Reason.DENIED)), Gravity.NOTE, "privacy", "deny-list", "[privacy] deny",
    ),
    "nothing left": (
        replace(HEALTHY, privacy=withheld(Reason.NOTHING_LEFT)), Gravity.NOTE, "privacy", "left nothing", "position",
    ),
    "in a zone": (
        replace(HEALTHY, privacy=withheld(Reason.IN_ZONE, zones=1, hidden="in_zone")),
        Gravity.NOTE, "zones", "tells nothing of it", "tells again",
    ),
    "nobody knows where": (
        replace(HEALTHY, privacy=withheld(Reason.PLACE_UNKNOWN, zones=1, hidden="place_unknown")),
        Gravity.BAD, "zones", "nobody knows where", "Vehicle.CurrentLocation",
    ),
    "a campaign's wrong purpose": (
        replace(HEALTHY, privacy=withheld(Reason.WRONG_PURPOSE)),
        Gravity.NOTE, "privacy", "claimed a purpose", "whoever signs campaigns",
    ),
    "spool full": (
        replace(HEALTHY, spool=replace(SPOOL, why_full="P1 disk_full: no space", fault="no space")),
        Gravity.BAD, "flash", "takes no more records: P1 disk_full", "Free space",
    ),
    "no dictionary": (
        replace(HEALTHY, spool=replace(SPOOL, dictionary_fault="the file is gone: install Outrider again.")),
        Gravity.NOTE, "dictionary", "longer: the file is gone: install Outrider again.", "Nothing is lost",
    ),
    "a bus that waits for its plan": (
        replace(HEALTHY, campaigns=SignalRoomStatus("socketcan:can0", "", "", None)),
        Gravity.NOTE, "bus", "socketcan:can0 waits for a plan of its signals.", "once one is released",
    ),
    "a plan that can't be used": (
        replace(HEALTHY, campaigns=SignalRoomStatus("socketcan:can0", "", "", None, plan_fault="it is cut")),
        Gravity.BAD, "bus", "it is cut", "whoever signs",
    ),
    "campaigns not kept": (
        replace(HEALTHY, campaigns=SignalRoomStatus("", "", "the disk is full", None)),
        Gravity.BAD, "campaigns", "couldn't be kept: the disk is full", "next start",
    ),
    "expired": (
        replace(HEALTHY, spool=replace(SPOOL, lanes=lane(Lane.P2, evicted={"expired": 9}))),
        Gravity.NOTE, "P2", "9 records evicted (expired)", "keep_s",
    ),
    "evicted": (
        replace(HEALTHY, spool=replace(SPOOL, lanes=lane(Lane.P2, evicted={"quota": 9}))),
        Gravity.NOTE, "P2", "9 records evicted (quota)", "[spool] max_bytes",
    ),
    "poison": (
        replace(
            HEALTHY,
            spool=replace(SPOOL, lanes=lane(Lane.P1, quarantined={"refused": 2}), last_refusal="it isn't a block"),
        ),
        Gravity.NOTE, "P1", "2 records quarantined (refused). The last refusal: it isn't a block", "its log says why",
    ),
    "receiver doesn't store": (
        replace(HEALTHY, cloud=silent_since(31)), Gravity.BAD, "receipts", "no receipt came for 31 s", "its disk",
    ),
    "pictures unauthorized": (
        replace(HEALTHY, gallery=sends_pictures(ObjectUplinkState.UNAUTHORIZED, "no")),
        Gravity.BAD, "pictures", "takes no pictures", "revoked",
    ),
    "pictures wait": (
        replace(HEALTHY, gallery=sends_pictures(ObjectUplinkState.WAITING, "busy")),
        Gravity.NOTE, "pictures", "Pictures wait: busy", "by themselves",
    ),
}  # fmt: skip


def first(status: AgentStatus) -> Finding:
    return diagnose(status)[0]


@pytest.mark.parametrize("cause", CAUSES)
def test_each_cause_is_the_first_thing_said_in_words_and_with_what_to_do(cause: str) -> None:
    status, gravity, subject, words, advice = CAUSES[cause]
    finding = first(status)
    assert (finding.gravity, finding.subject) == (gravity, subject)
    assert words in finding.words
    assert advice in finding.advice


@pytest.mark.parametrize("cause", CAUSES)
def test_no_cause_is_said_twice(cause: str) -> None:
    findings = [finding for finding in diagnose(CAUSES[cause][0]) if finding.gravity is not Gravity.GOOD]
    assert len({finding.words for finding in findings}) == len(findings)
    assert len([finding for finding in findings if finding.gravity is Gravity.BAD]) <= 1


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("never paired", "nobody knows where"), ("clock", "spool full"), ("no network", "spool full"),
        ("unauthorized", "pictures unauthorized"), ("nobody knows where", "spool full"),
        ("spool full", "receiver doesn't store"), ("no consent", "evicted"),
    ],
)  # fmt: skip
def test_what_comes_earlier_on_the_way_explains_what_comes_later(earlier: str, later: str) -> None:
    """Both at once: the parts of the later status that differ from a healthy one, put on the earlier."""
    one, other = CAUSES[earlier][0], CAUSES[later][0]
    parts = ("cloud", "privacy", "spool", "gallery")
    changed = {part: getattr(other, part) for part in parts if getattr(other, part) != getattr(HEALTHY, part)}
    both = replace(one, **changed)
    subjects = [finding.subject for finding in diagnose(both)]
    assert subjects.index(CAUSES[earlier][2]) < subjects.index(CAUSES[later][2])


def test_a_connected_vehicle_to_which_nothing_is_owed_is_told_to_be_well() -> None:
    assert {finding.gravity for finding in diagnose(HEALTHY)} == {Gravity.GOOD}
    assert "Connected" in "".join(finding.words for finding in diagnose(HEALTHY))


def test_every_reason_that_there_is_has_an_advice() -> None:
    assert _WITHHELD.keys() == set(Reason)
    assert _DROPPED.keys() == set(Dropped)
    assert _EVICTED.keys() == set(Evicted)
    assert _QUARANTINED.keys() == set(Quarantined)


def test_what_was_left_out_is_noted() -> None:
    findings = diagnose(replace(HEALTHY, left_out={"samples_late": 3, "events_unheard": 0}))
    assert [finding.words for finding in findings if finding.subject == "left out"] == ["3 samples late."]
