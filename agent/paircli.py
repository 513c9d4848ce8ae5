"""`outrider pair FILE|-`: pair this vehicle once with its receiver."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from agent.config import DEFAULT_STATE
from agent.pairing import KEYS_FOLDER, pair, read_pairing_file
from ecu.clock import SystemClock
from ecu.disk import state_folder
from ecu.errors import UsageFault
from ecu.keys import FileKeyStore
from telemetry.links.pairing import MAX_MESSAGE_BYTES

app = typer.Typer(add_completion=False)


@app.command(name="pair")
def pair_command(
    file: Annotated[str, typer.Argument(help="The operator's pairing file, or - for standard input.")],
    state: Annotated[Path, typer.Option("--state", help="The agent's state folder.")] = DEFAULT_STATE,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on standard output, nothing else there.")] = False,
) -> None:
    """Pair this vehicle once with its receiver: the key is made here, the token is spent."""
    disk = state_folder(state)
    paired = pair(read_pairing_file(_read(file)), FileKeyStore.open(state / KEYS_FOLDER), disk, SystemClock())
    if as_json:
        typer.echo(msgspec.json.encode({"vehicle": paired.vehicle, "host": paired.host}).decode())
    else:
        typer.echo(f"{paired.vehicle} is paired with {paired.host}. Its token is spent: delete the pairing file.")


def _read(file: str) -> bytes:
    # Never from the command line itself: other users see it there.
    if file == "-":
        return sys.stdin.buffer.read(MAX_MESSAGE_BYTES)
    try:
        with open(file, "rb") as opened:
            return opened.read(MAX_MESSAGE_BYTES)
    except OSError as error:
        raise UsageFault(f"Can't read {file}: {error.strerror}. Name the operator's pairing file, or - .") from error
