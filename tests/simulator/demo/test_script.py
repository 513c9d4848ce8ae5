"""What happens in the demo, when, and that somebody is told why."""

from __future__ import annotations

from itertools import pairwise

import pytest

from simulator.demo.exhibit import DEED_NAMES
from simulator.demo.judge import KILLED
from simulator.demo.script import Deed, Script, script

both_paces = pytest.mark.parametrize("play", [script(fast=False), script(fast=True)], ids=["real", "fast"])


@both_paces
def test_every_deed_is_done_once_in_the_order_of_time(play: Script) -> None:
    assert sorted(act.deed.value for act in play.acts) == sorted(deed.value for deed in Deed)
    assert all(before.at_s < after.at_s for before, after in pairwise(play.acts))
    assert play.acts[0].at_s > 0


@both_paces
def test_whoever_watches_is_told_what_happens_and_why(play: Script) -> None:
    assert len({act.title for act in play.acts}) == len({act.why for act in play.acts}) == len(play.acts)
    assert all(act.title and act.why.endswith(".") for act in play.acts)


@both_paces
def test_something_is_killed_while_the_link_is_cut(play: Script) -> None:
    at = {act.deed: act.at_s for act in play.acts}
    assert any(at[Deed.CUT_LINK] < at[deed] < at[Deed.RESTORE_LINK] for deed in KILLED)


@both_paces
def test_the_drive_ends_with_the_ignition(play: Script) -> None:
    assert play.acts[-1].deed is Deed.IGNITION_OFF
    assert play.drive_s == play.acts[-1].at_s


def test_both_paces_tell_one_story() -> None:
    real, fast = script(fast=False), script(fast=True)
    assert [act.deed for act in real.acts] == [act.deed for act in fast.acts]
    assert (real.lockstep, fast.lockstep) == (False, True)
    assert fast.drive_s < real.drive_s


def test_every_fault_has_a_name_in_the_report() -> None:
    assert set(Deed) - set(DEED_NAMES) == {Deed.RESTORE_LINK, Deed.IGNITION_OFF}
