"""`outrider replay`: a recorded drive through the whole agent; its last line is the digest."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.progress import Progress

from agent.config import AgentConfig, load_config
from agent.lockstep import Step
from ecu.clock import SECOND_NS
from ecu.errors import UsageFault
from inference.messages import Seen, SeenTrack
from simulator.boxes import Box
from simulator.mcapfile import DriveMcap
from simulator.outfile import whole_file
from simulator.replay import ReplayResult, replay
from telemetry.privacy import Dropped, Position, Privacy, PrivacyPolicy
from telemetry.privacy.aliases import same_each_time
from telemetry.records import NewTrack, Purpose, VehicleSummary, kind_of, record_of
from telemetry.signals import vss

app = typer.Typer(add_completion=False)

GNSS_ACCURACY_M = 3.0
MOST_S = 1e9
LEAST_RATE, MOST_RATE = 0.01, 1000.0
DESK = AgentConfig(privacy=PrivacyPolicy(consents=frozenset(Purpose)))
"""At a desk the drive is the engineer's own and no record leaves: every purpose may be seen, positions stay coarse."""


@app.command()
def main(
    drive: Annotated[Path, typer.Argument(help="A recorded drive: a video file (MP4, H.264).")],
    model: Annotated[str | None, typer.Option(help="Model package: NAME@VERSION or a folder.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write boxes, tracks and signals to this MCAP file.")] = None,
    until: Annotated[float | None, typer.Option(help="Stop after so many seconds of the drive.")] = None,
    rate: Annotated[
        float | None, typer.Option(help="At most so many times the drive's own speed; 1 is real time. Same result.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="outrider.toml to take the agent's configuration from.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Lockstep: as fast as this computer can, or at a rate, with the same result on any load."""
    settings = load_config(config) if config is not None else DESK
    if until is not None and not 0 < until < MOST_S:
        raise UsageFault(f"--until {until:g}: give seconds of the drive, more than 0 and less than {MOST_S:g}.")
    if rate is not None and not LEAST_RATE <= rate <= MOST_RATE:
        raise UsageFault(f"--rate {rate:g}: give a speed from {LEAST_RATE:g} to {MOST_RATE:g}; 1 is the drive's own.")
    package = settings.perception.model if model is None else model
    accuracy_m = GNSS_ACCURACY_M if settings.privacy.position is Position.EXACT else settings.privacy.cell_m
    privacy = Privacy(settings.privacy, same_each_time)
    console = Console(stderr=True)
    with contextlib.ExitStack() as stack:
        mcap = stack.enter_context(DriveMcap(stack.enter_context(whole_file(out)))) if out is not None else None
        quiet = as_json or not console.is_terminal
        progress = stack.enter_context(Progress(console=console, transient=True, disable=quiet))
        bar = progress.add_task("replaying", total=None)

        def on_step(step: Step) -> None:
            progress.update(bar, description=f"replaying, {step.t_ns / SECOND_NS:.1f} s of the drive")
            if mcap is not None:
                write_step(mcap, step, privacy, accuracy_m)

        result = asyncio.run(replay(drive, settings, package, on_step, until, rate))
    _tell(result, as_json)


def write_step(mcap: DriveMcap, step: Step, privacy: Privacy, accuracy_m: float) -> None:
    """Boxes, and what passed the privacy stage: a replay's output shows no more than a record may (law 5)."""
    for moment in step.moments:
        if not isinstance(seen := moment.sample.payload, Seen):
            privacy.hear(moment.sample.t_ns, seen)
        else:
            boxes = [Box(t.track_id, t.label, t.score, t.box) for t in seen.tracks if _may_be_told(t, seen, privacy)]
            mcap.annotations(seen.t_ns, seen.frame_id, boxes)
        for record in moment.records:
            mcap.record(record.captured_ns, kind_of(record.event), msgspec.to_builtins(record.event))
            if isinstance(record.event, VehicleSummary):
                _write_signals(mcap, record.captured_ns, record.event.signals, accuracy_m)
    for record in step.captured:
        mcap.record(record.captured_ns, kind_of(record.event), msgspec.to_builtins(record.event))


def _may_be_told(track: SeenTrack, seen: Seen, privacy: Privacy) -> bool:
    """Whether a record could tell of this object: steady ones alone, and only if the stage lets their kind pass."""
    told = NewTrack("replay", seen.frame_id, track.track_id, track.label, track.score, track.box)
    return track.confirmed and not isinstance(privacy.apply(record_of(seen.t_ns, told)), Dropped)


def _write_signals(mcap: DriveMcap, t_ns: int, values: dict[str, float], accuracy_m: float) -> None:
    mcap.signals(t_ns, values)
    if vss.LATITUDE in values and vss.LONGITUDE in values:
        mcap.location(t_ns, values[vss.LATITUDE], values[vss.LONGITUDE], 0.0, accuracy_m)


def _tell(result: ReplayResult, as_json: bool) -> None:
    frames = result.frames
    if as_json:
        counts = {"captured": frames.captured, "processed": frames.processed, "records": result.records}
        print(json.dumps({"model": result.model, **counts, "digest": result.digest}))
        return
    print(f"model {result.model}")
    law = "holds" if frames.holds else "BROKEN"
    print(f"frames {frames.captured} captured, {frames.processed} processed, law 2 {law}")
    print(f"records {result.records} in {result.seconds_of_drive:.1f} s of drive")
    print(f"digest {result.digest}")
