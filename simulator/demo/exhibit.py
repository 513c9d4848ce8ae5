"""From observations to what people look at: the live scene, and the report's evidence."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import cv2

from agent.frames import FrameCounts
from ecu.clock import SECOND_NS
from inference.runtime import ort
from simulator.claims import Verdict
from simulator.demo.judge import LATENCY_BAR_MS, Proof, percentile_ms
from simulator.demo.observer import Observations
from simulator.demo.pictures import PictureWatch
from simulator.demo.script import Act, Deed, Script
from simulator.display import Happening, LaneDepth, Law, Process, Scene, State, View, Way
from simulator.report.evidence import (
    CloudPicture,
    Drive,
    Equation,
    Evidence,
    Fault,
    Frame,
    Host,
    Latency,
    Ledger,
    LedgerRow,
    Line,
    Spool,
    Waypoint,
)
from telemetry.records import VehicleSummary, decode_event
from telemetry.signals import vss

LANES: Final = ("P0", "P1", "P2", "P3")
DRAWN_FRAMES: Final = 400
CELL_M: Final = 500.0
DEED_NAMES: Final = {
    Deed.KILL_WORKER: "worker killed",
    Deed.RELEASE: "new model",
    Deed.KEPT: "new model due",
    Deed.CUT_LINK: "link cut",
    Deed.KILL_REDACTOR: "redactor killed",
    Deed.KILL_CAMERA: "camera killed",
    Deed.KILL_AGENT: "agent killed",
    Deed.KILL_RECEIVER: "receiver killed",
    Deed.HOSTILE_PACKETS: "hostile packets",
    Deed.STRANGER: "stranger",
    Deed.DEAD_CLOCK: "clock in 1970",
}


def host() -> Host:
    """This computer, as numbers need it beside them."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features"))), [])
    wide = [flag for flag in ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "asimddp", "i8mm") if flag in flags]
    return Host(
        cpu=names[0] if names else platform.processor() or "unknown",
        cores=os.cpu_count() or 1,
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        onnxruntime=ort.__version__,
        isa=" ".join([platform.machine(), *wide]),
    )


def frame_size(drive: Path) -> tuple[int, int]:
    """Width and height of the drive's frames in pixels."""
    capture = cv2.VideoCapture(str(drive.absolute()), cv2.CAP_FFMPEG)
    size = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
    capture.release()
    return size


# --- live ---------------------------------------------------------------------------------------------------------


class SceneBuilder:
    """Keeps what the display needs between news."""

    def __init__(self, script: Script, seen: Observations, size: tuple[int, int], total_s: float) -> None:
        self._script = script
        self._seen = seen
        self._size = size
        self._total_s = total_s
        self._phase = ("Getting ready", "A receiver, a pairing, a vehicle, a witness: all on this machine.")
        self._number = 0
        self._killed: set[str] = set()

    def enter(self, title: str, why: str) -> None:
        self._phase = title, why
        self._number += 1

    def begin(self, act: Act) -> None:
        self.enter(act.title, act.why)

    def scene(self, now_ns: int, pids: Mapping[str, int]) -> Scene:
        """The picture of this instant."""
        status = self._seen.readings[-1].status if self._seen.readings else {}
        lanes = status.get("spool", {}).get("lanes", [])
        uplink = (status.get("cloud") or {}).get("uplink") or {}
        last = self._seen.sightings[-1] if self._seen.sightings else None
        stored = sum(lane["acknowledged"] for lane in lanes)
        return Scene(
            elapsed_s=(now_ns - self._seen.began_ns) / SECOND_NS,
            total_s=self._total_s,
            phase=self._phase[0],
            why=self._phase[1],
            phase_number=self._number,
            phases=len(self._script.acts) + 3,
            processes=_processes(status, pids),
            view=View(*self._size, last.boxes) if last is not None else None,
            frames_per_s=_pace(self._seen),
            p50_ms=percentile_ms(self._seen, 50),
            p99_ms=percentile_ms(self._seen, 99),
            link=Way.CUT if uplink and uplink.get("state") != "connected" else Way.OPEN,
            lanes=tuple(LaneDepth(name, lane["spooled"]) for name, lane in zip(LANES, lanes, strict=False)),
            durable=sum(lane["durable"] for lane in lanes),
            stored=stored,
            laws=_laws(status),
            happenings=self._happenings(),
        )

    def _happenings(self) -> tuple[Happening, ...]:
        began = self._seen.began_ns
        told = [
            (done.ended_ns, f"{DEED_NAMES.get(done.deed, done.deed.value)}: {done.detail}") for done in self._seen.deeds
        ]
        told += [(at_ns, f"{what.replace('_', ' ')}: {detail}") for at_ns, what, detail in self._seen.health[-5:]]
        return tuple(Happening((at_ns - began) / SECOND_NS, text) for at_ns, text in sorted(told)[-5:])


def _processes(status: Mapping[str, Any], pids: Mapping[str, int]) -> tuple[Process, ...]:
    perception = status.get("perception") or {}
    inner = {
        "camera": (perception.get("camera_pid"), perception.get("cameras_replaced", 0)),
        "worker": (perception.get("live_pid"), perception.get("workers_replaced", 0)),
        "standby": (perception.get("standby_pid"), 0),
    }
    shown = [Process(name, pid, State.UP) for name, pid in pids.items()]
    for name, (pid, replaced) in inner.items():
        state = State.STARTING if pid is None else State.RESTARTED if replaced else State.UP
        shown.append(Process(name, pid, state))
    return tuple(shown)


def _pace(seen: Observations) -> float | None:
    recent = seen.sightings[-50:]
    if len(recent) < 2:
        return None
    span_ns = recent[-1].heard_ns - recent[0].heard_ns
    return (len(recent) - 1) / (span_ns / SECOND_NS) if span_ns else None


def _laws(status: Mapping[str, Any]) -> tuple[Law, ...]:
    lanes = status.get("spool", {}).get("lanes")
    frames = (status.get("perception") or {}).get("frames")
    laws = []
    if lanes:
        laws.append(Law(f"1  {sum(lane['offered'] for lane in lanes):,} records accounted for", status["law_1_holds"]))
    if frames:
        laws.append(Law(f"2  {frames['captured']:,} frames accounted for", status["law_2_holds"]))
    if laws:
        laws.append(Law("6  freed only when stored", status["law_6_holds"]))
    return tuple(laws)


# --- the report ---------------------------------------------------------------------------------------------------


def evidence(proof: Proof, verdict: Verdict, script: Script, size: tuple[int, int], when: datetime) -> Evidence:
    """Everything the report draws from. No pixel of any frame is in it but those of one picture, covered and stored."""
    seen = proof.seen
    mode = "lockstep" if script.lockstep else "real speed"
    return Evidence(
        title="A real drive, from camera to cloud, losing nothing",
        summary=_summary(proof, verdict, script),
        when=when,
        mode=mode,
        host=host(),
        verdict=verdict,
        faults=tuple(_faults(seen)),
        latency=_latency(seen, script.lockstep),
        spool=_spool(seen),
        ledgers=tuple(_ledgers(proof)),
        drive=_drive(proof, size),
        picture=_picture(proof.pictures.watch),
    )


def _summary(proof: Proof, verdict: Verdict, script: Script) -> str:
    held = sum(claim.ok for claim in verdict.claims)
    pace = "in lockstep, as fast as this machine goes" if script.lockstep else "at real speed"
    return (
        f"A vehicle paired with a receiver, drove {script.drive_s:.0f} s of a recorded road {pace}, and was cut off, "
        f"killed and besieged on the way. {len(proof.stored):,} records reached the receiver; {held} of "
        f"{len(verdict.claims)} claims held."
    )


def _s(seen: Observations, at_ns: int) -> float:
    return (at_ns - seen.began_ns) / SECOND_NS


def _faults(seen: Observations) -> list[Fault]:
    kills = (Deed.KILL_WORKER, Deed.KILL_CAMERA, Deed.KILL_AGENT, Deed.KILL_RECEIVER)
    found = []
    for done in seen.deeds:
        if done.deed not in DEED_NAMES:
            continue
        start = _s(seen, done.began_ns)
        end = start if done.deed in kills else _s(seen, done.ended_ns)
        found.append(Fault(DEED_NAMES[done.deed], start, end, done.detail))
    return sorted(found, key=lambda fault: fault.start_s)


def _latency(seen: Observations, lockstep: bool) -> Latency:
    points = tuple((_s(seen, sighting.heard_ns), sighting.latency_ns / 1e6) for sighting in seen.sightings)
    return Latency(points, percentile_ms(seen, 50), percentile_ms(seen, 99), None if lockstep else LATENCY_BAR_MS)


def _spool(seen: Observations) -> Spool:
    def line(name: str, pick: Any) -> Line:
        return Line(name, tuple((_s(seen, reading.heard_ns), float(pick(reading.status))) for reading in seen.readings))

    def total(status: Any, what: str) -> int:
        return sum(lane[what] for lane in status["spool"]["lanes"])

    return Spool(
        tuple(line(name, lambda status, i=i: status["spool"]["lanes"][i]["spooled"]) for i, name in enumerate(LANES)),
        line("durable on the vehicle", lambda status: total(status, "durable")),
        line("stored at the receiver", lambda status: total(status, "acknowledged")),
    )


def _ledgers(proof: Proof) -> list[Ledger]:
    ledgers = []
    if proof.lanes:
        ledgers.append(
            Ledger(
                "Law 1: records are conserved",
                "Every record that was ever offered is somewhere, and the counters say where.",
                (_offered(proof.lanes), _durable(proof.lanes)),
            )
        )
    if proof.frames is not None:
        ledgers.append(
            Ledger(
                "Law 2: frames are conserved",
                "Every frame the camera captured has exactly one fate.",
                (_captured(proof.frames),),
            )
        )
    return ledgers


def _sum(value: Any) -> int:
    return sum(value.values()) if isinstance(value, Mapping) else int(value)


def _equation(lanes: Sequence[Mapping[str, Any]], total: str, parts: tuple[str, ...]) -> Equation:
    rows = tuple(
        LedgerRow(name, _sum(lane[total]), tuple(_sum(lane[part]) for part in parts))
        for name, lane in zip(LANES, lanes, strict=True)
    )
    return Equation(total, tuple(part.replace("_", " ") for part in parts), rows)


def _offered(lanes: Sequence[Mapping[str, Any]]) -> Equation:
    return _equation(lanes, "offered", ("durable", "pending", "dropped", "lost_in_crash"))


def _durable(lanes: Sequence[Mapping[str, Any]]) -> Equation:
    return _equation(lanes, "durable", ("acknowledged", "spooled", "evicted", "quarantined", "erased"))


def _captured(frames: FrameCounts) -> Equation:
    parts = ("processed", "superseded by a newer frame", "too late", "in flight", "lost to faults")
    values = (
        frames.processed, frames.dropped_by_policy, frames.dropped_late, frames.in_flight, frames.lost_to_fault,
    )  # fmt: skip
    return Equation("captured", parts, (LedgerRow("camera front", frames.captured, values),))


def _drive(proof: Proof, size: tuple[int, int]) -> Drive:
    seen = proof.seen
    every = max(1, len(seen.sightings) // DRAWN_FRAMES)
    frames = tuple(Frame(_s(seen, s.heard_ns), s.frame_id, s.boxes) for s in seen.sightings[::every])
    told = [(t_s, event.signals) for t_s, event in _summaries(proof)]
    return Drive(
        *size,
        frames=frames,
        speed_kmh=Line("speed", tuple((t, v[vss.SPEED]) for t, v in told if vss.SPEED in v)),
        brake_percent=Line("brake", tuple((t, v[vss.BRAKE_PEDAL]) for t, v in told if vss.BRAKE_PEDAL in v)),
        route=tuple(Waypoint(t, v[vss.LATITUDE], v[vss.LONGITUDE]) for t, v in told if vss.LATITUDE in v),
        cell_m=CELL_M,
    )


def _picture(watch: PictureWatch) -> CloudPicture | None:
    one = watch.shown
    return None if one is None else CloudPicture(one.jpeg, one.width, one.height, one.covered, len(watch.looks))


def _summaries(proof: Proof) -> list[tuple[float, VehicleSummary]]:
    """What the receiver was told of the vehicle's signals, every quarter second, on the run's own time axis."""
    began_t_ns = proof.seen.sightings[0].t_ns if proof.seen.sightings else 0
    offset_s = _s(proof.seen, proof.seen.sightings[0].heard_ns) if proof.seen.sightings else 0.0
    found: list[tuple[float, VehicleSummary]] = []
    for stored in sorted((s for s in proof.stored if s.lane == 2), key=lambda s: s.record.captured_ns):
        event = decode_event(bytes(stored.record.event))
        t_s = (stored.record.captured_ns - began_t_ns) / SECOND_NS + offset_s
        if isinstance(event, VehicleSummary) and t_s >= 0 and (not found or t_s - found[-1][0] >= 0.25):
            found.append((t_s, event))
    return found
