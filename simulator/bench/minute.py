"""A real minute of a real bus: the comma2k19 drive as its plan's signals."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import simulator.drives
from telemetry.columns.cutting import join
from telemetry.signals.decode import Decoder
from telemetry.signals.plan import load_plan
from telemetry.signals.recording import open_recording
from telemetry.signals.schema import Columns, Schema

_NAME: Final = "comma2k19-rav4"


def real_minute() -> tuple[Schema, list[Columns]]:
    """Its schema, and one batch of each group that its frames tell, in the order in which they first come."""
    folder = Path(next(iter(simulator.drives.__path__)))
    plan = load_plan((folder / f"{_NAME}.plan").read_bytes())
    recording = open_recording((folder / f"{_NAME}.frames").read_bytes())
    decoder = Decoder(plan)
    return plan.schema, join([batch for frames in recording.chunks() for batch in decoder.decode(frames)])
