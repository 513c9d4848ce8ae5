"""`outrider agent audit verify`: whether anybody changed what this vehicle wrote down."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from ecu.errors import OutriderError, UsageFault

app = typer.Typer(help="What happened to this vehicle's updates, as a chain.", no_args_is_help=True)

_FINDINGS_SHOWN: Final = 20


@app.callback()
def audit() -> None:
    """What happened to this vehicle's updates, as a chain."""


@app.command()
def verify(
    state: Annotated[Path, typer.Option("--state", help="The agent's state folder.")] = Path("outrider-state"),
    seen: Annotated[
        Path | None, typer.Option("--seen", help="A copy of audit-seen.json, for a vehicle that may have lost its own.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on standard output, nothing else there.")] = False,
) -> None:
    """Verify the chain in itself, and against all that the receiver signed of it; exit 1 when anything was changed."""
    from agent.checkpoints import verify as verified
    from agent.pairing import load_paired
    from ecu.clock import SystemClock
    from ecu.disk import RealDisk
    from telemetry.links.checkpoints import CheckpointAnswer

    held = None
    if seen is not None:
        try:
            held = msgspec.json.decode(seen.read_bytes(), type=list[CheckpointAnswer])
        except (OSError, ValueError, RecursionError) as error:
            raise UsageFault(f"{seen} holds no checkpoints of a vehicle: {error}.") from error
    disk = RealDisk(state)
    verdict = verified(load_paired(disk), SystemClock(), disk, held)
    if as_json:
        typer.echo(msgspec.json.encode(verdict).decode())
    else:
        typer.echo(
            f"{verdict.entries} entries, {verdict.checkpoints} checkpoints. Head {verdict.head_seq}: "
            f"{verdict.head_digest}"
        )
    if verdict.findings:
        raise OutriderError(f"The audit was changed: {'; '.join(verdict.findings[:_FINDINGS_SHOWN])}.")
