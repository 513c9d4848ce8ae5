"""What people are shown comes from the proof, adds up, and holds no picture of anybody."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from ecu.clock import SECOND_NS
from simulator.claims import Verdict
from simulator.demo.demo import DRIVE
from simulator.demo.exhibit import SceneBuilder, evidence, frame_size, host
from simulator.demo.judge import Proof, claims
from simulator.demo.observer import Done, Observations, Reading
from simulator.demo.script import Deed, script
from simulator.display import State, Way
from simulator.report.evidence import Evidence
from tests.simulator.demo.sound import CUT_S, KILLED_S, RESTORED_S, boot_ns, lane, sound

WHEN = datetime(2026, 5, 4, 12, 30, tzinfo=UTC)


def shown(proof: Proof) -> Evidence:
    return evidence(proof, Verdict(claims(proof), 61.5), script(fast=False), (960, 540), WHEN)


def leaves(value: Any) -> Iterator[Any]:
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from leaves(getattr(value, field.name))
    elif isinstance(value, Mapping):
        yield from leaves(tuple(value.items()))
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from leaves(item)
    else:
        yield value


def test_no_pixel_is_in_the_evidence_but_those_of_the_stored_picture() -> None:
    evidence_of_all = shown(sound())
    pixels = [leaf for leaf in leaves(evidence_of_all) if isinstance(leaf, bytes)]
    assert evidence_of_all.picture is not None
    assert pixels == [evidence_of_all.picture.jpeg]
    kinds = {type(leaf) for leaf in leaves(replace(evidence_of_all, picture=None))}
    assert kinds <= {str, int, float, bool, type(None), datetime}


def test_a_run_without_a_picture_fit_to_be_shown_shows_none() -> None:
    proof = sound()
    watch = replace(proof.pictures.watch, shown=None)
    assert shown(replace(proof, pictures=replace(proof.pictures, watch=watch))).picture is None


def test_every_equation_balances_and_names_each_part_once() -> None:
    ledgers = shown(sound()).ledgers
    assert len(ledgers) == 2
    assert all(ledger.balances for ledger in ledgers)
    for equation in (equation for ledger in ledgers for equation in ledger.equations):
        assert len(set(equation.parts)) == len(equation.parts)


@pytest.mark.parametrize("column", ["offered", "durable", "acknowledged", "spooled", "pending"])
def test_an_equation_shows_a_count_that_is_wrong(column: str) -> None:
    proof = sound()
    wrong = replace(proof, lanes=[*proof.lanes[:3], lane(3, **{column: 29})])
    assert not all(ledger.balances for ledger in shown(wrong).ledgers)


def test_faults_stand_where_they_happened_and_a_kill_is_an_instant() -> None:
    faults = {fault.label: (fault.start_s, fault.end_s) for fault in shown(sound()).faults}
    assert faults["link cut"] == (CUT_S, RESTORED_S)
    assert faults["worker killed"] == (KILLED_S, KILLED_S)
    starts = [fault.start_s for fault in shown(sound()).faults]
    assert starts == sorted(starts)


def test_the_summary_counts_what_held_and_what_was_stored() -> None:
    proof = replace(sound(), orphans=3)
    words = shown(proof).summary
    assert f"{len(proof.stored):,} records" in words
    assert f"{len(claims(proof)) - 1} of {len(claims(proof))} claims held" in words


def test_the_drive_is_drawn_from_tracks_and_signals() -> None:
    drive = shown(sound()).drive
    assert (drive.width_px, drive.height_px) == (960, 540)
    assert 0 < len(drive.frames) <= 800
    assert all(frame.boxes for frame in drive.frames)
    assert {value for _, value in drive.speed_kmh.points} == {88.0}
    assert drive.route


def test_a_run_that_saw_nothing_is_shown_too() -> None:
    proof = replace(sound(), seen=Observations(0), stored=[], lanes=[], frames=None)
    empty = shown(proof)
    assert (empty.faults, empty.latency.points, empty.ledgers, empty.drive.frames) == ((), (), (), ())


def test_numbers_stand_beside_the_computer_they_were_taken_on() -> None:
    assert host().cores == os.cpu_count()
    assert host().onnxruntime
    assert host().cpu


def test_the_drives_frames_have_their_size() -> None:
    assert frame_size(DRIVE) == (960, 540)


# --- live -------------------------------------------------------------------------------------------------------------


def builder(seen: Observations) -> SceneBuilder:
    return SceneBuilder(script(fast=False), seen, (960, 540), 75.0)


def test_a_scene_can_be_drawn_before_anything_was_heard() -> None:
    scene = builder(Observations(0)).scene(SECOND_NS, {"receiver": 12})
    assert scene.elapsed_s == 1.0
    assert (scene.view, scene.p99_ms, scene.frames_per_s, scene.lanes, scene.laws) == (None, None, None, (), ())
    assert ("receiver", 12) in [(process.name, process.pid) for process in scene.processes]


def test_the_scene_tells_the_newest_of_everything() -> None:
    seen = sound().seen
    status = {
        "perception": {"camera_pid": 1, "live_pid": 2, "standby_pid": None, "frames": {"captured": 90}},
        "spool": {"lanes": [lane(n) for n in range(4)]},
        "cloud": {"uplink": {"state": "waiting"}},
        "law_1_holds": False, "law_2_holds": True, "law_6_holds": True,
    }  # fmt: skip
    seen.readings.append(Reading(boot_ns(60), status))
    scene = builder(seen).scene(boot_ns(60), {})
    assert scene.link is Way.CUT
    assert (scene.durable, scene.stored) == (4 * 24, 4 * 15)
    assert [law.holds for law in scene.laws] == [False, True, True]
    assert scene.frames_per_s == pytest.approx(25.0)
    assert scene.view is not None
    assert scene.view.boxes == seen.sightings[-1].boxes


def test_a_scene_tells_which_processes_start_which_came_back_and_whether_the_link_is_up() -> None:
    seen = sound().seen
    perception = {"camera_pid": None, "live_pid": 2, "standby_pid": 3, "workers_replaced": 1, "cameras_replaced": 0}
    seen.readings.append(Reading(boot_ns(60), {"perception": perception, "cloud": {"uplink": {"state": "connected"}}}))
    scene = builder(seen).scene(boot_ns(60), {"agent": 1})
    assert scene.link is Way.OPEN
    assert {process.name: process.state for process in scene.processes} == {
        "agent": State.UP, "camera": State.STARTING, "worker": State.RESTARTED, "standby": State.UP,
    }  # fmt: skip


def test_of_many_happenings_the_newest_are_told() -> None:
    seen = Observations(0)
    seen.health += [(boot_ns(second), "worker_lost", f"pid {second}") for second in range(9)]
    seen.deeds.append(Done(Deed.STRANGER, boot_ns(1), boot_ns(2), "refused"))
    told = builder(seen).scene(boot_ns(10), {}).happenings
    assert [happening.text for happening in told] == [f"worker lost: pid {second}" for second in range(4, 9)]
    seen.deeds.append(Done(Deed.STRANGER, boot_ns(20), boot_ns(21), "refused"))
    assert builder(seen).scene(boot_ns(30), {}).happenings[-1].text == "stranger: refused"


def test_acts_become_phases_and_the_last_happenings_are_kept() -> None:
    seen = Observations(0)
    scenes = builder(seen)
    for number, act in enumerate(script(fast=False).acts):
        scenes.begin(act)
        seen.deeds.append(Done(act.deed, boot_ns(number), boot_ns(number + 0.5), "done"))
        scene = scenes.scene(boot_ns(number + 1), {})
        assert (scene.phase, scene.why) == (act.title, act.why)
        assert scene.phase_number <= scene.phases
    assert len(scene.happenings) == 5
    assert [told.t_s for told in scene.happenings] == sorted(told.t_s for told in scene.happenings)
