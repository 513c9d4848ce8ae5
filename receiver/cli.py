"""`outrider receiver`: run, enrol, fleet, records, objects, learn, rollout, audit."""

from __future__ import annotations

import asyncio
import datetime
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from ecu.clock import SECOND_NS
from ecu.disk import RealDisk, replace_file
from ecu.errors import OutriderError, UsageFault
from ecu.logs import log_to_standard_error
from ecu.process import enter_child
from ecu.toml import load_toml
from receiver.answers import AuditTail, FleetMember, ObjectLine, Revoked
from receiver.client import OperatorClient
from receiver.config import SECTION, ReceiverConfig
from receiver.learning.cli import app as learn_app
from receiver.recordswords import missing_words, records_table
from receiver.rollouts.cli import app as rollout_app
from telemetry.links.checkpoints import CheckpointAnswer

if TYPE_CHECKING:
    from receiver.service import Receiver

app = typer.Typer(
    help="The cloud side: one process that pairs vehicles and stores what they send.",
    no_args_is_help=True,
    add_completion=False,
)
fleet_app = typer.Typer(help="The vehicles of this receiver.", invoke_without_command=True)
app.add_typer(fleet_app, name="fleet")
audit_app = typer.Typer(help="What happened at this receiver, as a chain.", invoke_without_command=True)
app.add_typer(audit_app, name="audit")
app.add_typer(learn_app, name="learn")
app.add_typer(rollout_app, name="rollout")

State = Annotated[Path, typer.Option("--state", help="The receiver's state folder.")]
Config = Annotated[Path | None, typer.Option("--config", help="TOML file; its section 'receiver' is read.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on standard output, nothing else there.")]
DEFAULT_STATE = Path("receiver-state")
_FINDINGS_SHOWN = 20


@app.command()
def run(
    state: State = DEFAULT_STATE,
    config: Config = None,
    ready_fd: Annotated[int, typer.Option(help="Write the ports as one JSON line to this descriptor when ready.")] = -1,
) -> None:
    """Serve vehicles until SIGTERM or Ctrl-C."""
    from receiver.service import serve  # the other verbs need no server to be loaded

    enter_child()
    log_to_standard_error()
    settings = load_toml(config, ReceiverConfig, section=SECTION)
    asyncio.run(serve(settings, state, lambda receiver: _tell_ready(receiver, settings.listen, ready_fd)))


@app.command()
def enrol(
    vehicle: Annotated[str, typer.Argument(help="The vehicle's id: a-z, 0-9 and '-'.")],
    state: State = DEFAULT_STATE,
    out: Annotated[
        Path | None, typer.Option(help="Write the pairing file there (0600), not to standard output.")
    ] = None,
) -> None:
    """Make the pairing file that lets one vehicle in, once. It holds a secret."""
    text = msgspec.json.format(msgspec.json.encode(OperatorClient(state).enrol(vehicle))) + b"\n"
    if out is None:
        typer.echo(text.decode(), nl=False)
        return
    replace_file(RealDisk(out.absolute().parent), out.name, text)
    typer.echo(f"Wrote {out}. Bring it to {vehicle} and run there: outrider pair {out.name}", err=True)


@fleet_app.callback()
def fleet(context: typer.Context, state: State = DEFAULT_STATE, as_json: AsJson = False) -> None:
    """List the vehicles: connected or last seen, and the records stored by lane."""
    if context.invoked_subcommand is None:
        members = OperatorClient(state).fleet()
        _print_json(members) if as_json else Console().print(_fleet_table(members))


@fleet_app.command()
def revoke(vehicle: str, state: State = DEFAULT_STATE, as_json: AsJson = False) -> None:
    """Revoke a vehicle's certificates and tokens, and cut its live session at once."""
    revoked = OperatorClient(state).revoke(vehicle)
    _print_json(revoked) if as_json else typer.echo(_revoked_words(revoked))


@app.command()
def records(vehicle: str, state: State = DEFAULT_STATE, as_json: AsJson = False) -> None:
    """Account for a vehicle's records: stored, left the vehicle and why, or missing, which is a loss if it stays."""
    known = OperatorClient(state).records(vehicle)
    _print_json(known) if as_json else Console().print(records_table(known), *missing_words(known), sep="\n")


@app.command()
def objects(
    state: State = DEFAULT_STATE,
    vehicle: Annotated[str | None, typer.Option("--vehicle", help="Of this vehicle alone.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the stored objects, the newest first, with the path of each one's file."""
    stored = OperatorClient(state).objects(vehicle)
    _print_json(stored) if as_json else Console().print(_objects_table(stored))


@audit_app.callback()
def audit(
    context: typer.Context,
    state: State = DEFAULT_STATE,
    last: Annotated[int, typer.Option(min=0, help="How many entries to show.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Show the newest audit entries and verify the whole chain; exit 1 when it is broken."""
    if context.invoked_subcommand is not None:
        return
    tail = OperatorClient(state).audit(last)
    _print_json(tail) if as_json else Console().print(_audit_table(tail))
    if tail.broken_at is not None:
        raise OutriderError(f"The audit chain is broken at entry {tail.broken_at}: somebody changed the database.")


@audit_app.command()
def verify(
    state: State = DEFAULT_STATE,
    seen: Annotated[
        list[Path] | None, typer.Option("--seen", help="A vehicle's audit-seen.json: what this receiver signed for it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Verify the chain in itself, and against all that vehicles have signed of it; exit 1 when anything was changed."""
    held = [one for path in seen or () for one in _held(path)]
    verdict = OperatorClient(state).verify_audit(held)
    if as_json:
        _print_json(verdict)
    else:
        typer.echo(
            f"{verdict.entries} entries, {verdict.checkpoints} checkpoints. Head {verdict.head_seq}: "
            f"{verdict.head_digest}"
        )
    if verdict.findings:
        raise OutriderError(f"The audit was changed: {_shown(verdict.findings)}.")


def _shown(findings: list[str]) -> str:
    more = len(findings) - _FINDINGS_SHOWN
    return "; ".join(findings[:_FINDINGS_SHOWN]) + (f"; and {more} more (--json has all)" if more > 0 else "")


def _held(path: Path) -> list[CheckpointAnswer]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[CheckpointAnswer])
    except (OSError, ValueError) as error:
        raise UsageFault(f"{path} holds no checkpoints of a vehicle: {error}.") from error


def _tell_ready(receiver: Receiver, listen: str, ready_fd: int) -> None:
    address = receiver.address
    if ready_fd >= 0:
        ready = {"mqtt_port": address.mqtt_port, "https_port": address.https_port, "socket": str(receiver.socket)}
        os.write(ready_fd, msgspec.json.encode(ready) + b"\n")
        os.close(ready_fd)
    typer.echo(
        f"Receiver ready on {listen}: MQTT {address.mqtt_port}, HTTPS {address.https_port}, operator {receiver.socket}"
    )


def _print_json(value: Any) -> None:
    typer.echo(msgspec.json.encode(value).decode())


def _revoked_words(revoked: Revoked) -> str:
    return (
        f"Revoked {revoked.certificates} certificates of {revoked.vehicle} and cut {revoked.connections_cut} "
        f"connections. To let it in again: outrider receiver enrol {revoked.vehicle}"
    )


def _fleet_table(members: list[FleetMember]) -> Table:
    table = Table("vehicle", "seen", "certificates", "P0", "P1", "P2", "P3", title="Fleet: records stored by lane")
    for member in members:
        seen = "connected" if member.connected else _when(member.seen_ns)
        table.add_row(member.vehicle, seen, str(member.certificates), *(f"{n:,}" for n in member.records.values()))
    return table


def _objects_table(stored: list[ObjectLine]) -> Table:
    table = Table("vehicle", "stored", "bytes", "file", title=f"Objects: {len(stored):,} stored")
    for line in stored:
        table.add_row(line.vehicle, _when(line.stored_ns), f"{line.bytes:,}", line.path)
    return table


def _audit_table(tail: AuditTail) -> Table:
    whole = "the chain holds" if tail.broken_at is None else f"BROKEN at {tail.broken_at}"
    head = tail.entries[-1].digest if tail.entries else ""
    table = Table("seq", "when", "event", "vehicle", "detail", title=f"Audit: {whole}", caption=f"head {head}")
    for line in tail.entries:
        table.add_row(str(line.seq), _when(line.wall_ns), line.event, line.subject, line.detail)
    return table


def _when(wall_ns: int | None) -> str:
    if wall_ns is None:
        return "never"
    return f"{datetime.datetime.fromtimestamp(wall_ns // SECOND_NS, datetime.UTC):%Y-%m-%d %H:%M:%SZ}"
