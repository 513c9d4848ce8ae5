"""`outrider pair FILE|-`: pair this vehicle once with its receiver."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from agent import aws, azure
from agent.cli import DEFAULT_STATE
from agent.pairing import KEYS_FOLDER, load_paired, pair, read_pairing_file
from ecu.clock import SystemClock
from ecu.disk import RealDisk, state_folder
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
    """Pair this vehicle once with its receiver: the key is made here, the token is spent. A file of a cloud's registers
    a paired vehicle there."""
    disk, data = state_folder(state), _read(file)
    match format_of(data):
        case azure.FORMAT:
            _register_at_hub(data, state, disk, as_json)
            return
        case aws.FORMAT:
            _provision_at_aws(data, state, disk, as_json)
            return
    paired = pair(read_pairing_file(data), FileKeyStore.open(state / KEYS_FOLDER), disk, SystemClock())
    if as_json:
        typer.echo(msgspec.json.encode({"vehicle": paired.vehicle, "host": paired.host}).decode())
    else:
        typer.echo(f"{paired.vehicle} is paired with {paired.host}. Its token is spent: delete the pairing file.")


def format_of(data: bytes) -> str:
    """What kind of file the operator handed out; empty when it doesn't say."""
    try:
        return msgspec.json.decode(data, type=_Tagged).format
    except (ValueError, RecursionError):  # msgspec's own errors, and UnicodeDecodeError
        return ""


class _Tagged(msgspec.Struct):
    format: str = ""


def _register_at_hub(data: bytes, state: Path, disk: RealDisk, as_json: bool) -> None:
    file, paired = azure.read_registration_file(data), load_paired(disk)
    keys = FileKeyStore.open(state / KEYS_FOLDER)
    assigned = asyncio.run(azure.register(file, paired, keys, disk, SystemClock()))
    if as_json:
        typer.echo(msgspec.json.encode({"vehicle": assigned.device, "hub": assigned.hub}).decode())
    else:
        typer.echo(f'{assigned.device} is registered at {assigned.hub}. Set [link] kind = "azure" to go that way.')


def _provision_at_aws(data: bytes, state: Path, disk: RealDisk, as_json: bool) -> None:
    file, paired = aws.read_claim_file(data), load_paired(disk)
    thing = asyncio.run(aws.provision(file, paired, aws.open_thing_keys(state), disk, SystemClock()))
    if as_json:
        typer.echo(msgspec.json.encode({"vehicle": thing.thing, "endpoint": thing.endpoint}).decode())
    else:
        typer.echo(
            f'{thing.thing} has a certificate of AWS IoT Core at {thing.endpoint}. Set [link] kind = "aws" to go that '
            "way, and delete the claim file: it lets others in."
        )


def _read(file: str) -> bytes:
    # Never from the command line itself: other users see it there.
    if file == "-":
        return sys.stdin.buffer.read(MAX_MESSAGE_BYTES)
    try:
        with open(file, "rb") as opened:
            return opened.read(MAX_MESSAGE_BYTES)
    except OSError as error:
        raise UsageFault(f"Can't read {file}: {error.strerror}. Name the operator's pairing file, or - .") from error
