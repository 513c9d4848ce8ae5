"""What people read of a status: the laws' sums, what is tried and kept, and every word as it was said."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from agent.doctor import Finding, Gravity
from agent.gallery import GalleryStatus
from agent.perception.agreement import Agreement
from agent.perception.beside import TrialStatus
from agent.status import AgentStatus, UpdatesStatus
from agent.statusview import show_findings, show_status
from ota.kinds import Kind
from ota.machine import State
from ota.slots import Installed
from ota.updates import UpdateStatus
from telemetry.uplink.status import UplinkState
from tests.agent.test_doctor import HEALTHY, KEPT, LEARNING, NO_FACES, PERCEPTION, uplink

STANDING = Installed("ab" * 32, 1, "drive-detect 2.0 (release 1)")
TRIED = Installed("cd" * 32, 2, "drive-detect 2.1 (release 2)")
REASON = "Set [link] kind, then look at [Errno 111] [/]"


def shown(status: AgentStatus, capsys: pytest.CaptureFixture[str]) -> str:
    show_status(msgspec.json.decode(msgspec.json.encode(status)))
    return " ".join(capsys.readouterr().out.split())


def test_the_sums_of_both_laws_and_whether_they_hold_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    told = shown(HEALTHY, capsys)
    assert told.count("it holds") == 2
    assert "offered │ 4 │ 4 │ 4 │ 4" in told
    assert "front │ 9 │ 8 │ 1 │ 0 │ 0 │ 0" in told
    broken = replace(HEALTHY, law_1_holds=False, perception=replace(PERCEPTION, law_2_holds=False))
    assert shown(broken, capsys).count("BROKEN") == 2


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


def test_what_became_of_pictures_adds_up(capsys: pytest.CaptureFixture[str]) -> None:
    told = shown(replace(HEALTHY, gallery=GalleryStatus(NO_FACES, 0, KEPT, None)), capsys)
    assert "3 wanted = 2 taken + 1 dropped + 0 waiting" in told
    assert "4 durable, 3 stored, 1 kept" in told
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
