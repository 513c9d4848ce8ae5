"""A proof in which every claim of the demo holds, each with nothing to spare: whatever is taken from it fails one."""

from __future__ import annotations

from dataclasses import dataclass, replace

import msgspec

from agent.frames import FrameCounts
from ecu.clock import MILLISECOND_NS, SECOND_NS
from inference.fidelity import Agreement
from simulator.boxes import Box
from simulator.demo.blackout import Blackout
from simulator.demo.judge import KILLED, Death, Loss, PowerCuts, Proof, Siege, claims
from simulator.demo.observer import Done, Observations, Reading, Sighting, UpdateHeard
from simulator.demo.pictureclaims import PictureProof
from simulator.demo.pictures import Look, PictureWatch, Shown
from simulator.demo.proofs import KeyWatch, StoredRecord
from simulator.demo.script import Deed
from simulator.demo.signalproof import SignalProof
from simulator.demo.updateclaims import Models
from simulator.witness import Entry, compare
from telemetry.records import Lane, Stored, VehicleSummary, encode_event
from telemetry.signals import vss
from tests.simulator.demo.soundclassroom import sound_classroom
from tests.simulator.demo.soundworkshop import sound_workshop

WALL_MINUS_BOOT_NS = 1_700_000_000 * SECOND_NS
EPOCH = bytes(range(16))
FRAME_NS = 40 * MILLISECOND_NS
TRIAL_S = STAGED_S, SHADOW_S, SWITCHED_S, COMMITTED_S = 4.0, 5.0, 7.0, 8.0
OLD, NEW = "drive-detect 1.0 (u8s8)", "drive-detect 2.0 (u8s8)"
CUT_S, RESTORED_S, KILLED_S, BACK_S, WOKEN_S = 10.0, 20.0, 30.0, 32.0, 50.0
SUMMARY = VehicleSummary({vss.SPEED: 88.0, vss.BRAKE_PEDAL: 0.0, vss.LATITUDE: 48.1, vss.LONGITUDE: 11.5})


@dataclass(frozen=True, slots=True)
class Told:
    """One record's story: when a witness heard of it and when the receiver had it, in boot seconds."""

    heard_s: float
    arrived_s: float
    believed_wall_ns: int


def boot_ns(seconds: float) -> int:
    return round(seconds * SECOND_NS)


def sound(*, lockstep: bool = False) -> Proof:
    return with_records(_proof(lockstep), stories())


def stories() -> list[Told]:
    """Nine of an ordinary day, as many as must wait for the link, as many as must come from 1970."""
    today = WALL_MINUS_BOOT_NS
    ordinary = [Told(1.0 + n, 1.5 + n, today) for n in range(9)]
    waited = [Told(15.0, RESTORED_S, today)] * 200
    of_1970 = [Told(WOKEN_S, WOKEN_S + 3, 7 * SECOND_NS)] * 20
    return [*ordinary, *waited, *of_1970]


def with_records(proof: Proof, told: list[Told]) -> Proof:
    """The proof with testimony, inbox and counts as these stories have them."""
    stored = [_stored(seq, story) for seq, story in enumerate(told)]
    testimony = [Entry(boot_ns(story.heard_s), record.confirmation) for story, record in zip(told, stored, strict=True)]
    return rejudged(replace(proof, testimony=testimony, stored=stored))


def rejudged(proof: Proof) -> Proof:
    """The proof with its witness' report made anew, and counts that know what was stored."""
    report = compare((entry.confirmation for entry in proof.testimony), (r.confirmation for r in proof.stored))
    more = len(proof.stored) - 3 * 15
    last = lane(3, offered=15 + more, durable=9 + more, acknowledged=more)
    return replace(proof, witness=report, lanes=[*map(lane, range(3)), last])


def _stored(seq: int, told: Told) -> StoredRecord:
    event = msgspec.Raw(encode_event(SUMMARY))
    record = Stored(boot_ns(told.heard_s), told.believed_wall_ns, event)
    return StoredRecord(int(Lane.P2), EPOCH, seq, WALL_MINUS_BOOT_NS + boot_ns(told.arrived_s), record)


def _proof(lockstep: bool) -> Proof:
    return Proof(
        seen=_seen(),
        lockstep=lockstep,
        key=KeyWatch(held=1, leaks=(), certified=True),
        frames=FrameCounts(
            captured=100, received=100, processed=90, dropped_by_policy=4, dropped_late=3, lost_to_fault=2, in_flight=1
        ),
        agreement={0.40: Agreement(0.94, 0.92, 0.93, 0.91, 0.95)},
        testimony=[],
        stored=[],
        witness=compare([], []),
        deaths=[Death(deed, gone=True, back=True) for deed in KILLED],
        orphans=0,
        loss=Loss(Lane.P2, 1.25),
        siege=Siege(sent=2000, fall=None),
        intruder_stored=0,
        stranger_refused_by="unknown ca",
        lanes=[],
        digests=["sha256:" + "ab" * 32] * 2,
        other_digest="sha256:" + "cd" * 32,
        cuts=PowerCuts(cuts=241, violations=0),
        wall_minus_boot_ns=WALL_MINUS_BOOT_NS,
        models=Models(Agreement(0.8, 0.8, 0.8, 0.7, 0.9), Agreement(0.95, 0.95, 0.95, 0.93, 0.97)),
        pictures=sound_pictures(),
        workshop=None if lockstep else sound_workshop(),
        classroom=None if lockstep else sound_classroom(),
        signals=None if lockstep else sound_signals(),
    )


def sound_signals() -> SignalProof:
    return SignalProof(blocks=20, samples=1000, same=990, different=0, alone=10, triggers=2)


def sound_pictures() -> PictureProof:
    """Five pictures of as many frames, taken before and after twenty frames in the dark."""
    names = [f"{n:064x}" for n in range(5)]
    watch = PictureWatch(
        looks=tuple(Look(name, True, False, 30.0, 0.25, (0.95, 1.0)) for name in names),
        told={name: frozenset({10 * n}) for n, name in enumerate(names)},
        missing=0,
        altered=0,
        rows=dict.fromkeys(names, 1),
        shown=Shown(b"jpeg", 960, 540, 3),
    )
    return PictureProof(watch, Blackout(kills=3, frames=range(41, 61), wanted=2, taken=0, dropped=2, back=True))


def lane(number: int, **changed: int) -> dict[str, object]:
    """One lane as `outrider spool inspect --json` tells it."""
    counts: dict[str, object] = {
        "lane": f"P{number}", "offered": 30, "durable": 24, "pending": 1, "dropped": {"queue_full": 2, "erased": 1},
        "lost_in_crash": 2, "acknowledged": 15, "spooled": 4, "evicted": {"quota": 3}, "quarantined": {"corrupt": 1},
        "erased": 1,
    }  # fmt: skip
    return counts | changed


def _seen() -> Observations:
    """A result each 40 ms, but for the two seconds after the worker was killed."""
    seen = Observations(began_ns=0)
    times = [n * FRAME_NS for n in range(1500)]
    for number, at_ns in enumerate(t for t in times if not boot_ns(KILLED_S) < t < boot_ns(BACK_S)):
        box = Box(7, "car", 0.8, (10.0, 20.0, 50.0, 60.0))
        model = OLD if at_ns < boot_ns(SWITCHED_S) else NEW
        latency_ns = 32 * MILLISECOND_NS if at_ns < boot_ns(STAGED_S) else 40 * MILLISECOND_NS
        seen.sightings.append(Sighting(at_ns, number, model, at_ns, latency_ns, latency_ns * 4 // 5, (box,)))
    title = "model drive-detect 2.0 (release 1)"
    for at_s, what in zip(TRIAL_S, ("staged", "shadow", "switched", "committed"), strict=True):
        seen.updates.append(UpdateHeard(boot_ns(at_s), what, "model", title, "", "better"))
    seen.readings += [Reading(boot_ns(second), _status(second)) for second in range(60)]
    seen.deeds += [
        Done(Deed.RELEASE, boot_ns(STAGED_S), boot_ns(COMMITTED_S)),
        Done(Deed.CUT_LINK, boot_ns(CUT_S), boot_ns(RESTORED_S)),
        Done(Deed.KILL_WORKER, boot_ns(KILLED_S), boot_ns(BACK_S)),
        Done(Deed.DEAD_CLOCK, boot_ns(WOKEN_S), boot_ns(WOKEN_S + 5)),
    ]
    return seen


def _status(second: int) -> dict[str, object]:
    """Frames are lost to faults now and then, but not at the swap."""
    lost = 1 + (second > SWITCHED_S + 1) + 2 * (second > KILLED_S) - (second < STAGED_S)
    return {
        "spool": {"lanes": [lane(n) for n in range(4)]}, "law_1_holds": True, "law_2_holds": True,
        "perception": {"frames": {"lost_to_fault": lost}},
    }  # fmt: skip


def failed(proof: Proof) -> list[str]:
    """Names of the claims that don't hold."""
    return [claim.name for claim in claims(proof) if not claim.ok]
