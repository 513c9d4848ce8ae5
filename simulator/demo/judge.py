"""The demo's claims: each a promise, its number and its bar, computed from what was observed and what is on disk."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from agent.frames import FrameCounts
from ecu.clock import SECOND_NS
from inference.fidelity import Agreement
from simulator.claims import Claim, at_least, at_most, equals, holds
from simulator.demo import classroomclaims, pictureclaims, signalclaims, updateclaims, workshopclaims
from simulator.demo.classroom import ClassroomProof
from simulator.demo.observer import Observations, Reading
from simulator.demo.pictureclaims import PictureProof
from simulator.demo.proofs import KeyWatch, StoredRecord
from simulator.demo.script import Deed
from simulator.demo.signalproof import SignalProof
from simulator.demo.updateclaims import Models
from simulator.demo.workshop import WorkshopProof
from simulator.witness import Entry, WitnessReport
from telemetry.records import COMMIT_WITHIN_NS, Lane

LATENCY_BAR_MS = 40.0
OVERHEAD_BAR = 1.25
FIDELITY_BAR = 0.93
SPOOLED_BAR = 200
BLIND_BAR_S = 2.0
BLIND_WITHIN_S = 3
PROCESSED_BAR = 0.8
LOST_FRAMES_BAR = 36  # four deaths and two stops, each of which can take the whole frame memory of six
LOSS_SLACK_S = 0.25
UNTRUSTED_RECORDS_BAR = 20
KILLED = (Deed.KILL_WORKER, Deed.KILL_CAMERA, Deed.KILL_AGENT, Deed.KILL_RECEIVER)


@dataclass(frozen=True, slots=True)
class Death:
    """A process killed by SIGKILL: `gone` when the kernel no longer knew it, `back` when a successor did its work."""

    deed: Deed
    gone: bool
    back: bool


@dataclass(frozen=True, slots=True)
class Loss:
    """What the agent's death cost a lane: how much older its newest durable record was than its newest sample."""

    lane: Lane
    age_s: float


@dataclass(frozen=True, slots=True)
class Siege:
    """Hostile packets: how many were sent, and in words how the endpoint fell; None when it served its own vehicle
    afterwards."""

    sent: int
    fall: str | None


@dataclass(frozen=True, slots=True)
class PowerCuts:
    """Simulated power cuts of the real spool: the distinct disks they left, and how many broke a promise."""

    cuts: int
    violations: int


@dataclass(frozen=True, slots=True)
class Proof:
    """All that the judgement needs."""

    seen: Observations
    lockstep: bool
    key: KeyWatch
    frames: FrameCounts | None
    agreement: Mapping[float, Agreement]
    testimony: Sequence[Entry]
    stored: Sequence[StoredRecord]
    witness: WitnessReport
    deaths: Sequence[Death]
    orphans: int | None
    loss: Loss | None
    siege: Siege | None
    intruder_stored: int
    stranger_refused_by: str | None
    lanes: Sequence[Mapping[str, Any]]
    digests: Sequence[str]
    other_digest: str | None
    cuts: PowerCuts | None
    wall_minus_boot_ns: int
    models: Models
    pictures: PictureProof
    workshop: WorkshopProof | None
    classroom: ClassroomProof | None
    signals: SignalProof | None


def claims(proof: Proof) -> tuple[Claim, ...]:
    """In the order of the story."""
    return (
        _paired(proof.key),
        _frames(proof.frames, proof.seen.readings),
        _latency(proof.seen, proof.lockstep),
        _fidelity(proof.agreement),
        _spooled(proof),
        _killed(proof.deaths),
        _exactly_once(proof.witness),
        _law_1(proof),
        _lost(proof.loss),
        _blind(proof.seen),
        _orphans(proof.orphans),
        _power_cuts(proof.cuts),
        _siege(proof.siege, proof.intruder_stored),
        _stranger(proof.stranger_refused_by),
        _dead_clock(proof),
        _digest(proof.digests, proof.other_digest),
        *updateclaims.claims(proof.seen, proof.models, proof.lockstep),
        *pictureclaims.claims(proof.pictures),
        *(signalclaims.claims(proof.signals) if proof.signals is not None else ()),
        *(workshopclaims.claims(proof.workshop) if proof.workshop is not None else ()),
        *(classroomclaims.claims(proof.classroom) if proof.classroom is not None else ()),
    )


def _paired(key: KeyWatch) -> Claim:
    held = key.held > 0 and key.certified and not key.leaks
    certified = "certified" if key.certified else "NOT certified"
    words = f"{key.held} key on the vehicle, {certified}, {len(key.leaks)} copies elsewhere"
    return holds(
        "paired; the private key never left the vehicle", held,
        "Who has a car's key is that car: it is made on the car, and nobody ever needs to see it.",
        measured=words, bar="on the vehicle, certified, 0 copies elsewhere",
    )  # fmt: skip


def _frames(frames: FrameCounts | None, readings: Sequence[Reading]) -> Claim:
    name = "frames conserved (law 2)"
    why = "A frame that vanishes without a count hides a fault; every one has exactly one fate, kills included."
    if frames is None or frames.captured == 0:
        return holds(name, None, why)
    words = (
        f"{frames.captured:,} captured = {frames.processed:,} processed + {frames.dropped_by_policy:,} superseded + "
        f"{frames.dropped_late:,} late + {frames.in_flight} in flight + {frames.lost_to_fault:,} lost to faults"
    )
    held = frames.holds and frames.underway == 0 and all(r.status["law_2_holds"] is not False for r in readings)
    few_lost = frames.lost_to_fault <= LOST_FRAMES_BAR
    return holds(
        name, held and few_lost and frames.processed >= PROCESSED_BAR * frames.captured, why, measured=words,
        bar=f"both sides equal, always; ≥ {PROCESSED_BAR:.0%} processed, ≤ {LOST_FRAMES_BAR} lost",
    )  # fmt: skip


def latencies_ms(seen: Observations) -> np.ndarray:
    return np.array([sighting.latency_ns for sighting in seen.sightings], float) / 1e6


def percentile_ms(seen: Observations, percent: float) -> float | None:
    values = latencies_ms(seen)
    return float(np.percentile(values, percent)) if len(values) else None


def over_the_model(seen: Observations) -> float | None:
    """Median of what a frame took over what the runtime's own call took of it."""
    ratios = [one.latency_ns / one.model_ns for one in seen.sightings if one.model_ns > 0]
    return float(np.median(ratios)) if ratios else None


def _latency(seen: Observations, lockstep: bool) -> Claim:
    """At real speed the slowest frames count. In lockstep nobody waits for one: what counts is what we add to it."""
    why = "A result that comes late is about a road that is no longer there."
    if lockstep:
        claim = at_most("camera to result, over the model's own call", over_the_model(seen), OVERHEAD_BAR, "x", why)
    else:
        claim = at_most("camera to result, p99", percentile_ms(seen, 99), LATENCY_BAR_MS, "ms", why)
    p50, p99 = percentile_ms(seen, 50) or 0.0, percentile_ms(seen, 99) or 0.0
    return _with(claim, f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, {len(seen.sightings):,} frames")


def _with(claim: Claim, more: str) -> Claim:
    """The claim with something beside its number."""
    return replace(claim, measured=f"{claim.measured} ({more})") if claim.value is not None else claim


def _fidelity(agreement: Mapping[float, Agreement]) -> Claim:
    at = agreement.get(0.40)
    claim = at_least(
        "INT8 fidelity to fp32, F1 at score .40", None if at is None else at.f1, FIDELITY_BAR, "",
        "Quantization makes the model small and fast; it must still see what it saw before.",
    )  # fmt: skip
    return claim if at is None else _with(claim, f"95 % interval {at.f1_low:.3f} to {at.f1_high:.3f}")


def spooled_through_cut(proof: Proof) -> int | None:
    """Records confirmed durable while the link was cut, and stored at the receiver only after it was restored."""
    cut = proof.seen.done(Deed.CUT_LINK)
    if cut is None:
        return None
    arrived_ns = {
        (record.lane, record.epoch, record.seq): record.received_ns - proof.wall_minus_boot_ns
        for record in proof.stored
    }
    return sum(
        cut.began_ns <= entry.heard_boot_ns < cut.ended_ns and arrived_ns.get(_name(entry), 0) >= cut.ended_ns
        for entry in proof.testimony
    )


def _name(entry: Entry) -> tuple[int, bytes, int]:
    said = entry.confirmation
    return said.lane, said.epoch, said.seq


def _spooled(proof: Proof) -> Claim:
    return at_least(
        "kept on flash through the cut link, stored after it", spooled_through_cut(proof), SPOOLED_BAR, "records",
        "A tunnel or a dead cell must not make a hole in what the car can tell.",
    )  # fmt: skip


def _killed(deaths: Sequence[Death]) -> Claim:
    recovered = {death.deed for death in deaths if death.gone and death.back}
    return equals(
        "processes killed mid-drive that came back (agent, worker, camera, receiver)", len(recovered & set(KILLED)),
        len(KILLED), "", "Everything that can die does, on some car, today.",
    )  # fmt: skip


def _exactly_once(report: WitnessReport) -> Claim:
    words = (
        f"{report.confirmed:,} confirmed: {report.missing} missing, {report.duplicates} twice, {report.altered} altered"
    )
    return holds(
        "every record a witness saw become durable is at the receiver exactly once", report.ok,
        "Durable means durable: what the car said it kept, the cloud has, once, unchanged.",
        measured=words, bar="0 missing, 0 twice, 0 altered",
    )  # fmt: skip


def _law_1(proof: Proof) -> Claim:
    """Three ways: the counters of the running agent, which a restart would put right; what is on flash after it all;
    and the receiver's own count of what the vehicle believes it has."""
    why = "Whoever reads the counters can tell where every record went, through every kill."
    lanes, readings = proof.lanes, [reading.status["law_1_holds"] for reading in proof.seen.readings]
    offered = sum(_count(lane, "offered") for lane in lanes)
    if not offered or not readings:
        return holds("records conserved (law 1)", None, why)
    durable, acknowledged = (sum(_count(lane, what) for lane in lanes) for what in ("durable", "acknowledged"))
    held = all(
        _count(lane, "offered") == _count(lane, "durable", "pending", "dropped", "lost_in_crash")
        and _count(lane, "durable") == _count(lane, "acknowledged", "spooled", "evicted", "quarantined", "erased")
        for lane in lanes
    )
    lost = sum(_count(lane, "lost_in_crash") for lane in lanes)
    words = (
        f"{offered:,} offered: {durable:,} durable, {lost} lost before durability, {offered - durable - lost} dropped; "
        f"{acknowledged:,} acknowledged, {len(proof.stored):,} stored; broken in {readings.count(False)} of "
        f"{len(readings):,} readings"
    )
    return holds(
        "records conserved (law 1)", held and acknowledged == len(proof.stored) and all(readings), why,
        measured=words, bar="both sides equal in every lane, always",
    )  # fmt: skip


def _count(lane: Mapping[str, Any], *columns: str) -> int:
    values = [lane[column] for column in columns]
    return sum(sum(value.values()) if isinstance(value, Mapping) else value for value in values)


def _lost(loss: Loss | None) -> Claim:
    lane = Lane.P2 if loss is None else loss.lane
    bar_s = COMMIT_WITHIN_NS[lane] / SECOND_NS + LOSS_SLACK_S
    return at_most(
        f"age of what the agent's death took from {lane.name}", None if loss is None else loss.age_s, bar_s, "s",
        "What isn't durable yet is lost with the process: that is bounded by the lane's commit time, and stated.",
    )  # fmt: skip


def blind_s(seen: Observations) -> float | None:
    """Longest silence of results that the killed worker can have caused: it began before the kill or within the three
    seconds after it, however long it lasted. None when no result came after those."""
    killed = seen.done(Deed.KILL_WORKER)
    heard_ns = [sighting.heard_ns for sighting in seen.sightings]
    if killed is None or not heard_ns:
        return None
    until_ns = killed.began_ns + BLIND_WITHIN_S * SECOND_NS
    if heard_ns[0] > killed.began_ns or heard_ns[-1] <= until_ns:
        return None
    return max(b - a for a, b in itertools.pairwise(heard_ns) if b > killed.began_ns and a <= until_ns) / SECOND_NS


def _blind(seen: Observations) -> Claim:
    return at_most(
        "blind after a killed worker", blind_s(seen), BLIND_BAR_S, "s",
        "Native code crashes; the road goes on. A warm standby looks at the next frame.",
    )  # fmt: skip


def _orphans(orphans: int | None) -> Claim:
    return equals(
        "processes left over after the agent's death", orphans, 0, "",
        "An orphan would hold the camera, or write where its successor writes.",
    )  # fmt: skip


def _power_cuts(cuts: PowerCuts | None) -> Claim:
    claim = equals(
        "confirmed records lost in simulated power cuts", cuts.violations if cuts and cuts.cuts else None, 0, "",
        "A kill leaves the kernel's memory whole; a power cut drops, tears and reorders every un-synced write.",
    )  # fmt: skip
    return claim if cuts is None else _with(claim, f"{cuts.cuts:,} distinct disks")


def _siege(siege: Siege | None, stored: int) -> Claim:
    why = "A port on the internet hears everything; nothing it hears may stop it, or be taken for a record."
    if siege is None:
        return holds("hostile packets refused, endpoint up", None, why)
    words = f"{siege.sent:,} sent, {stored} stored, endpoint {'up' if siege.fall is None else f'DOWN: {siege.fall}'}"
    held = siege.sent > 0 and stored == 0 and siege.fall is None
    return holds("hostile packets refused, endpoint up", held, why, measured=words, bar="0 stored, endpoint up")


def _stranger(refusal: str | None) -> Claim:
    return holds(
        "a stranger's certificate refused", refusal is not None,
        "The certificate alone says which car speaks; one signed by anybody else opens nothing.",
        measured="let in" if refusal is None else f"refused: {refusal}", bar="refused",
    )  # fmt: skip


def _dead_clock(proof: Proof) -> Claim:
    done = proof.seen.done(Deed.DEAD_CLOCK)
    kept = None
    if done is not None:
        kept = sum(
            1
            for record in proof.stored
            if done.began_ns <= record.received_ns - proof.wall_minus_boot_ns and _is_1970(record.record.wall_ns)
        )
    return at_least(
        "spooled while the clock read 1970, stored once the time was known", kept, UNTRUSTED_RECORDS_BAR, "records",
        "A car that wakes without its clock must record, and mustn't take an expired certificate for a good one.",
    )  # fmt: skip


def _is_1970(wall_ns: int) -> bool:
    return wall_ns < 365 * 24 * 3600 * SECOND_NS


def _digest(digests: Sequence[str], other: str | None) -> Claim:
    """A digest that never changes would be equal, too: another model's has to differ."""
    why = "A drive that can be replayed to the bit can be debugged, compared and argued about."
    if len(digests) < 2 or other is None:
        return holds("replay gives the same digest twice", None, why)
    first, *rest = (digest.removeprefix("sha256:")[:12] for digest in (*digests, other))
    return holds(
        "replay gives the same digest twice", len(set(digests)) == 1 and other not in digests, why,
        measured=f"{' / '.join([first, *rest[:-1]])}, with another model {rest[-1]}", bar="equal, but for the model",
    )  # fmt: skip
