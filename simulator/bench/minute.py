"""A real minute of a real bus: the comma2k19 drive as decoded signals, where it and what reads it are installed."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Final

import simulator.drives
from telemetry.columns.cutting import join
from telemetry.signals.schema import Columns, Schema

_NAME: Final = "comma2k19-rav4"


def real_minute() -> tuple[Schema, list[Columns]] | None:
    """Its schema and one batch of each group, in the order in which they first come; None where it isn't here."""
    folder = Path(next(iter(simulator.drives.__path__)))
    recording, plan = folder / f"{_NAME}.frames", folder / f"{_NAME}.plan"
    needed = ("telemetry.signals.recording", "telemetry.signals.plan", "telemetry.signals.decode")
    if not recording.exists() or not plan.exists() or any(importlib.util.find_spec(name) is None for name in needed):
        return None
    reading, planning, decoding = (importlib.import_module(name) for name in needed)
    wanted = planning.load_plan(plan.read_bytes())
    decoder = decoding.Decoder(wanted)
    chunks = reading.open_recording(recording.read_bytes()).chunks()
    schema: Schema = wanted.schema
    return schema, join([batch for frames in chunks for batch in decoder.decode(frames)])
