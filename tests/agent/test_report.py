"""What a vehicle reports of itself, and when somebody may wait for it."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from agent.report import is_urgent, report_of
from agent.status import UpdatesStatus
from ota.kinds import Kind
from ota.machine import State
from ota.slots import Installed
from ota.updates import UpdateStatus
from telemetry.links.statusreport import MAX_STATUS_BYTES, UpdateState, pack_status, read_status
from tests.agent.test_doctor import HEALTHY

OLD = Installed("a" * 64, 1, "drive-detect 1.0")
NEW = Installed("b" * 64, 2, "drive-detect 2.0")


def told(
    state: State, trial: Installed | None = None, words: str = "", trouble: str = "", whole: int = 0
) -> UpdateState:
    kind = UpdateStatus(Kind.MODEL, state, OLD, trial, words)
    news = report_of(replace(HEALTHY, updates=UpdatesStatus((kind,), trouble, whole, 0, 7))).update
    assert news is not None
    assert news.looks == 7
    assert news.title == (trial or OLD).title
    assert news.words == (trouble or words)[:400] * (news.state is UpdateState.FAILED)
    return news.state


def test_an_update_is_under_way_while_anything_is_fetched_or_tried_and_failed_only_after() -> None:
    assert told(State.COMMITTED) is UpdateState.SETTLED
    assert told(State.SHADOW, NEW) is UpdateState.UNDER_WAY
    assert told(State.ROLLED_BACK, words="found worse") is UpdateState.FAILED
    assert told(State.COMMITTED, trouble="rollback: offered 3, installed 5") is UpdateState.FAILED
    assert told(State.COMMITTED, trouble="the network", whole=100) is UpdateState.UNDER_WAY
    assert told(State.ROLLED_BACK, words="w" * 9000) is UpdateState.FAILED


def test_a_report_is_small_and_comes_back_as_it_was() -> None:
    report = report_of(HEALTHY)
    assert read_status(pack_status(report)) == report
    assert len(pack_status(report)) < MAX_STATUS_BYTES
    assert read_status(b'{"n":1}') is None
    assert read_status(b"junk") is None


def test_counts_alone_are_not_urgent_and_everything_else_is() -> None:
    report = report_of(HEALTHY)
    assert is_urgent(report, None, hinted=False)
    assert not is_urgent(msgspec.structs.replace(report, records_waiting=9), report, hinted=True)
    for change in (("law_1_holds", False), ("law_6_holds", False), ("version", "2")):
        assert is_urgent(msgspec.structs.replace(report, **dict([change])), report, hinted=False)


def test_a_look_is_urgent_for_who_hinted_alone() -> None:
    before, after, tried = (
        report_of(replace(HEALTHY, updates=UpdatesStatus((), trouble, 0, 0, looks)))
        for looks, trouble in ((1, ""), (2, ""), (1, "no network"))
    )
    assert not is_urgent(after, before, hinted=False)
    assert is_urgent(after, before, hinted=True)
    assert is_urgent(tried, before, hinted=False)
