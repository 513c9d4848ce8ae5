"""The judgement: every claim can fail, for its own reason and no other, and nothing holds that wasn't seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecu.clock import MILLISECOND_NS, SECOND_NS
from inference.fidelity import Agreement
from simulator.claims import NOT_MEASURED
from simulator.demo import classroomclaims, pictureclaims, signalclaims, workshopclaims
from simulator.demo.judge import (
    KILLED,
    Death,
    Loss,
    PowerCuts,
    Proof,
    Siege,
    blind_s,
    claims,
    percentile_ms,
    spooled_through_cut,
)
from simulator.demo.observer import Done, Observations, Sighting, UpdateHeard
from simulator.demo.proofs import KeyWatch
from simulator.demo.script import Deed
from simulator.demo.updateclaims import LEFT_OUT_BAR, Models
from simulator.witness import compare
from telemetry.records import Lane
from tests.simulator.demo.sound import (
    BACK_S,
    COMMITTED_S,
    CUT_S,
    KILLED_S,
    NEW,
    OLD,
    RESTORED_S,
    SHADOW_S,
    STAGED_S,
    SWITCHED_S,
    WALL_MINUS_BOOT_NS,
    Told,
    boot_ns,
    failed,
    lane,
    rejudged,
    sound,
    sound_pictures,
    sound_signals,
    stories,
    with_records,
)
from tests.simulator.demo.soundclassroom import sound_classroom
from tests.simulator.demo.soundworkshop import sound_workshop

Damage = Callable[[Proof], Proof]

KEY = "paired; the private key never left the vehicle"
FRAMES = "frames conserved (law 2)"
LATENCY = "camera to result, p99"
KEPT = "a signed release tried beside the live model, judged better, and kept"
SWAP = "frames lost by the swap from 1.0 to 2.0"
SHADOW = "live model while another looks on, p99, over before"
FIDELITY = "INT8 fidelity to fp32, F1 at score .40"
SPOOLED = "kept on flash through the cut link, stored after it"
CAME_BACK = "processes killed mid-drive that came back (agent, worker, camera, receiver)"
ONCE = "every record a witness saw become durable is at the receiver exactly once"
LAW_1 = "records conserved (law 1)"
LOST = "age of what the agent's death took from P2"
BLIND = "blind after a killed worker"
ORPHANS = "processes left over after the agent's death"
POWER = "confirmed records lost in simulated power cuts"
SIEGE = "hostile packets refused, endpoint up"
STRANGER = "a stranger's certificate refused"
CLOCK = "spooled while the clock read 1970, stored once the time was known"
DIGEST = "replay gives the same digest twice"


def put(**evidence: Any) -> Damage:
    """Other evidence in place of the sound one."""
    return lambda proof: replace(proof, **evidence)


def key(**changed: Any) -> Damage:
    return lambda proof: replace(proof, key=replace(proof.key, **changed))


def frames(**changed: int) -> Damage:
    def damage(proof: Proof) -> Proof:
        assert proof.frames is not None
        return replace(proof, frames=replace(proof.frames, **changed))

    return damage


def records(change: Callable[[list[Told]], list[Told]]) -> Damage:
    return lambda proof: with_records(proof, change(stories()))


def inbox(change: Callable[[list[Any]], list[Any]]) -> Damage:
    return lambda proof: rejudged(replace(proof, stored=change(list(proof.stored))))


def lanes(**changed: int) -> Damage:
    return lambda proof: replace(proof, lanes=[lane(0, **changed), *proof.lanes[1:]])


def sightings(change: Callable[[list[Sighting]], list[Sighting]]) -> Damage:
    def damage(proof: Proof) -> Proof:
        proof.seen.sightings[:] = change(list(proof.seen.sightings))
        return proof

    return damage


def without(deed: Deed) -> Damage:
    def damage(proof: Proof) -> Proof:
        proof.seen.deeds[:] = [done for done in proof.seen.deeds if done.deed is not deed]
        return proof

    return damage


def updates(change: Callable[[list[UpdateHeard]], list[UpdateHeard]]) -> Damage:
    def damage(proof: Proof) -> Proof:
        proof.seen.updates[:] = change(list(proof.seen.updates))
        return proof

    return damage


def lost_a_frame(proof: Proof) -> Proof:
    """Between the last reading before the swap and the first one behind it, although one was taken in between."""
    swap_ns = boot_ns(SWITCHED_S)
    behind = next(number for number, reading in enumerate(proof.seen.readings) if reading.heard_ns >= swap_ns)
    between = replace(proof.seen.readings[behind - 1], heard_ns=swap_ns - 1)
    for number, reading in enumerate(proof.seen.readings[behind:], behind):
        lost = reading.status["perception"]["frames"]["lost_to_fault"] + 1
        status = {**reading.status, "perception": {"frames": {"lost_to_fault": lost}}}
        proof.seen.readings[number] = replace(reading, status=status)
    proof.seen.readings.insert(behind, between)
    return proof


def blind_at(second: float) -> Damage:
    """That reading tells of no perception."""

    def damage(proof: Proof) -> Proof:
        for number, reading in enumerate(proof.seen.readings):
            if reading.heard_ns == boot_ns(second):
                proof.seen.readings[number] = replace(reading, status={**reading.status, "perception": None})
        return proof

    return damage


def called(old: str, new: str) -> Damage:
    """A model that goes by another name."""
    return sightings(lambda seen: [replace(one, model=one.model.replace(old, new)) for one in seen])


def swapped_late(frames: int) -> Damage:
    """So many frames before the swap's first one were seen by neither model."""

    def damage(proof: Proof) -> Proof:
        first = next(n for n, one in enumerate(proof.seen.sightings) if one.model == NEW)
        del proof.seen.sightings[first - frames : first]
        return proof

    return damage


def disturbed(proof: Proof) -> Proof:
    """The slowest frames before the trial were a little faster than they may have been."""
    proof.seen.sightings[:] = [
        replace(one, latency_ns=one.latency_ns - MILLISECOND_NS) if one.heard_ns < boot_ns(STAGED_S) else one
        for one in proof.seen.sightings
    ]
    return proof


def excused(proof: Proof) -> Proof:
    """As `disturbed`; and what was slow for another reason, getting ready or a kill, was slower still."""
    kill = Done(Deed.KILL_WORKER, boot_ns(2.0), boot_ns(2.5))
    proof = disturbed(proof)
    proof.seen.deeds.insert(0, kill)
    proof.seen.sightings[:] = [
        replace(one, latency_ns=35 * MILLISECOND_NS)
        if number < 25 or kill.began_ns <= one.heard_ns <= kill.ended_ns
        else one
        for number, one in enumerate(proof.seen.sightings)
    ]
    return proof


def once_slow(number: int, one: Sighting) -> Sighting:
    """Two in a hundred of the frames beside a candidate come late, and very few of all."""
    is_beside = boot_ns(SHADOW_S) <= one.heard_ns <= boot_ns(SWITCHED_S)
    return replace(one, latency_ns=one.latency_ns + MILLISECOND_NS) if is_beside and number % 50 == 0 else one


def without_readings(proof: Proof) -> Proof:
    proof.seen.readings.clear()
    return proof


def broken_for_a_moment(proof: Proof) -> Proof:
    """As counters that forget one are, until the next start puts them right."""
    proof.seen.readings[17] = replace(proof.seen.readings[17], status={"law_1_holds": False, "law_2_holds": True})
    return proof


def forgot_a_frame_for_a_moment(proof: Proof) -> Proof:
    proof.seen.readings[17] = replace(proof.seen.readings[17], status={"law_1_holds": True, "law_2_holds": False})
    return proof


def slow(share_of_frames: float) -> Callable[[list[Sighting]], list[Sighting]]:
    """So many of the frames, the last ones, take a nanosecond longer than they may."""

    def change(all_of_them: list[Sighting]) -> list[Sighting]:
        first = len(all_of_them) - round(len(all_of_them) * share_of_frames)
        return [replace(s, latency_ns=s.latency_ns + (i >= first)) for i, s in enumerate(all_of_them)]

    return change


def later_by_a_nanosecond(all_of_them: list[Sighting]) -> list[Sighting]:
    return [s if s.heard_ns < boot_ns(BACK_S) else replace(s, heard_ns=s.heard_ns + 1) for s in all_of_them]


def other_bytes(stored: list[Any]) -> list[Any]:
    first = stored[0]
    return [replace(first, record=type(first.record)(1, first.record.wall_ns, first.record.event)), *stored[1:]]


def arrives_early(told: list[Told]) -> list[Told]:
    """One of those that waited for the link was at the receiver before it came back."""
    return [*told[:9], replace(told[9], arrived_s=RESTORED_S - 1e-9), *told[10:]]


def heard_late(told: list[Told]) -> list[Told]:
    """One of them became durable only when the link was back."""
    return [*told[:9], replace(told[9], heard_s=RESTORED_S), *told[10:]]


def knew_the_time(told: list[Told]) -> list[Told]:
    return [*told[:-1], replace(told[-1], believed_wall_ns=WALL_MINUS_BOOT_NS)]


DAMAGES: list[tuple[str, Damage]] = [
    (KEY, key(leaks=(Path("receiver/inbox"),))),
    (KEY, key(held=0)),
    (KEY, key(certified=False)),
    (FRAMES, frames(processed=89)),
    (FRAMES, frames(lost_to_fault=3)),
    (FRAMES, frames(captured=101)),
    (FRAMES, frames(captured=99)),
    (FRAMES, frames(processed=79, dropped_late=14)),
    (FRAMES, frames(captured=1000, received=1000, processed=955, lost_to_fault=37)),
    (FRAMES, forgot_a_frame_for_a_moment),
    (LATENCY, sightings(slow(0.011))),
    (FIDELITY, put(agreement={0.40: Agreement(1.0, 1.0, 0.9299, 0.9, 1.0)})),
    (SPOOLED, records(arrives_early)),
    (SPOOLED, records(heard_late)),
    (CAME_BACK, put(deaths=[Death(deed, gone=True, back=deed is not Deed.KILL_CAMERA) for deed in KILLED])),
    (CAME_BACK, put(deaths=[Death(deed, gone=deed is not Deed.KILL_AGENT, back=True) for deed in KILLED])),
    (CAME_BACK, put(deaths=[Death(Deed.KILL_WORKER, gone=True, back=True)] * 4)),
    (ONCE, inbox(lambda stored: stored[1:])),
    (ONCE, inbox(lambda stored: [*stored, stored[0]])),
    (ONCE, inbox(other_bytes)),
    (LAW_1, lanes(offered=31)),
    (LAW_1, lanes(spooled=5)),
    (LAW_1, lanes(lost_in_crash=1)),
    (LAW_1, lanes(acknowledged=14)),
    (LAW_1, lambda proof: replace(proof, lanes=[lane(0, offered=31), lane(1, offered=29), *proof.lanes[2:]])),
    (LAW_1, lanes(acknowledged=16, spooled=3)),
    (LAW_1, broken_for_a_moment),
    (LOST, put(loss=Loss(Lane.P2, 1.2501))),
    (BLIND, sightings(later_by_a_nanosecond)),
    (ORPHANS, put(orphans=1)),
    (POWER, put(cuts=PowerCuts(cuts=241, violations=1))),
    (SIEGE, put(siege=Siege(sent=2000, fall="no longer answered"))),
    (SIEGE, put(siege=Siege(sent=0, fall=None))),
    (SIEGE, put(intruder_stored=1)),
    (STRANGER, put(stranger_refused_by=None)),
    (CLOCK, records(knew_the_time)),
    (KEPT, updates(lambda told: [one for one in told if one.what != "committed"])),
    (KEPT, updates(lambda told: [*told[:-1], replace(told[-1], heard_ns=told[-2].heard_ns - 1)])),
    (SWAP, lost_a_frame),
    (SWAP, swapped_late(LEFT_OUT_BAR + 1)),
    (SHADOW, disturbed),
    (SHADOW, excused),
    (SHADOW, sightings(lambda seen: [once_slow(number, one) for number, one in enumerate(seen)])),
    (DIGEST, put(digests=["sha256:" + "ab" * 32, "sha256:" + "ab" * 31 + "ac"])),
    (DIGEST, put(other_digest="sha256:" + "ab" * 32)),
]

NOTHING_SEEN: list[tuple[str, Damage]] = [
    (KEY, put(key=KeyWatch(held=0, leaks=(), certified=False))),
    (FRAMES, put(frames=None)),
    (FRAMES, frames(captured=0, received=0, processed=0, dropped_by_policy=0, dropped_late=0, lost_to_fault=0,
                    in_flight=0)),
    (LATENCY, sightings(lambda _: [])),
    (FIDELITY, put(agreement={})),
    (KEPT, put(models=Models(None, None))),
    (KEPT, put(models=Models(None, Agreement(1.0, 1.0, 1.0, 1.0, 1.0)))),
    (KEPT, put(models=Models(Agreement(1.0, 1.0, 1.0, 1.0, 1.0), None))),
    (KEPT, updates(lambda _: [])),
    (KEPT, updates(lambda told: [one for one in told if one.what != "switched"])),
    (KEPT, updates(lambda told: [one for one in told if one.what != "staged"])),
    (KEPT, sightings(lambda seen: [s for s in seen if s.heard_ns <= boot_ns(COMMITTED_S)])),
    (KEPT, sightings(lambda seen: [*seen[:-1], replace(seen[-1], model=OLD)])),
    (SWAP, without(Deed.RELEASE)),
    (SWAP, sightings(lambda seen: [s for s in seen if s.model == NEW])),
    (SWAP, without_readings),
    (SWAP, blind_at(SWITCHED_S - 1)),
    (SWAP, blind_at(SWITCHED_S)),
    (SWAP, called(" 1.0 ", " 0.9 ")),
    (SWAP, called(" 2.0 ", " 2.1 ")),
    (SHADOW, updates(lambda told: [one for one in told if one.what != "shadow"])),
    (SHADOW, sightings(lambda seen: [s for s in seen if s.heard_ns > boot_ns(STAGED_S)])),
    (SHADOW, sightings(lambda seen: [s for s in seen if not boot_ns(SHADOW_S) <= s.heard_ns < boot_ns(SWITCHED_S)])),
    (SPOOLED, without(Deed.CUT_LINK)),
    (SPOOLED, records(lambda told: [*told[:9], *told[-20:]])),
    (CAME_BACK, put(deaths=[])),
    (ONCE, put(witness=compare([], []))),
    (LAW_1, put(lanes=[])),
    (LAW_1, without_readings),
    (LAW_1, put(lanes=[dict.fromkeys(lane(0), 0)] * 4)),
    (LOST, put(loss=None)),
    (BLIND, without(Deed.KILL_WORKER)),
    (BLIND, sightings(lambda seen: [s for s in seen if s.heard_ns <= boot_ns(KILLED_S)])),
    (BLIND, sightings(lambda seen: [s for s in seen if s.heard_ns > boot_ns(KILLED_S)])),
    (ORPHANS, put(orphans=None)),
    (POWER, put(cuts=None)),
    (POWER, put(cuts=PowerCuts(cuts=0, violations=0))),
    (SIEGE, put(siege=None)),
    (STRANGER, put(stranger_refused_by=None)),
    (CLOCK, without(Deed.DEAD_CLOCK)),
    (CLOCK, records(lambda told: told[:-20])),
    (DIGEST, put(digests=[])),
    (DIGEST, put(digests=["sha256:" + "ab" * 32])),
    (DIGEST, put(other_digest=None)),
]  # fmt: skip


@pytest.mark.parametrize("lockstep", [False, True])
def test_what_just_holds_holds(lockstep: bool) -> None:
    assert failed(sound(lockstep=lockstep)) == []


@pytest.mark.parametrize(("claim", "damage"), DAMAGES)
def test_the_smallest_damage_fails_its_own_claim_and_no_other(claim: str, damage: Damage) -> None:
    assert failed(damage(sound())) == [claim]


@pytest.mark.parametrize(("claim", "damage"), NOTHING_SEEN)
def test_a_claim_of_which_nothing_was_seen_does_not_hold(claim: str, damage: Damage) -> None:
    assert claim in failed(damage(sound()))


def test_every_claim_can_fail_and_can_go_unseen() -> None:
    names = [claim.name for claim in claims(sound())]
    assert len(set(names)) == len(names)
    elsewhere = {claim.name for claim in pictureclaims.claims(sound_pictures())}  # test_pictureclaims.py
    elsewhere |= {claim.name for claim in workshopclaims.claims(sound_workshop())}  # test_workshopclaims.py
    elsewhere |= {claim.name for claim in signalclaims.claims(sound_signals())}  # test_signalclaims.py
    elsewhere |= {claim.name for claim in classroomclaims.claims(sound_classroom())}  # test_classroomclaims.py
    assert {claim for claim, _ in DAMAGES} == {claim for claim, _ in NOTHING_SEEN} == set(names) - elsewhere


def test_numbers_that_were_not_taken_are_called_that() -> None:
    nothing = replace(sound(), frames=None, agreement={}, loss=None, orphans=None, siege=None, digests=[], lanes=[])
    told = {claim.name: claim.measured for claim in claims(nothing)}
    for claim in (FRAMES, FIDELITY, LOST, ORPHANS, SIEGE, DIGEST, LAW_1):
        assert told[claim].startswith(NOT_MEASURED)


# --- the swap ---------------------------------------------------------------------------------------------------------


def test_a_frame_left_out_at_the_swap_is_a_busy_computers_at_real_speed_and_lost_in_lockstep() -> None:
    assert failed(swapped_late(LEFT_OUT_BAR)(sound())) == []
    assert failed(swapped_late(1)(sound(lockstep=True))) == [SWAP]


def test_a_model_that_comes_back_after_the_swap_proves_no_swap() -> None:
    def comes_back(seen: list[Sighting]) -> list[Sighting]:
        return [*seen[:-1], replace(seen[-1], model=OLD)]

    assert SWAP in failed(sightings(comes_back)(sound()))


# --- latency ----------------------------------------------------------------------------------------------------------


def test_one_slow_frame_in_two_hundred_is_within_the_99th_percentile() -> None:
    assert failed(sightings(slow(0.005))(sound())) == []


def test_lockstep_is_judged_by_what_we_add_to_most_frames_and_says_so() -> None:
    few, most = (sightings(slow(share))(sound(lockstep=True)) for share in (0.4, 0.6))
    assert failed(few) == []
    assert failed(most) == ["camera to result, over the model's own call"]


def test_in_lockstep_a_live_model_is_disturbed_by_what_we_add_while_another_looks_on() -> None:
    def disturbs(seen: list[Sighting]) -> list[Sighting]:
        shadow = range(boot_ns(SHADOW_S), boot_ns(SWITCHED_S) + 1)
        return [replace(s, model_ns=s.model_ns * 3 // 4) if s.heard_ns in shadow else s for s in seen]

    told = failed(sightings(disturbs)(sound(lockstep=True)))
    assert told == ["live model while another looks on, over the model's own call, over before"]


def test_a_slow_computer_slows_the_model_too_and_fails_no_lockstep() -> None:
    def slower(all_of_them: list[Sighting]) -> list[Sighting]:
        return [replace(s, latency_ns=9 * s.latency_ns, model_ns=9 * s.model_ns) for s in all_of_them]

    assert failed(sightings(slower)(sound(lockstep=True))) == []


@given(st.lists(st.integers(0, SECOND_NS), min_size=1, max_size=50))
def test_a_percentile_lies_within_what_was_seen(latencies_ns: list[int]) -> None:
    seen = Observations(0, [Sighting(0, 0, NEW, 0, latency_ns, 1, ()) for latency_ns in latencies_ns])
    for percent in (0, 50, 99, 100):
        found = percentile_ms(seen, percent)
        assert found is not None
        assert min(latencies_ns) <= round(found * MILLISECOND_NS) <= max(latencies_ns)


# --- the cut link -----------------------------------------------------------------------------------------------------

moments = st.floats(0, 60, allow_nan=False)


@given(st.lists(st.tuples(moments, moments), max_size=30))
def test_only_what_became_durable_in_the_cut_and_arrived_after_it_counts(times: list[tuple[float, float]]) -> None:
    told = [Told(heard_s, arrived_s, WALL_MINUS_BOOT_NS) for heard_s, arrived_s in times]
    cut, restored = boot_ns(CUT_S), boot_ns(RESTORED_S)
    waited = [t for t in told if cut <= boot_ns(t.heard_s) < restored <= boot_ns(t.arrived_s)]
    assert spooled_through_cut(with_records(sound(), told)) == len(waited)


def test_what_never_arrived_was_not_kept_through_the_cut() -> None:
    whole = sound()
    kept = spooled_through_cut(whole)
    assert kept is not None
    lost = rejudged(replace(whole, stored=[record for record in whole.stored if record.seq != 9]))
    assert spooled_through_cut(lost) == kept - 1


# --- blindness --------------------------------------------------------------------------------------------------------


def seen_at(*seconds: float) -> Observations:
    seen = sound().seen
    seen.sightings[:] = [Sighting(boot_ns(s), n, NEW, 0, 0, 0, ()) for n, s in enumerate(seconds)]
    return seen


def test_blindness_is_the_silence_around_the_kill() -> None:
    assert blind_s(seen_at(29.9, 31.0, 31.1, 33.5)) == pytest.approx(2.4)


def test_a_result_still_on_its_way_when_the_worker_died_doesnt_end_the_blindness() -> None:
    assert blind_s(seen_at(29.9, 30.005, 45.0)) == pytest.approx(14.995)


def test_a_vehicle_that_never_sees_again_is_not_called_seeing() -> None:
    assert blind_s(seen_at(29.9, 30.005)) is None
    assert blind_s(seen_at(29.9, 30.005, 32.9)) is None


def test_later_silences_have_other_causes() -> None:
    assert blind_s(seen_at(20.0, 29.9, 30.4, 32.5, 33.1, 50.0)) == pytest.approx(2.1)


@given(st.lists(st.floats(0, 60, allow_nan=False), min_size=2, max_size=40))
def test_blindness_never_says_less_than_the_first_result_took(seconds: list[float]) -> None:
    seen = seen_at(*sorted(seconds))
    after = [s for s in seconds if boot_ns(s) > boot_ns(KILLED_S)]
    found = blind_s(seen)
    if not after or len(after) == len(seconds) or boot_ns(max(seconds)) <= boot_ns(KILLED_S) + 3 * SECOND_NS:
        assert found is None
    else:
        assert found is not None
        assert found >= min(after) - KILLED_S - 1e-9
