"""What people read of a status: the laws' sums, what is tried and kept, and every word as it was said."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from agent.doctor import Finding, Gravity
from agent.equations import equations
from agent.gallery import GalleryStatus
from agent.perception.agreement import Agreement
from agent.perception.beside import TrialStatus
from agent.status import AgentStatus, PrivacyStatus, UpdatesStatus
from agent.statusview import show_findings, show_status
from ota.kinds import Kind
from ota.machine import State
from ota.slots import Installed
from ota.updates import UpdateStatus
from telemetry.uplink.allowance import Held
from telemetry.uplink.status import UplinkState
from tests.agent.test_doctor import (
    EXAMPLES,
    FRAMES,
    HEALTHY,
    KEPT,
    LANES,
    LEARNING,
    NO_FACES,
    PERCEPTION,
    SPOOL,
    uplink,
)

STANDING = Installed("ab" * 32, 1, "drive-detect 2.0 (release 1)")
TRIED = Installed("cd" * 32, 2, "drive-detect 2.1 (release 2)")
REASON = "Set [link] kind, then look at [Errno 111] [/]"


def shown(status: AgentStatus, capsys: pytest.CaptureFixture[str]) -> str:
    show_status(msgspec.json.decode(msgspec.json.encode(status)))
    return " ".join(capsys.readouterr().out.split())


def test_the_sums_of_both_laws_and_whether_they_hold_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    told = shown(HEALTHY, capsys)
    assert told.count("it holds") == 2
    assert "P3 4 offered = 4 durable + 0 pending + 0 dropped + 0 lost in a crash" in told
    assert "P0 4 durable = 3 acknowledged + 1 spooled + 0 evicted + 0 quarantined + 0 erased" in told
    assert "front 9 captured = 8 processed + 1 dropped by policy + 0 dropped late" in told
    lanes = (replace(LANES[0], dropped={"queue_full": 2, "too_large": 1}, offered=8), *LANES[1:])
    frames = replace(FRAMES, processed=9)
    broken = replace(
        HEALTHY, spool=replace(SPOOL, lanes=lanes), law_1_holds=False,
        perception=replace(PERCEPTION, frames=frames, law_2_holds=False),
    )  # fmt: skip
    told = shown(broken, capsys)
    assert told.count("BROKEN") == 2
    assert "8 offered ≠ 4 durable + 0 pending + 3 dropped (2 queue_full, 1 too_large)" in told


def test_every_law_of_conservation_is_an_equation_that_agrees_with_whoever_keeps_it() -> None:
    whole = replace(HEALTHY, gallery=GalleryStatus(NO_FACES, 0, KEPT, None), learning=LEARNING)
    told = tuple(equations(whole))
    assert all(equation.holds for equation in told)
    assert len(told) == 2 * len(LANES) + 1 + 1 + 2 + 1
    lost = replace(whole, learning=replace(LEARNING, store=replace(EXAMPLES, kept=11)))
    assert [str(equation) for equation in equations(lost) if not equation.holds] == [
        "14 found and offered ≠ 11 kept + 2 dropped (2 expired)"
    ]


def test_what_privacy_does_and_what_was_left_out_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    privacy = PrivacyStatus(4, {"in_zone": 3}, ("driving",), zones=1, hidden="in_zone")
    told = shown(replace(HEALTHY, privacy=privacy, left_out={"samples_late": 2, "events_unheard": 0}), capsys)
    assert "consents: driving; 4 records passed, 3 dropped (3 in_zone)" in told
    assert "1 zones; in_zone now" in told
    assert "left out 2 samples late" in told
    assert "events unheard" not in told


def test_an_agent_without_a_camera_is_told_of_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert "Law 2" not in shown(replace(HEALTHY, perception=None), capsys)


def test_words_of_others_are_shown_as_they_came(capsys: pytest.CaptureFixture[str]) -> None:
    assert REASON in shown(replace(HEALTHY, cloud=uplink(UplinkState.WAITING, REASON)), capsys)
    show_findings([Finding(Gravity.BAD, "link", REASON, REASON)])
    assert " ".join(capsys.readouterr().out.split()).count(REASON) == 2


def test_a_trial_is_told_with_what_both_models_saw(capsys: pytest.CaptureFixture[str]) -> None:
    trial = TrialStatus("drive-detect 2.1 (u8s8)", 4, False, 120, 1, Agreement(118, 300, 20, 30))
    tried = replace(HEALTHY, perception=replace(PERCEPTION, trial=trial))
    words = "2.1 (u8s8), beside, 120 frames, 1 deaths; both saw 300, the live one alone 20, it alone 30"
    assert words in shown(tried, capsys)
    live = replace(PERCEPTION, trial=replace(trial, is_live=True))
    assert "2.1 (u8s8), live," in shown(replace(HEALTHY, perception=live), capsys)


def test_what_is_kept_tried_fetched_and_refused_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    model = UpdateStatus(Kind.MODEL, State.SHADOW, STANDING, TRIED, "")
    told = shown(replace(HEALTHY, updates=UpdatesStatus((model,), "rollback: offered 3, seen 5", 8000, 62)), capsys)
    assert "model: drive-detect 2.0 (release 1), shadow, trying drive-detect 2.1 (release 2)" in told
    assert "the last look came to nothing: rollback: offered 3, seen 5" in told
    assert "fetched 62 of 8,000 bytes" in told
    shipped = UpdateStatus(Kind.MODEL, State.COMMITTED, None, None, "")
    told = shown(replace(HEALTHY, updates=UpdatesStatus((shipped,), "", 0, 0)), capsys)
    assert "model: as shipped, committed" in told
    assert "fetched" not in told
    assert "nothing" not in told


def test_a_release_that_waits_for_another_network_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    waits = UpdatesStatus((), "", 0, 0, 1, Held("Releases wait for another network.", None))
    assert "update Releases wait for another network." in shown(replace(HEALTHY, updates=waits), capsys)


def test_what_became_of_pictures_adds_up(capsys: pytest.CaptureFixture[str]) -> None:
    told = shown(replace(HEALTHY, gallery=GalleryStatus(NO_FACES, 0, KEPT, None)), capsys)
    assert "3 wanted = 2 taken + 1 dropped (1 redactor_lost) + 0 waiting" in told
    assert "4 durable = 3 stored + 1 kept" in told
    assert "wanted" not in shown(replace(HEALTHY, gallery=GalleryStatus(None, 0, KEPT, None)), capsys)


def test_what_is_learned_and_why_not_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    def told(**changes: Any) -> str:
        return shown(replace(HEALTHY, learning=replace(LEARNING, **changes)), capsys)

    assert "plan lights-1: waits for parked, power" in told(closed=("parked", "power"))
    assert "plan lights-1: learning now" in told(is_learning=True)
    assert "an update waits for the spool" in told(waiting=True)
    assert "learning no plan" in told(plan=None)
    assert "it wants 8 examples, there are 3" in told(plan=None, refusal="it wants 8 examples, there are 3")
    learned = told(runs={"told": 2, "aborted": 1}, told=2, first_loss=1.5, last_loss=0.25)
    assert "examples from drive: 5 green, 7 red" in learned
    assert "runs: 2 told, 1 aborted; 2 updates told within 30 days" in learned
    assert "loss 1.500 to 0.250" in learned
    assert "learning" not in shown(HEALTHY, capsys)
